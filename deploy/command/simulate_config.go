package command

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/forebay-queue/forebay/deploy/config"
)

// simulatedEndpoints are the sections accounts and endpoints of a configuration that uses these regions, in their
// order.
func simulatedEndpoints(regions []simulateRegion) string {
	var text strings.Builder
	text.WriteString("accounts:\n  simulated: {}\nendpoints:\n")
	for i, region := range regions {
		fmt.Fprintf(&text, "  simulated-%s: {account: simulated, url: %q, region: %s, priority: %d, timeout: 30s, tries: %d, auth: none, simulated: true}\n",
			region.Name, region.URL, region.Name, i+1, max(1, 3-i))
	}
	return text.String()
}

// simulatedConfig is the example with the providers' accounts and endpoints replaced by these regions.
func simulatedConfig(regions []simulateRegion) []byte {
	before, rest, _ := bytes.Cut(config.Example(), []byte("\naccounts:"))
	_, after, _ := bytes.Cut(rest, []byte("\nendpoints:"))
	// The next section begins after an empty line, with its comment.
	_, after, _ = bytes.Cut(after, []byte("\n\n"))
	// The comment above accounts goes with them.
	before = before[:bytes.LastIndex(before, []byte("\n\n"))+2]
	return bytes.Join([][]byte{
		before, []byte("# The regions of a simulated provider: `forebay simulate`.\n"), []byte(simulatedEndpoints(regions)), []byte("\n"), after,
	}, nil)
}
