package hooks

import "sync"

// Room is where deliveries wait in place for a permit that is about to be free. It bounds how many do, in all and for one
// target, so that those of a target which is slow leave room for the others.
type Room struct {
	most, each int

	mutex sync.Mutex
	in    int
	by    map[string]int
}

// NewRoom returns a Room for so many, half of them for one target at most.
func NewRoom(most int) *Room { return &Room{most: most, each: max(most/2, 1), by: map[string]int{}} }

// Enter takes a place, and returns the how-manieth it is for the target; 0 where there is none. Whoever has one leaves.
func (r *Room) Enter(target string) int {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.in >= r.most || r.by[target] >= r.each {
		return 0
	}
	r.in++
	r.by[target]++
	return r.by[target]
}

// Leave gives the place back.
func (r *Room) Leave(target string) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.in--
	if r.by[target]--; r.by[target] == 0 {
		delete(r.by, target)
	}
}
