//go:build failpoints

package failpoint

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// Enabled tells whether this build has failpoints.
const Enabled = true

var (
	name, nth = parse(os.Getenv("FOREBAY_FAILPOINT"))
	reached   atomic.Int64
)

func parse(value string) (string, int64) {
	name, count, found := strings.Cut(value, ":")
	if !found {
		return name, 1
	}
	n, err := strconv.ParseInt(count, 10, 64)
	if err != nil || n < 1 {
		panic("FOREBAY_FAILPOINT must be a name, or a name and a number such as inbox.read:2, got " + value)
	}
	return name, n
}

// At ends the process when it is at the place that FOREBAY_FAILPOINT names.
func At(place string) {
	if place != name || reached.Add(1) != nth {
		return
	}
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Kill()
	}
	select {} // nothing is done between the signal and the end
}
