package main

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"sortition/internal/emulator"
	"sortition/pipeline"
)

// deliveredTurn is a turn of the pipeline with the handler that delivers events, and
// of the emulator that takes them.
type deliveredTurn struct {
	*streamTurn
	server *emulator.Server
	events float64 // of an activity
}

func (b *bench) openDelivered(ctx context.Context, flags int) (*deliveredTurn, error) {
	// It is here to answer; nobody will ask what it has received.
	e, err := emulator.New(emulator.Options{Datafile: b.project.Datafile(), MaxAttempts: 1, MaxUUIDs: 1})
	if err != nil {
		return nil, err
	}
	server, err := emulator.Listen(e, "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t := &deliveredTurn{server: server, events: b.ready(flags).events}
	t.streamTurn, err = b.openStream(ctx, flags, true, func(p *streamParts) {
		p.handlers = []string{pipeline.AssignActivities, pipeline.DeliverEvents}
		p.deliverEvents.endpoint = server.URLs().Events
	})
	if err != nil {
		over, stop := context.WithCancel(ctx)
		stop()
		return nil, errors.Join(err, unlessCanceled(server.Run(over))) // which closes it
	}
	b.broker.groups[t.parts.groupOf(pipeline.DeliverEvents)] = true
	return t, nil
}

func (t *deliveredTurn) run(ctx context.Context) error {
	around, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	serving, around := errgroup.WithContext(around)
	serving.Go(func() error { return t.server.Run(around) })
	err := t.streamTurn.run(ctx)
	stop()
	return errors.Join(err, unlessCanceled(serving.Wait()))
}

func (t *deliveredTurn) hasBegun() bool {
	return t.legs[0].subscriber.Stats().Generations > 0 && t.legs[1].subscriber.Stats().Generations > 0
}

// progress is measured in events, whose bodies don't say how many activities they
// come from.
func (t *deliveredTurn) progress() int {
	return int(float64(t.deliverEvents.Stats().Delivered) / t.events)
}

func (t *deliveredTurn) rejected() uint64 {
	return t.streamTurn.rejected() + t.deliverEvents.Stats().Refused
}
