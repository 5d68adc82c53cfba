package odp

import (
	"math/rand/v2"
	"sync"
	"time"
)

// A breaker keeps ODP from being asked while it is down. After so many failures in a
// row it opens for a pause, in which nobody is let through; then one request is, as a
// probe. If that is answered it closes, else it opens for twice as long, up to a
// maximum.
type breaker struct {
	most int // failures in a row; 0: it never opens

	mu        sync.Mutex // guards what follows
	failures  int        // in a row
	openings  int        // in a row; 0: closed
	until     time.Time  // open until then
	isProbing bool
}

const (
	firstPause = time.Second
	maxPause   = 30 * time.Second
)

// enter lets a request through, or returns [ErrCircuitOpen] with the time left.
// Whoever is let through must leave.
func (b *breaker) enter() (isProbe bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.openings == 0 {
		return false, nil
	}
	if err := b.refusal(); err != nil {
		return false, err
	}
	b.isProbing = true
	return true, nil
}

// check is enter for those who only want to know.
func (b *breaker) check() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.openings == 0 {
		return nil
	}
	return b.refusal()
}

func (b *breaker) refusal() error {
	left := time.Until(b.until)
	if left <= 0 && !b.isProbing {
		return nil
	}
	return &Error{Class: CircuitOpen, RetryAfter: max(left, 0)}
}

// An outcome is what a request came to.
type outcome uint8

const (
	answered outcome = iota // ODP works, whatever it thinks of the request
	failed
	unknown // given up
)

// leave reports the outcome, and whether it opened or closed the breaker.
func (b *breaker) leave(isProbe bool, o outcome, retryAfter time.Duration) (opened, closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if isProbe {
		b.isProbing = false
	}
	switch {
	case o == answered:
		closed = b.openings > 0
		b.failures, b.openings = 0, 0
	case o == failed && isProbe:
		b.open(retryAfter)
	case o == failed && b.openings == 0:
		// Requests that were under way when it opened don't make the pause longer.
		b.failures++
		if b.most > 0 && b.failures >= b.most {
			b.open(retryAfter)
			opened = true
		}
	}
	return opened, closed
}

func (b *breaker) open(retryAfter time.Duration) {
	pause := min(firstPause<<min(b.openings, 10), maxPause)
	b.openings++
	// A tenth at most is taken off, so that processors fall out of step.
	pause -= time.Duration(rand.Float64() * 0.1 * float64(pause))
	b.until = time.Now().Add(max(pause, retryAfter))
}

func (b *breaker) isOpen() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.openings > 0
}
