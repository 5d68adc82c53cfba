package main

import "sync"

// A gate lets the workers that fetched segments go on to deciding: in the order of
// their jobs, and only so many at once. Many may wait for answers, but no more decide
// than there are processors for, and no more results are under way.
//
// Because of the order, all jobs before one that went through have gone through too:
// whoever waits for its turn to write waits for somebody who can go on.
type gate struct {
	mu      sync.Mutex
	changed sync.Cond // next, free or isOver has changed
	next    int64
	free    int
	isOver  bool
	results []*result // at most free
}

func newGate(workers int) *gate {
	g := &gate{free: workers}
	g.changed.L = &g.mu
	return g
}

// enter waits until job may go on. It returns a result to fill, unless all is over.
func (g *gate) enter(job int64) (r *result, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for !g.isOver && (g.next != job || g.free == 0) {
		g.changed.Wait()
	}
	if g.isOver {
		return nil, false
	}
	g.next++
	g.free--
	g.changed.Broadcast()
	if n := len(g.results); n > 0 {
		r, g.results = g.results[n-1], g.results[:n-1]
		return r, true
	}
	return &result{}, true
}

// leave makes room for another, and hands an empty result on.
func (g *gate) leave(r *result) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.free++
	g.results = append(g.results, r)
	g.changed.Broadcast()
}

// stop ends all waiting.
func (g *gate) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.isOver = true
	g.changed.Broadcast()
}
