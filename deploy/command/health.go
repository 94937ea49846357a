package command

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// healthStatus is what the health probes of an endpoint have found.
type healthStatus struct {
	// At is when the last one was reported, AgeS how many seconds ago.
	At   time.Time `json:"at"`
	AgeS float64   `json:"age_s"`
	// HTTPStatus is absent when no answer came, Class for a good answer.
	HTTPStatus int         `json:"http_status,omitempty"`
	Class      tasks.Class `json:"class,omitempty"`
	LatencyMS  float64     `json:"latency_ms"`
	// Slow tells that it took longer than the endpoint's latency_threshold.
	Slow bool `json:"slow,omitempty"`
	// ConsecutiveBad and ConsecutiveGood are those up to now; bad are the failed and the slow.
	ConsecutiveBad  int64 `json:"consecutive_bad"`
	ConsecutiveGood int64 `json:"consecutive_good"`
	// Behind tells that the endpoint is asked after the others.
	Behind bool `json:"behind"`
}

func newHealthStatus(health gate.Health) *healthStatus {
	if health.At.IsZero() {
		return nil
	}
	return &healthStatus{
		At: health.At.UTC(), AgeS: health.Age.Seconds(), HTTPStatus: health.Status, Class: health.Class,
		LatencyMS: float64(health.Latency.Microseconds()) / 1000, Slow: health.Slow,
		ConsecutiveBad: health.Bad, ConsecutiveGood: health.Good, Behind: health.Behind,
	}
}

// printHealth lists the endpoints that were probed.
func printHealth(out io.Writer, endpoints []endpointStatus) error {
	if !slices.ContainsFunc(endpoints, func(e endpointStatus) bool { return e.Health != nil }) {
		return nil
	}
	fmt.Fprintln(out)
	list := table(out)
	row(list, "ENDPOINT", "HEALTH", "LATENCY", "PROBED", "ORDER")
	for _, e := range endpoints {
		if e.Health == nil {
			row(list, e.label(), "-", "-", "-", "-")
			continue
		}
		row(list, e.label(), e.Health.text(), brief(milliseconds(e.Health.LatencyMS)),
			brief(time.Duration(e.Health.AgeS*float64(time.Second)))+" ago", e.Health.order())
	}
	return list.Flush()
}

func milliseconds(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// text is the last health probe as people read it.
func (h healthStatus) text() string {
	switch {
	case h.Slow && h.Class == "":
		return "slow"
	case h.HTTPStatus == http.StatusOK && h.Class == "":
		return "good"
	case h.HTTPStatus == 0:
		return string(h.Class)
	}
	return fmt.Sprintf("%s, HTTP %d", h.Class, h.HTTPStatus)
}

func (h healthStatus) order() string {
	if h.Behind {
		return "behind"
	}
	return "its own"
}

// activeReply is what `forebay status --active --json` prints.
type activeReply struct {
	Active []gate.Active `json:"active"`
}

// showActive shows which endpoint each tier asks first, as the leader has published it.
func showActive(ctx context.Context, cmd *cobra.Command, s *settings, client redis.UniversalClient) error {
	endpoints, err := gate.ReadActive(ctx, client, keyspace.New(s.prefix))
	if err != nil {
		return err
	}
	if s.file != nil {
		sortByTier(endpoints, s.file.Catalog.Tiers)
	}
	if wantsJSON(cmd) {
		return printJSON(cmd, activeReply{endpoints})
	}
	return printActive(cmd.OutOrStdout(), endpoints, s, time.Now())
}

// sortByTier brings the endpoints into the order of the configuration's tiers. Those of others come last.
func sortByTier(endpoints []gate.Active, tiers []catalog.Tier) {
	rank := func(active gate.Active) int {
		if at := slices.IndexFunc(tiers, func(tier catalog.Tier) bool { return tier.Name == active.Tier }); at >= 0 {
			return at
		}
		return len(tiers)
	}
	slices.SortStableFunc(endpoints, func(a, b gate.Active) int { return cmp.Compare(rank(a), rank(b)) })
}

func printActive(out io.Writer, endpoints []gate.Active, s *settings, now time.Time) error {
	if len(endpoints) == 0 {
		_, err := fmt.Fprintln(out, "No active endpoints are published: start `forebay scheduler` with a configuration.")
		return err
	}
	list := table(out)
	row(list, "TIER", "MODEL", "ENDPOINT", "REGION", "SINCE", "LATENCY")
	for _, active := range endpoints {
		endpoint, latency := "none: all are open", "-"
		if active.Endpoint != "" {
			simulated := s.file != nil && s.file.Catalog.Endpoints[active.Endpoint] != nil && s.file.Catalog.Endpoints[active.Endpoint].Simulated
			endpoint = labelled(active.Endpoint, simulated)
		}
		if active.LatencyMS > 0 {
			latency = brief(milliseconds(active.LatencyMS))
		}
		row(list, active.Tier, active.Model, endpoint, dash(active.Region), clock(active.Since, now), latency)
	}
	return list.Flush()
}
