package odp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// eventbatch.go fills batches and sends them: when one is full, when the next event
// goes elsewhere, when it is old enough, on Flush, on Update and on Close.
// Source: odp.md OD-31.

// A batch is closed: its events all go to one place. Those that come from a queue are
// kept apart from those in memory, since they are tried differently.
type batch struct {
	EventBatch
	items  []*item
	number uint64 // counts the batches of one Events: which is older
}

func (b *batch) isDurable() bool { return b.items[0].outcome != nil }

// tell tells those who wait, unless they were told.
func (b *batch) tell(err error) {
	for _, it := range b.items {
		select {
		case it.outcome <- err:
		default:
		}
	}
}

// add takes an event into the batch being filled.
func (e *Events) add(it *item) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	isDurable := it.outcome != nil
	switch {
	case e.isClosing:
		return ErrClosed
	case !isDurable && e.held >= e.cfg.Capacity: // a queue bounds what it delivers
		return ErrFull
	}
	if len(e.filling) > 0 {
		first := e.filling[0]
		if first.Host != it.Host || first.PublicKey != it.PublicKey || (first.outcome != nil) != isDurable {
			e.finish()
		}
	}
	if len(e.filling) == 0 {
		e.deadline = time.Now().Add(e.cfg.FlushInterval)
		e.signal() // there is a deadline now
	}
	e.filling = append(e.filling, it)
	e.held++
	if len(e.filling) >= e.cfg.BatchSize {
		e.finish()
	}
	return nil
}

// finish closes the batch being filled, if there is one.
func (e *Events) finish() {
	if len(e.filling) == 0 {
		return
	}
	first := e.filling[0]
	b := &batch{EventBatch: EventBatch{Host: first.Host, PublicKey: first.PublicKey, Events: len(e.filling)}, items: e.filling, number: e.numBatches}
	e.numBatches++
	size := 1 + len(b.items)
	for _, it := range b.items {
		size += len(it.Event)
	}
	b.Body = append(make([]byte, 0, size), '[')
	for i, it := range b.items {
		if i > 0 {
			b.Body = append(b.Body, ',')
		}
		b.Body = append(b.Body, it.Event...)
	}
	b.Body = append(b.Body, ']')
	e.filling = nil
	e.queue = append(e.queue, b)
	e.signal()
}

func (e *Events) signal() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Flush has the batch being filled sent, and returns at once.
func (e *Events) Flush() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.finish()
}

// Drain has events no longer wait for their batch to fill: from now on what is there is
// sent whenever a place is free. Events are still taken; it is for the time before Close,
// while a queue hands over what it holds. It returns at once.
func (e *Events) Drain() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.isDraining = true
	e.signal()
}

// Run sends until the Events is closed and empty, or Close has given up, and returns nil
// then; or until ctx ends, and returns its cause. It waits for what it has begun. It is
// to be called once.
func (e *Events) Run(ctx context.Context) error {
	whole := ctx
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	e.mu.Lock()
	if e.isRunning {
		e.mu.Unlock()
		panic("BUG: Events.Run called twice")
	}
	e.isRunning, e.cut = true, cut
	e.mu.Unlock()
	defer close(e.done)

	var group sync.WaitGroup
	slots := make(chan struct{}, e.cfg.Concurrency) // capacity: batches under way at once
	timer := time.NewTimer(e.cfg.FlushInterval)
	defer timer.Stop()
	for ctx.Err() == nil {
		// The place comes first: while all are taken, a batch may still fill.
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			continue
		}
		b, wait, isOver := e.next()
		if b == nil {
			<-slots
			if isOver {
				break
			}
			timer.Reset(wait)
			select {
			case <-e.wake:
			case <-timer.C:
			case <-ctx.Done():
			}
			continue
		}
		group.Go(func() {
			defer func() { <-slots }()
			e.post(ctx, b)
		})
	}
	group.Wait()
	e.mu.Lock()
	e.isClosing = true
	e.finish()
	for _, b := range e.queue {
		if b.isDurable() {
			b.tell(ErrClosed) // its queue keeps it
		}
	}
	e.mu.Unlock()
	return context.Cause(whole) // nil if it was Close that ended it
}

// next takes the oldest batch, or says how long to wait for one.
func (e *Events) next() (b *batch, wait time.Duration, isOver bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	wait = time.Hour
	if len(e.filling) > 0 {
		if wait = time.Until(e.deadline); wait <= 0 || e.isDraining && len(e.queue) == 0 {
			e.finish()
		}
	}
	if len(e.queue) == 0 {
		return nil, wait, e.isClosing && len(e.filling) == 0
	}
	b = e.queue[0]
	e.queue[0] = nil
	e.queue = e.queue[1:]
	e.sending[b] = true
	return b, 0, false
}

// putBack makes a batch the next one again.
func (e *Events) putBack(b *batch) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sending[b] { // else Close has handed it back
		delete(e.sending, b)
		e.queue = append([]*batch{b}, e.queue...)
	}
}

// post sends a batch and tells what became of it.
func (e *Events) post(ctx context.Context, b *batch) {
	attempts := e.cfg.Attempts
	if b.isDurable() {
		attempts = 0
	}
	made, err := Deliver(ctx, e.cfg.API, b.EventBatch, attempts)
	e.stats.attempts.Add(uint64(made))
	if err != nil && ctx.Err() != nil && IsTransient(err) {
		if !b.isDurable() {
			e.putBack(b)
			return
		}
		err = &Error{Class: Cancelled, Err: err}
	}
	e.mu.Lock()
	isMine := e.sending[b]
	delete(e.sending, b)
	if isMine {
		e.held -= b.Events
	}
	e.mu.Unlock()
	switch {
	case err == nil:
		e.stats.batches.Add(1)
		e.stats.delivered.Add(uint64(b.Events))
	case !IsTransient(err) || !b.isDurable():
		e.stats.refused.Add(uint64(b.Events))
		e.log.Error("ODP events not delivered", "events", b.Events, "attempts", made, "error", err)
	}
	if b.isDurable() {
		b.tell(err)
		return
	}
	if err != nil && isMine {
		e.cfg.OnFailure(b.EventBatch, err)
	}
}

// Close takes no more events and waits until those in memory are sent, at most for the
// configured time. If that or ctx ends before, what is under way is cut short, and
// Close returns what remains, oldest first, and an error; a batch that was under way is
// among them, though it may have arrived. Source: odp.md OD-36, OD-P11.
//
// A queue's deliveries are to be ended before: they are not waited for.
func (e *Events) Close(ctx context.Context) (remains []EventBatch, err error) {
	e.mu.Lock()
	e.isClosing = true
	e.finish()
	e.signal()
	held, isRunning := e.held, e.isRunning
	e.mu.Unlock()
	if e.own != nil {
		defer e.own.Close()
	}
	if held == 0 && !isRunning {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.cfg.CloseTimeout)
	defer cancel()
	cause := errors.New("it was stopped")
	select { // Run may be about to begin
	case <-e.done:
	case <-ctx.Done():
		cause = context.Cause(ctx)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cut != nil {
		e.cut()
	}
	var left []*batch
	for b := range e.sending {
		left = append(left, b)
	}
	clear(e.sending)
	left = append(left, e.queue...)
	e.queue = nil
	slices.SortFunc(left, func(a, b *batch) int { return cmp.Compare(a.number, b.number) })
	events := 0
	for _, b := range left {
		e.held -= b.Events
		if b.isDurable() {
			b.tell(ErrClosed)
			continue
		}
		events += b.Events
		remains = append(remains, b.EventBatch)
	}
	if events > 0 {
		e.stats.refused.Add(uint64(events))
		err = fmt.Errorf("close ODP events: %d not delivered: %w", events, cause)
	}
	return remains, err
}
