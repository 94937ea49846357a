//go:build race

package gate

// reports and walkSteps are fewer under the race detector, which makes each ten times as slow: 105,000 steps on all three
// servers.
const reports, walkSteps = 20_000, 35_000
