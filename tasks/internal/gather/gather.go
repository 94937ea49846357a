// Package gather lets concurrent callers who ask Redis for the same kind of thing ask it together: one round trip,
// and mostly one script, for all of them.
//
// No timer is needed for it. While questions are out, those who come gather, and the next question is all of theirs.
// A caller who is alone asks at once.
package gather

import (
	"runtime"
	"sync"
)

// flights is how many questions of one subject are out at a time: while Redis works on one, the next is written.
const flights = 2

// Group gathers the questions of each subject. Subjects are few: what a Group knows of one is kept.
type Group[K comparable, Q, A any] struct {
	most int
	all  func(subject K, questions []Q) ([]A, error)

	mu    sync.Mutex
	rooms map[K]*room[Q, A]
}

// room is where the callers of one subject wait.
type room[Q, A any] struct {
	waiting []*Ticket[Q, A]
	out     int // questions, at most flights
	last    int // how many were asked together the last time
}

// Ticket is one question and, once it has been asked, its answer.
type Ticket[Q, A any] struct {
	question Q
	answer   A
	err      error
	done     sync.WaitGroup
}

// New returns a Group that asks up to most questions of a subject at once. The function answers each of them; its
// error is that of all. It runs in goroutines of the Group's, twice at a time for one subject, and has to end by
// itself: it has no caller's context.
func New[K comparable, Q, A any](most int, all func(subject K, questions []Q) ([]A, error)) *Group[K, Q, A] {
	return &Group[K, Q, A]{most: most, all: all, rooms: map[K]*room[Q, A]{}}
}

// Ask asks one question and waits for its answer. Where it need not wait for others it is asked here: a goroutine for
// one question, or a look around for others where there were none the last time, wakes threads that take from Redis what
// it needs to answer.
func (g *Group[K, Q, A]) Ask(subject K, question Q) (A, error) {
	ticket, r, serves := g.enter(subject, question)
	if serves {
		g.mu.Lock()
		others := r.last > 1
		g.mu.Unlock()
		if others {
			runtime.Gosched()
		}
		g.answer(subject, g.take(r))
		if g.leave(r) {
			go g.serve(subject, r)
		}
	}
	return ticket.Wait()
}

// Send puts one question on its way. It does not block.
func (g *Group[K, Q, A]) Send(subject K, question Q) *Ticket[Q, A] {
	ticket, r, serves := g.enter(subject, question)
	if serves {
		go g.serve(subject, r)
	}
	return ticket
}

// enter adds a question to those that wait, and tells whether somebody has to serve them.
func (g *Group[K, Q, A]) enter(subject K, question Q) (ticket *Ticket[Q, A], r *room[Q, A], serves bool) {
	ticket = &Ticket[Q, A]{question: question}
	ticket.done.Add(1)
	g.mu.Lock()
	defer g.mu.Unlock()
	r = g.rooms[subject]
	if r == nil {
		r = &room[Q, A]{}
		g.rooms[subject] = r
	}
	r.waiting = append(r.waiting, ticket)
	if r.out < flights {
		r.out++
		serves = true
	}
	return ticket, r, serves
}

// Wait returns the answer, however long it takes: what was asked may have been done, and the caller is to know.
func (t *Ticket[Q, A]) Wait() (A, error) {
	t.done.Wait()
	return t.answer, t.err
}

// serve asks for those who wait, until nobody does.
func (g *Group[K, Q, A]) serve(subject K, r *room[Q, A]) {
	for more := true; more; more = g.leave(r) {
		runtime.Gosched() // whoever is about to ask as well comes along
		g.answer(subject, g.take(r))
	}
}

// answer asks the questions of some, if there are any.
func (g *Group[K, Q, A]) answer(subject K, tickets []*Ticket[Q, A]) {
	if len(tickets) == 0 {
		return
	}
	questions := make([]Q, len(tickets))
	for i, ticket := range tickets {
		questions[i] = ticket.question
	}
	answers, err := g.all(subject, questions)
	for i, ticket := range tickets {
		if ticket.err = err; err == nil {
			ticket.answer = answers[i]
		}
		ticket.done.Done()
	}
}

// take takes up to most of those who wait: none, where another was faster.
func (g *Group[K, Q, A]) take(r *room[Q, A]) []*Ticket[Q, A] {
	g.mu.Lock()
	defer g.mu.Unlock()
	tickets := r.waiting
	r.waiting = nil
	if len(tickets) > g.most {
		tickets, r.waiting = tickets[:g.most:g.most], tickets[g.most:]
	}
	r.last = len(tickets)
	return tickets
}

// leave ends the caller's service, unless somebody waits.
func (g *Group[K, Q, A]) leave(r *room[Q, A]) (more bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(r.waiting) > 0 {
		return true
	}
	r.out--
	return false
}
