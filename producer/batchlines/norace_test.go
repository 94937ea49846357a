//go:build !race

package batchlines_test

// slower is how much slower than in earnest the tests run.
const slower = 1
