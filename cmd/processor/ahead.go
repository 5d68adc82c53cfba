package main

import "sync"

// An ahead is the line of jobs whose segments are being found out, in their order. Its
// first goes to a desk as soon as its segments are known; while they aren't, more is
// read and asked for, so that many requests are under way. Nothing is read that is not
// needed to keep the desks busy: what was read a short while ago is still in the
// processor's cache.
//
// Because of the order, all jobs before one at a desk have been at one too: whoever
// waits for its turn to write waits for somebody who can go on.
type ahead struct {
	mu        sync.Mutex
	changed   sync.Cond // any of what follows has
	line      []*task   // in the order of jobs; at most most
	most      int
	desks     []*desk // nobody sits at these
	free      []*task
	isReading bool // somebody does: nobody else may
	isAtEnd   bool // of the input
	isOver    bool
}

// newAhead makes a line of at most most jobs. It needs desks.
func newAhead(most int) *ahead {
	h := &ahead{most: most}
	h.changed.L = &h.mu
	return h
}

// A move is what a worker is to do next.
type move int

const (
	leave  move = iota // all is done, or over
	read               // more into the task: then say joined
	decide             // the task at the desk: then say left
)

// next waits until there is something to do. While the first of the line only waits for
// a desk, nothing more is read.
func (h *ahead) next() (m move, t *task, d *desk) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for !h.isOver {
		isReady := len(h.line) > 0 && h.line[0].isReady
		switch {
		case isReady && len(h.desks) > 0:
			t, h.line[0] = h.line[0], nil
			h.line = h.line[1:]
			last := len(h.desks) - 1
			d, h.desks = h.desks[last], h.desks[:last]
			h.changed.Broadcast()
			return decide, t, d
		case h.isAtEnd && len(h.line) == 0:
			return leave, nil, nil
		case !isReady && !h.isAtEnd && !h.isReading && len(h.line) < h.most:
			h.isReading = true
			if last := len(h.free) - 1; last >= 0 {
				t, h.free = h.free[last], h.free[:last]
			} else {
				t = &task{}
			}
			return read, t, nil
		}
		h.changed.Wait()
	}
	return leave, nil, nil
}

// joined puts the task that was read at the end of the line; nil: there was nothing more
// to read.
func (h *ahead) joined(t *task) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.isReading = false
	if t == nil {
		h.isAtEnd = true
	} else {
		t.isReady = false
		h.line = append(h.line, t)
	}
	h.changed.Broadcast()
}

// ready tells that the task can be decided.
func (h *ahead) ready(t *task) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t.isReady = true
	if h.line[0] == t {
		h.changed.Broadcast()
	}
}

// left gives back what next gave for deciding.
func (h *ahead) left(t *task, d *desk) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.free = append(h.free, t)
	h.desks = append(h.desks, d)
	h.changed.Broadcast()
}

// stop ends all waiting.
func (h *ahead) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.isOver = true
	h.changed.Broadcast()
}
