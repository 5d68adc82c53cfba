package sinks

import (
	"context"
	"sync"
	"time"
)

// A breaker keeps an endpoint that is down from being asked all the time. It is
// closed while the endpoint answers. When a batch has used up its quick retries
// it opens for a pause; then one batch is let through as a probe, by one request,
// while all others wait. A probe that is answered closes it, one that fails opens
// it for a longer pause. If other batches were answered while one used up its
// retries, the endpoint isn't down, and only that batch pauses: neither bad luck
// nor a body that the endpoint chokes on holds up the rest.
// Source: event-batching.md EB-P4; ADR 30.
type breaker struct {
	mu         sync.Mutex
	failures   int       // in a row; 0: closed
	until      time.Time // open until then
	answeredAt time.Time // when a batch was answered last
	isProbing  bool
	changed    chan struct{} // closed and made anew at every change; nobody ever sends
}

func newBreaker() *breaker { return &breaker{changed: make(chan struct{})} }

// enter waits until a batch may be sent, and reports whether it is the probe.
// Whoever enters must leave.
func (b *breaker) enter(ctx context.Context) (isProbe bool, err error) {
	for {
		b.mu.Lock()
		if b.failures == 0 {
			b.mu.Unlock()
			return false, nil
		}
		wait, changed := time.Until(b.until), b.changed
		if wait <= 0 && !b.isProbing {
			b.isProbing = true
			b.mu.Unlock()
			return true, nil
		}
		b.mu.Unlock()
		if err := await(ctx, changed, wait); err != nil {
			return false, err
		}
	}
}

// await waits for a change, for the time to pass if there is some left, or
// returns why it did neither.
func await(ctx context.Context, changed <-chan struct{}, left time.Duration) error {
	var passed <-chan time.Time
	if left > 0 {
		timer := time.NewTimer(left)
		defer timer.Stop()
		passed = timer.C
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-changed:
	case <-passed:
	}
	return nil
}

// An outcome is what entering came to.
type outcome uint8

const (
	answered outcome = iota // the endpoint works, whatever it thinks of the batch
	failed
	unknown // the caller gave up
)

// leave reports the outcome of what was begun at a time. It tells whether that
// opened the breaker, or whether the failure is the batch's alone.
func (b *breaker) leave(isProbe bool, began time.Time, o outcome, retryAfter time.Duration) (opened, isAlone bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.failures
	switch {
	case o == answered:
		b.failures, b.answeredAt = 0, time.Now()
	case o == failed && !isProbe && b.failures == 0 && b.answeredAt.After(began):
		isAlone = true
	case o == failed && (isProbe || b.failures == 0):
		// Batches that were under way when it opened don't make the pause longer.
		opened = b.failures == 0
		b.failures++
		b.until = time.Now().Add(breakerPause(b.failures, retryAfter))
	}
	if isProbe {
		b.isProbing = false
	}
	if isProbe || b.failures != before {
		close(b.changed)
		b.changed = make(chan struct{})
	}
	return opened, isAlone
}

// isOpen tells whether quick retries are useless now.
func (b *breaker) isOpen() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures > 0
}
