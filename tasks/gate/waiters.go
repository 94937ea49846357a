package gate

import (
	"slices"
	"sync"
)

// waiters are those in this process who wait for a permit, by account, the longest waiting first.
type waiters struct {
	mu   sync.Mutex
	line map[string][]chan struct{}
}

// join returns a channel that is closed when a permit of the account was freed here and it is the caller's turn to ask,
// and a function that leaves the line.
func (w *waiters) join(account string) (turn <-chan struct{}, leave func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.line == nil {
		w.line = map[string][]chan struct{}{}
	}
	own := make(chan struct{})
	w.line[account] = append(w.line[account], own)
	return own, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.line[account] = slices.DeleteFunc(w.line[account], func(c chan struct{}) bool { return c == own })
	}
}

// next lets the first in line ask.
func (w *waiters) next(account string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if line := w.line[account]; len(line) > 0 {
		close(line[0])
		w.line[account] = slices.Delete(line, 0, 1)
	}
}

// Freed returns a channel that is closed when a call of the account has ended in this process and it is the caller's
// turn to ask for the permit, and a function with which the caller leaves the line.
func (g *Gate) Freed(account string) (turn <-chan struct{}, leave func()) {
	return g.permits.join(account)
}
