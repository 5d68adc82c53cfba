package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sortition/sinks"
)

// deliver.go takes finished batches away: by HTTP or by a dispatcher of one's own.
// What it can't deliver goes to the error handler, with its bytes.

// A courier takes batches away, and tells the error handler what it couldn't.
type courier struct {
	poster     *sinks.Poster   // nil: there is a dispatcher
	dispatcher EventDispatcher // nil: there is a poster
	fail       func(error)
}

// once takes a batch away with the quick retries. The error is not nil only if ctx
// ended before it was known what became of the batch. Source: event-batching.md EB-P4.
func (d *courier) once(ctx context.Context, b sinks.Batch) error {
	result, err := d.deliver(ctx, b, false)
	if err != nil && ctx.Err() != nil {
		return err
	}
	d.reportRefused(result)
	for _, unsent := range result.Unsent {
		d.fail(eventError(unsent, result.Attempts, err))
	}
	return nil
}

// durably takes a batch away, however long it takes: what an outbox needs.
func (d *courier) durably(ctx context.Context, b sinks.Batch) (sinks.Result, error) {
	result, err := d.deliver(ctx, b, true)
	d.reportRefused(result)
	if err != nil && isTooOld(ctx) { // the outbox refuses it
		for _, unsent := range result.Unsent {
			e := eventError(unsent, result.Attempts, fmt.Errorf("%w: %w", sinks.ErrTooOld, err))
			e.IsPermanent = true
			d.fail(e)
		}
	}
	return result, err
}

func (d *courier) deliver(ctx context.Context, b sinks.Batch, isDurable bool) (sinks.Result, error) {
	switch {
	case d.dispatcher != nil && isDurable:
		return d.dispatchDurably(ctx, b)
	case d.dispatcher != nil:
		if err := d.dispatcher.DispatchEvent(ctx, logEventOf(b)); err != nil {
			return sinks.Result{Unsent: []sinks.Batch{b}, Attempts: 1}, fmt.Errorf("dispatch events: %w", err)
		}
		return sinks.Result{Delivered: b.Visitors, Attempts: 1}, nil
	case isDurable:
		return d.poster.DeliverDurably(ctx, b)
	default:
		return d.poster.Deliver(ctx, b)
	}
}

// dispatchDurably has the dispatcher try until it succeeds, refuses for good
// ([sinks.IsPermanent]) or ctx ends, with growing pauses of up to a minute.
func (d *courier) dispatchDurably(ctx context.Context, b sinks.Batch) (sinks.Result, error) {
	const longest = time.Minute
	for attempts, pause := 1, 200*time.Millisecond; ; attempts, pause = attempts+1, min(2*pause, longest) {
		err := d.dispatcher.DispatchEvent(ctx, logEventOf(b))
		if err == nil {
			return sinks.Result{Delivered: b.Visitors, Attempts: attempts}, nil
		}
		if sinks.IsPermanent(err) {
			refusal := sinks.Refusal{Batch: b, Reason: err.Error()}
			var status *sinks.StatusError
			if errors.As(err, &status) {
				refusal.Status = status.Status
			}
			return sinks.Result{Refused: []sinks.Refusal{refusal}, Attempts: attempts}, nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return sinks.Result{Unsent: []sinks.Batch{b}, Attempts: attempts}, fmt.Errorf("dispatch events: %w", err)
		}
	}
}

func (d *courier) reportRefused(r sinks.Result) {
	for _, refused := range r.Refused {
		d.fail(&EventError{
			Event: logEventOf(refused.Batch), Visitors: refused.Batch.Visitors, Status: refused.Status, Attempts: r.Attempts,
			IsPermanent: true, Err: errors.New(refused.Reason),
		})
	}
}

func eventError(b sinks.Batch, attempts int, err error) *EventError {
	e := &EventError{Event: logEventOf(b), Visitors: b.Visitors, Attempts: attempts, Err: err, IsPermanent: sinks.IsPermanent(err)}
	var status *sinks.StatusError
	if errors.As(err, &status) {
		e.Status = status.Status
	}
	return e
}

func (d *courier) close() {
	if d.poster != nil {
		d.poster.Close()
	}
}
