package sandbox

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

// Region is a simulated endpoint.
type Region struct {
	// Name is the endpoint's, Region where it claims to be.
	Name, Region string
	// Latency is how long its answers take.
	Latency simulator.Distribution
	// FailureRate is the share of its calls, 0 to 1, that it fails with a 500.
	FailureRate float64
	// Outages are spans in which all calls fail.
	Outages []simulator.Outage
	// Timeout bounds a call, 1s to 1h. Defaults to 30s.
	Timeout time.Duration
	// Tries is how many calls a delivery makes here in all. Defaults to 3, 2 and then 1, in the order of the regions.
	Tries int
}

// DefaultRegions are three endpoints that answer in some tenths of a second.
func DefaultRegions() []Region {
	latency := func(least, most int) simulator.Distribution {
		milliseconds := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
		return simulator.Distribution{Min: milliseconds(least), Max: milliseconds(most), Shape: simulator.ShapeLogNormal}
	}
	return []Region{
		{Name: "simulated-apac", Region: "ap-northeast-1", Latency: latency(100, 400)},
		{Name: "simulated-eu", Region: "eu-west-1", Latency: latency(150, 600)},
		{Name: "simulated-us", Region: "us-east-1", Latency: latency(200, 800)},
	}
}

// simulatedAccount is who is billed by nobody.
const simulatedAccount = "simulated"

// startEndpoints starts the simulated provider and makes the catalog that uses it, unless a catalog was given.
func (s *Sandbox) startEndpoints(ctx context.Context) error {
	if s.config.Catalog != nil {
		s.Catalog = s.config.Catalog
		return nil
	}
	provider := simulator.Config{Seed: s.config.Seed}
	for _, r := range s.config.Regions {
		provider.Regions = append(provider.Regions, simulator.RegionConfig{
			Name: r.Name, Latency: r.Latency, FailureRate: r.FailureRate, Outages: r.Outages,
		})
	}
	simulated, err := simulator.New(provider)
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		_ = simulated.Close()
		return fmt.Errorf("start the simulated provider: %w", err)
	}
	s.Simulator, s.SimulatorURL = simulated, "http://"+listener.Addr().String()
	s.serve("the simulated provider", listener, simulated, simulated.Close)
	if s.SecretFile, err = s.writeSecret(); err != nil {
		return err
	}
	s.File = s.file()
	file, err := config.Parse("the configuration of the simulated deployment", s.File)
	if err != nil {
		return err
	}
	s.Catalog = &file.Catalog
	return nil
}

// EndpointOrder lists the endpoints in the order of their priority.
func (s *Sandbox) EndpointOrder() []*catalog.Endpoint {
	return slices.SortedFunc(maps.Values(s.Catalog.Endpoints), func(a, b *catalog.Endpoint) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Name, b.Name))
	})
}

var (
	exampleRedis     = regexp.MustCompile(`(?m)^  url: redis://.*$`)
	examplePrefix    = regexp.MustCompile(`(?m)^  prefix: .*$`)
	exampleRecovery  = regexp.MustCompile(`(?m)^  recovery: .*$`)
	exampleTargets   = regexp.MustCompile(`(?m)^  allow_http: .*$`)
	examplePublicURL = regexp.MustCompile(`(?m)^  #public_url: .*$`)
	exampleSecrets   = regexp.MustCompile(`(?m)^  #secrets:\n(^  #.*\n)+`)
	exampleEndpoints = regexp.MustCompile(`(?ms)(^#[^\n]*\n)*^accounts:$.*?^endpoints:$.*?\n\n`)
)

// file is the example with this deployment's Redis and endpoints in the place of its own.
func (s *Sandbox) file() []byte {
	text := config.Example()
	replace := func(pattern *regexp.Regexp, by string) {
		if at := pattern.FindIndex(text); at != nil {
			text = slices.Concat(text[:at[0]], []byte(by), text[at[1]:])
		}
	}
	replace(exampleRedis, "  url: "+cmp.Or(s.RedisURL, "redis://127.0.0.1:6379/0"))
	replace(examplePrefix, fmt.Sprintf("  prefix: %q", s.config.Prefix))
	replace(exampleRecovery, "  recovery: "+s.config.Recovery.String())
	replace(exampleEndpoints, s.endpoints())
	replace(exampleTargets, "  allow_http: true\n  allow_networks: [127.0.0.0/8, \"::1/128\"]")
	if s.listener != nil {
		replace(examplePublicURL, "  public_url: "+s.httpURL())
	}
	replace(exampleSecrets, fmt.Sprintf("  secrets:\n    - keys:\n        - file: %q\n", s.SecretFile))
	return bytes.Clone(text)
}

func (s *Sandbox) endpoints() string {
	var text strings.Builder
	fmt.Fprintf(&text, "# A simulated provider, which has no key and bills nobody.\naccounts:\n  %s: {}\n\nendpoints:\n", simulatedAccount)
	for i, r := range s.config.Regions {
		fmt.Fprintf(&text, "  %s: {account: %s, url: %q, region: %s, priority: %d, timeout: %s, tries: %d, auth: none, simulated: true}\n",
			r.Name, simulatedAccount, s.SimulatorURL+"/"+r.Name+"/v1", r.Region, i+1,
			cmp.Or(r.Timeout, 30*time.Second), cmp.Or(r.Tries, max(1, 3-i)))
	}
	text.WriteByte('\n')
	return text.String()
}
