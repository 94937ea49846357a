//go:build race

package batchlines_test

// shorter is how much shorter than in earnest the large file is.
const shorter = 10
