package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"sortition/sinks"
)

// An ownProcessor is a processor of the client's own: it has background work, and can
// be told to send now.
type ownProcessor interface {
	EventProcessor
	// start hands each part of the background work to along, which reports how it failed
	// when it does.
	start(along func(what string, f func(context.Context) error))
	flush()
	// abandon gives back what was opened; start hasn't been called.
	abandon() error
}

// openProcessor makes the event processor of the settings. After an error nothing of
// it is open.
func (c *Client) openProcessor() error {
	s := &c.settings.events
	if s.processor != nil {
		c.processor = s.processor
		return nil
	}
	if s.endpoint != "" {
		if err := sinks.CheckEndpoint(s.endpoint); err != nil {
			return err
		}
	}
	d := &courier{dispatcher: s.dispatcher, fail: c.fail}
	if d.dispatcher == nil {
		poster, err := sinks.NewPoster(sinks.PosterOptions{
			Timeout: s.requestTimeout, Transport: c.settings.transport, UserAgent: c.settings.identity.Name + "/" + c.settings.identity.Version,
		})
		if err != nil {
			return err
		}
		d.poster = poster
	}
	announce := func(b sinks.Batch) {
		send(c, LogEventType, func() LogEvent { return logEventOf(b) })
	}
	if s.outbox == "" {
		q := &queue{courier: d}
		var err error
		if q.batcher, err = newBatcher(s, d.once, announce); err != nil {
			d.close()
			return err
		}
		c.processor = q
		return nil
	}

	o := c.outboxOptions("events")
	if d.dispatcher != nil {
		o.Concurrency = 1 // a dispatcher gets its batches one at a time
	}
	q := &durableQueue{courier: d, announce: announce, batchSize: s.batchSize, batchBytes: s.batchBytes, log: c.log}
	if s.outboxOptions.IsBuffered {
		var err error
		if q.batcher, err = newBatcher(s, q.store, nil); err != nil {
			d.close()
			return err
		}
		q.fail = c.fail
	}
	var err error
	if q.outbox, err = openOutbox(s.outbox, o); err != nil {
		d.close()
		return err
	}
	c.processor = q
	return nil
}

func (s *eventSettings) whenFull() sinks.WhenFull {
	if s.isBlocking {
		return sinks.Block
	}
	return sinks.Fail
}

func newBatcher(s *eventSettings, dispatch func(context.Context, sinks.Batch) error, onBatch func(sinks.Batch)) (*sinks.Batcher, error) {
	return sinks.NewBatcher(sinks.BatcherOptions{
		MaxVisitors: s.batchSize, MaxBytes: s.batchBytes, MaxAge: s.flushInterval,
		Capacity: max(s.queueSize, s.batchSize), WhenFull: s.whenFull(),
		Dispatch: dispatch, OnBatch: onBatch,
		OnFailure: func(sinks.Batch, error) { panic("BUG: a dispatch that tells its failure twice") },
	})
}

// A queue holds events in memory until they are delivered.
type queue struct {
	batcher *sinks.Batcher
	courier *courier
}

// Process queues events.
func (q *queue) Process(ctx context.Context, events []UserEvent) error {
	return addAll(ctx, q.batcher, events)
}

func addAll(ctx context.Context, b *sinks.Batcher, events []UserEvent) error {
	for i := range events {
		if err := b.Add(ctx, events[i]); err != nil {
			return fmt.Errorf("%d of %d events not taken: %w", len(events)-i, len(events), err)
		}
	}
	return nil
}

func (q *queue) start(along func(string, func(context.Context) error)) {
	along("event delivery", q.batcher.Run)
}

func (q *queue) flush() { q.batcher.Flush() }

func (q *queue) abandon() error {
	q.courier.close()
	return nil
}

// Close delivers what is queued until ctx ends. The error is a [*CloseError].
func (q *queue) Close(ctx context.Context) error {
	defer q.courier.close()
	remains, err := q.batcher.Close(ctx)
	return closeError(remains, err)
}

func closeError(remains []sinks.Batch, err error) error {
	if len(remains) == 0 {
		return err
	}
	e := &CloseError{Err: err}
	for i := range remains {
		e.Undelivered = append(e.Undelivered, logEventOf(remains[i]))
		e.Visitors += remains[i].Visitors
	}
	return e
}

// A durableQueue holds events on disk until they are delivered.
type durableQueue struct {
	outbox     *outbox
	batcher    *sinks.Batcher // before the outbox; nil: events go there at once
	courier    *courier
	announce   func(sinks.Batch)
	fail       func(error)
	log        *slog.Logger
	batchSize  int
	batchBytes int
}

// OutboxAccount is [OutboxView.Account] of the outbox of events. False without
// [WithOutbox].
func (c *Client) OutboxAccount() (account sinks.Account, ok bool) {
	view, ok := c.Outbox()
	if !ok {
		return account, false
	}
	return view.Account(), true
}

// Process brings events to the disk; or to the buffer, if there is one.
func (q *durableQueue) Process(ctx context.Context, events []UserEvent) error {
	if q.batcher != nil {
		return addAll(ctx, q.batcher, events)
	}
	return eachBatch(events, q.batchSize, q.batchBytes, func(run []UserEvent) error {
		_, err := q.outbox.Append(ctx, batchOf(run))
		return err
	})
}

// store takes a batch from the buffer to the disk. What the disk doesn't take goes
// to the error handler.
func (q *durableQueue) store(ctx context.Context, b sinks.Batch) error {
	_, err := q.outbox.Append(ctx, b)
	if err != nil && ctx.Err() != nil {
		return err
	}
	if err != nil {
		q.fail(eventError(b, 0, err))
	}
	return nil
}

// start runs buffer and delivery beside each other: if delivery fails, events still
// come to the disk.
func (q *durableQueue) start(along func(string, func(context.Context) error)) {
	if q.batcher != nil {
		along("buffer of events", q.batcher.Run)
	}
	along("event delivery", func(ctx context.Context) error {
		return q.outbox.deliver(ctx, func(ctx context.Context, b sinks.Batch) (sinks.Result, error) {
			q.announce(b)
			return q.courier.durably(ctx, b)
		})
	})
}

func (q *durableQueue) flush() {
	if q.batcher != nil {
		q.batcher.Flush()
	}
}

func (q *durableQueue) abandon() error {
	q.courier.close()
	return q.outbox.Close()
}

// Close brings everything to the disk and waits until it is delivered, can't be any
// more, or ctx ends. What then is pending stays for the next one to open the folder, and
// is no error.
func (q *durableQueue) Close(ctx context.Context) error {
	defer q.courier.close()
	var faults []error
	if q.batcher != nil {
		remains, err := q.batcher.Close(ctx)
		faults = append(faults, closeError(remains, err))
	}
	if err := q.outbox.wait(ctx); err != nil {
		a := q.outbox.Account()
		q.log.Warn("events stay in the outbox", slog.Uint64("events", a.Pending.Visitors), slog.Any("error", err))
	}
	faults = append(faults, q.outbox.Close())
	return errors.Join(faults...)
}
