package client

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"log/slog"
	"sync"

	"sortition/sinks"
)

// An outbox is one of the client's own, that of events or that of ODP events, and
// whether anybody delivers from it.
type outbox struct {
	*sinks.Outbox
	ended chan struct{} // never sent on; closed when delivery has ended
}

// outboxOptions are those of the outbox of what.
func (c *Client) outboxOptions(what string) sinks.OutboxOptions {
	o := c.settings.events.outboxOptions
	return sinks.OutboxOptions{
		Sync: o.Sync, SyncEvery: o.SyncEvery, MaxBytes: o.MaxBytes, MaxAge: o.MaxAge, WhenFull: c.settings.events.whenFull(),
		MaxRefusedBytes: cmp.Or(o.MaxRefusedBytes, cmp.Or(o.MaxBytes, sinks.DefaultOutboxBytes)/4),
		OnForget: func(n sinks.Tally) {
			c.log.Warn("refused events made way for others: they had their bound", slog.String("outbox", what), slog.Uint64("events", n.Visitors))
		},
	}
}

// isTooOld tells whether a delivery's context has ended because of MaxAge.
func isTooOld(ctx context.Context) bool { return errors.Is(context.Cause(ctx), sinks.ErrTooOld) }

// An OutboxView is what a program may see of one of its client's outboxes, and do there.
// It is safe for concurrent use.
type OutboxView struct{ outbox *sinks.Outbox }

// Outbox is the outbox of decisions' and conversions' events. False without [WithOutbox].
func (c *Client) Outbox() (view OutboxView, ok bool) {
	q, ok := c.processor.(*durableQueue)
	if !ok {
		return view, false
	}
	return OutboxView{q.outbox.Outbox}, true
}

// ODPOutbox is the outbox of ODP events. False without [WithOutbox], with a sender of one's
// own, or if ODP is disabled.
func (c *Client) ODPOutbox() (view OutboxView, ok bool) {
	if c.odp.outbox == nil {
		return view, false
	}
	return OutboxView{c.odp.outbox.Outbox}, true
}

// Account says what became of all events ever given to the outbox, in this process and
// those before: appended = delivered + refused + pending. It also tells how many of the
// refused are kept, what room they take, and how many had to make way. It goes on telling
// what it was at the end when the client is closed.
func (v OutboxView) Account() sinks.Account { return v.outbox.Account() }

// Refused reads what was refused for good and is kept, with the reasons, oldest first; in a
// closed client there is only an error that wraps [ErrClosed]. An ODP event's endpoint
// carries the public key after a #; one that was refused for want of an integration has a
// name below .invalid there.
func (v OutboxView) Refused() iter.Seq2[sinks.RefusedBatch, error] { return v.outbox.Refused() }

// ClearRefused forgets what was refused, for those who have seen to it. The account goes on
// counting it.
func (v OutboxView) ClearRefused() error { return v.outbox.ClearRefused() }

func openOutbox(dir string, o sinks.OutboxOptions) (*outbox, error) {
	opened, err := sinks.OpenOutbox(dir, o)
	if err != nil {
		return nil, err
	}
	return &outbox{opened, make(chan struct{})}, nil
}

// deliver delivers what is in the outbox until that is closed, ctx ends or the disk
// fails. It is to be called once.
func (o *outbox) deliver(ctx context.Context, deliver func(context.Context, sinks.Batch) (sinks.Result, error)) error {
	defer close(o.ended)
	err := o.Run(ctx, deliver)
	if errors.Is(err, ErrClosed) {
		return nil
	}
	return err
}

var errDeliveryEnded = errors.New("delivery has ended")

// wait returns nil when nothing is pending; or an error when nobody delivers any
// more, or ctx ends.
func (o *outbox) wait(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var watcher sync.WaitGroup
	defer watcher.Wait()
	defer cancel(nil)
	watcher.Go(func() {
		select {
		case <-o.ended:
			cancel(errDeliveryEnded)
		case <-ctx.Done():
		}
	})
	return o.Wait(ctx)
}
