package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sortition/decision/datafile"
	"sortition/examples"
	"sortition/internal/emulator"
	"sortition/pipeline"
	"sortition/sinks"
)

// devCloud is the local Optimizely cloud of `processor dev`: the stream's datafile
// is polled from it, and the events are delivered to it, all over HTTP. It is the
// stream's source of snapshots.
type devCloud struct {
	snapshot atomic.Pointer[pipeline.Snapshot]

	server  *emulator.Server
	source  *datafile.Poller
	polling datafile.PollConfig
	poster  *sinks.Poster
	run     *errgroup.Group
	stop    context.CancelFunc
}

// devPolling is how soon a datafile set in the emulator comes into force.
const devPolling = time.Second

// openDevCloud starts the cloud and waits for the datafile.
func openDevCloud(ctx context.Context) (*devCloud, error) {
	e, err := emulator.New(emulator.Options{Datafile: examples.Datafile()})
	if err != nil {
		return nil, err
	}
	server, err := emulator.Listen(e, "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &devCloud{server: server}
	c.polling = datafile.PollConfig{SDKKey: server.URLs().SDKKey, URLTemplate: server.URLs().Datafile, Interval: devPolling}
	polling := c.polling
	polling.OnUpdate = c.update
	c.source, err = datafile.NewPoller(polling)
	if err == nil {
		c.poster, err = sinks.NewPoster(sinks.PosterOptions{})
	}
	// The cloud outlives the wish to end: the account is taken with it.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop = stop
	c.run, running = errgroup.WithContext(running)
	c.run.Go(func() error { return server.Run(running) })
	if err == nil {
		c.run.Go(func() error { return c.source.Run(running) })
		err = datafile.WaitReady(ctx, c.source, 10*time.Second)
	}
	if err == nil {
		c.snapshot.CompareAndSwap(nil, pipeline.NewSnapshot(c.source.Current()))
	}
	if err != nil {
		_ = c.close()
		return nil, fmt.Errorf("start the emulator: %w", err)
	}
	return c, nil
}

// update makes a new datafile the stream's.
func (c *devCloud) update(u datafile.Update) { c.snapshot.Store(pipeline.NewSnapshot(u.New)) }

// Snapshot is what batches that begin now are decided by.
func (c *devCloud) Snapshot() *pipeline.Snapshot { return c.snapshot.Load() }

// deliver posts one event body and returns how many events were delivered and how
// many refused for good.
func (c *devCloud) deliver(ctx context.Context, body []byte, visitors int) (delivered, refused int, err error) {
	r, err := c.poster.Deliver(ctx, sinks.Batch{Endpoint: c.server.URLs().Events, Visitors: visitors, Body: body})
	for _, part := range r.Refused {
		refused += part.Batch.Visitors
	}
	return r.Delivered, refused, err
}

// close ends the cloud and waits for it.
func (c *devCloud) close() error {
	c.stop()
	err := c.run.Wait()
	if c.poster != nil {
		c.poster.Close()
	}
	return unlessCanceled(err)
}
