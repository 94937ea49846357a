//go:build !race

package gate

// reports is how many outcomes two processes report in a test, and walkSteps how many holds, admissions, reports,
// repetitions, sweeps, crashes and jumps of the clock a walk has at least, on each of three servers.
const reports, walkSteps = 200_000, 100_000
