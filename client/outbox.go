package client

import (
	"context"
	"errors"
	"sync"

	"sortition/sinks"
)

// An outbox is one of the client's own, that of events or that of ODP events, and
// whether anybody delivers from it.
type outbox struct {
	*sinks.Outbox
	ended chan struct{} // never sent on; closed when delivery has ended
}

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
