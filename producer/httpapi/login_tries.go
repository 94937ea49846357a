package httpapi

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

const (
	maxTries    = 10
	triesWindow = time.Minute
	// triesSlots bounds the memory. Two addresses that meet in one share its tries.
	triesSlots = 4096
)

// tries counts failing logins by the client's address. A key cannot be guessed; what is kept from going on is the
// trying. Keys in the header Authorization are not counted: to look one up is cheaper than to count it.
type tries struct {
	seed  maphash.Seed
	mu    sync.Mutex
	slots [triesSlots]triesSlot
}

type triesSlot struct {
	since time.Time
	count int
}

func newTries() *tries { return &tries{seed: maphash.MakeSeed()} }

// begin counts a try, or says how long to wait until the next one. It is counted before it is known to fail, so that
// many at once are.
func (t *tries) begin(remote string) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	slot, now := t.slot(remote), time.Now()
	if now.Sub(slot.since) >= triesWindow {
		*slot = triesSlot{since: now}
	}
	if slot.count >= maxTries {
		return slot.since.Add(triesWindow).Sub(now)
	}
	slot.count++
	return 0
}

// succeeded takes back a try.
func (t *tries) succeeded(remote string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if slot := t.slot(remote); slot.count > 0 {
		slot.count--
	}
}

func (t *tries) slot(remote string) *triesSlot {
	return &t.slots[maphash.String(t.seed, clientNet(remote))%triesSlots]
}

// clientNet is the part of an address that one client has to itself: of IPv6 it has 64 bits to choose from.
func clientNet(remote string) string {
	address, err := netip.ParseAddrPort(remote)
	if err != nil {
		return remote
	}
	ip := address.Addr().Unmap().WithZone("")
	if ip.Is6() {
		if prefix, err := ip.Prefix(64); err == nil {
			return prefix.String()
		}
	}
	return ip.String()
}
