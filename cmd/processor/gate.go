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
	desks   []*desk // at most free
}

func newGate(workers int) *gate {
	g := &gate{free: workers}
	g.changed.L = &g.mu
	return g
}

// enter waits until job may go on. It returns a desk for it if there is one already, nil
// if one is to be made; not ok when all is over.
func (g *gate) enter(job int64) (d *desk, ok bool) {
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
	if n := len(g.desks); n > 0 {
		d, g.desks = g.desks[n-1], g.desks[:n-1]
	}
	return d, true
}

// leave makes room for another, and hands the desk on.
func (g *gate) leave(d *desk) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.free++
	g.desks = append(g.desks, d)
	g.changed.Broadcast()
}

// stop ends all waiting.
func (g *gate) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.isOver = true
	g.changed.Broadcast()
}
