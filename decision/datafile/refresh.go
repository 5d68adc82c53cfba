package datafile

import (
	"strconv"
	"time"
)

// maxPursuit is how often a poller asks for a datafile it was told of.
// Source: config.md CF-P5.
const maxPursuit = 5

// A pursuit is the search for a datafile that is said to exist, and that a CDN
// may not show yet.
type pursuit struct {
	revision string // announced; "" if unknown
	from     string // in force when it was announced
	tries    int    // fetches made
}

// Refresh asks for a fetch as soon as possible and returns at once; several
// requests before the fetch begins are one. If revision isn't "", it is the one
// announced: while a fetch finds neither it nor any other than the one in force
// now, another follows after 1, 2, 4 and 8 seconds. Safe for concurrent use;
// nothing happens while the poller isn't running. Source: config.md CF-P5.
func (p *Poller) Refresh(revision string) {
	p.pursuing.Lock()
	p.wanted = &pursuit{revision: revision, from: p.revision()}
	p.pursuing.Unlock()
	select {
	case p.refreshes <- struct{}{}:
	default: // one is waiting
	}
}

func (p *Poller) takeWanted() *pursuit {
	p.pursuing.Lock()
	defer p.pursuing.Unlock()
	w := p.wanted
	p.wanted = nil
	if w != nil {
		w.tries = 1
	}
	return w
}

// isOver tells whether there is nothing left to ask for.
func (g *pursuit) isOver(current string) bool {
	return g.revision == "" || g.tries >= maxPursuit || current != g.from || hasReached(current, g.revision)
}

// delay is the time from the last try to the next.
func (g *pursuit) delay() time.Duration { return time.Second << (g.tries - 1) }

// hasReached compares revisions as numbers if they are, for a message may be late.
func hasReached(current, wanted string) bool {
	c, err1 := strconv.ParseUint(current, 10, 64)
	w, err2 := strconv.ParseUint(wanted, 10, 64)
	if err1 != nil || err2 != nil {
		return current == wanted
	}
	return c >= w
}
