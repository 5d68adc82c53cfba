package kafkago

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is the pause between attempts: doubling, jittered, and capped at max
// (1 s when zero, and never below min).
type backoff struct {
	min, max time.Duration
	next     time.Duration
}

// wait pauses and reports whether there is time for another attempt.
func (b *backoff) wait(ctx context.Context) bool {
	if b.next == 0 {
		b.next = b.min
	}
	ceiling := b.max
	if ceiling == 0 {
		ceiling = time.Second
	}
	timer := time.NewTimer(b.next/2 + rand.N(b.next/2+1))
	defer timer.Stop()
	b.next = min(2*b.next, max(b.min, ceiling))
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
