package simulator

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// outage is an Outage at work: it hands out its kinds in turn.
type outage struct {
	Outage
	turn atomic.Uint64
}

func (o *outage) next() string {
	return o.Kinds[(o.turn.Add(1)-1)%uint64(len(o.Kinds))]
}

// active tells whether the outage lasts, with so many jobs answered and so much time gone by.
func (o *outage) active(answered int, elapsed time.Duration) bool {
	return answered >= o.FromJob && (o.UntilJob == 0 || answered < o.UntilJob) &&
		elapsed >= o.From && (o.Until == 0 || elapsed < o.Until)
}

// SetOutage lets every call to the region fail from now on, by the kinds in turn, until ClearOutage. It stands
// before the outages of the configuration. It refuses unknown kinds, and none at all.
func (r *Region) SetOutage(kinds ...string) error {
	o := Outage{Kinds: append([]string(nil), kinds...)}
	if err := o.validate(); err != nil {
		return fmt.Errorf("region %q: cannot set the outage: %w", r.config.Name, err)
	}
	r.forced.Store(&outage{Outage: o})
	return nil
}

// ClearOutage ends what SetOutage began. Outages of the configuration go on.
func (r *Region) ClearOutage() { r.forced.Store(nil) }

// struck returns the kind of failure that an outage has for the next call, or "".
func (r *Region) struck() string {
	if o := r.forced.Load(); o != nil {
		return o.next()
	}
	if len(r.outages) == 0 {
		return ""
	}
	answered, elapsed := r.sim.book.jobsAnswered(), time.Since(r.sim.started)
	for _, o := range r.outages {
		if o.active(answered, elapsed) {
			return o.next()
		}
	}
	return ""
}

// knownKinds refuses names that no failure has.
func knownKinds(names ...string) error {
	for _, name := range names {
		if _, ok := failures[name]; !ok {
			return fmt.Errorf("there is no failure of the kind %q; the kinds are: %s", name, strings.Join(failureNames(), ", "))
		}
	}
	return nil
}
