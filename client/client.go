package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"sortition/decision"
	"sortition/decision/datafile"
)

// A Client decides for the users of one project. Make one with [New] or [Open], and
// close it. Safe for concurrent use.
type Client struct {
	settings       settings
	log            *slog.Logger
	notifications  *Notifications
	source         ConfigSource
	stopListening  func()
	installed      atomic.Pointer[installed]
	forced         *forcedVariations
	env            decision.Env
	processor      EventProcessor
	workers        sync.Pool // of *worker
	closePredictor func()
	odp            ownODP
	life           *life
	closeErr       error    // of the first Close; guarded by life.closed
	lost           throttle // of lines about events that were not taken
	waiting        throttle // of lines about calls without a datafile
}

// New makes a client of a datafile ([WithDatafile]), an SDK key ([WithSDKKey]) or
// both, or of a source of one's own ([WithSource]); of none of them the error is
// [ErrNoSource]. A datafile that can't be used is a *decision.DatafileError if there
// is nothing to poll for another one; with an SDK key it is only reported, and the
// client isn't ready until a fetch succeeds.
//
// Nothing is started: a client with a datafile decides, and its events wait in
// memory (or on disk) for [Client.Start]. Whatever was made must be closed; after an
// error nothing is left open, and a processor of one's own has not been closed.
// Source: pages.md I-1 to I-4, config.md section 1.
func New(options ...Option) (*Client, error) {
	c := &Client{
		settings: defaultSettings(), forced: newForcedVariations(), life: newLife(), stopListening: func() {}, closePredictor: func() {},
	}
	s := &c.settings
	for _, o := range options {
		o(s)
	}
	if err := errors.Join(s.events.faults...); err != nil {
		return nil, fmt.Errorf("new client: %w", err)
	}
	if c.log = s.logger; c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.notifications = s.notifications; c.notifications == nil {
		c.notifications = NewNotifications()
	}
	c.env.Forced = c.forced
	if s.profiles != nil {
		c.env.Profiles = reportedProfiles{s.profiles, c}
	}
	for _, open := range []func() error{c.openPredictor, c.openSource, c.openProcessor, c.openODP} {
		if err := open(); err != nil {
			return nil, errors.Join(fmt.Errorf("new client: %w", err), c.abandon())
		}
	}
	return c, nil
}

// abandon gives back what New had opened when it failed. It delivers nothing: what is
// in an outbox stays there.
func (c *Client) abandon() error {
	err := c.abandonODP()
	if p, ok := c.processor.(ownProcessor); ok {
		err = errors.Join(err, p.abandon())
	}
	c.stopListening()
	c.closePredictor()
	return err
}

// Open is New and Start, and waits until the client is ready: what most programs
// want. If there is no datafile within the time of [WithReadyTimeout], nothing is
// left open and the error wraps [ErrNotReady]. A program that would rather begin
// without uses New and Start.
func Open(ctx context.Context, options ...Option) (*Client, error) {
	c, err := New(options...)
	if err != nil {
		return nil, err
	}
	c.Start()
	if err := c.WaitReady(ctx); err != nil {
		ended, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		return nil, errors.Join(fmt.Errorf("open client: %w", err), c.Close(ended))
	}
	return c, nil
}

// Notifications are the client's listeners.
func (c *Client) Notifications() *Notifications { return c.notifications }

// Start begins the background work: polling for datafiles and delivering events. It
// returns at once; [Client.Close] ends what it began. A second call does nothing.
func (c *Client) Start() {
	if !c.life.start() {
		return
	}
	c.runAlong("datafile source", func(ctx context.Context) error {
		if err := c.source.Run(ctx); !errors.Is(err, datafile.ErrRunning) {
			return err
		}
		return nil
	})
	c.startProcessor()
	c.startODP()
}

func (c *Client) startProcessor() {
	if p, ok := c.processor.(ownProcessor); ok {
		p.start(c.runAlong)
	}
}

// runAlong runs f in the background, and reports how it failed.
func (c *Client) runAlong(what string, f func(context.Context) error) {
	c.life.goAlong(context.Background(), func(ctx context.Context) {
		if err := f(ctx); err != nil && ctx.Err() == nil {
			c.fail(fmt.Errorf("%s: %w", what, err))
		}
	})
}

// Run is Start for those who have a place to wait: it returns when ctx has ended
// and the client is closed, within the time of [WithCloseTimeout], with the error
// of [Client.Close].
func (c *Client) Run(ctx context.Context) error {
	c.Start()
	select {
	case <-ctx.Done():
	case <-c.life.closing:
	}
	return c.Close(context.WithoutCancel(ctx))
}

// Flush sends the events held now without waiting for their batch to fill. It
// returns at once. Source: event-batching.md EB-23.
func (c *Client) Flush() {
	if p, ok := c.processor.(ownProcessor); ok {
		p.flush()
	}
	c.flushODP()
}

// Close takes no more events, delivers those taken, and ends all background work.
// It returns when that is done, or soon after ctx or the time of [WithCloseTimeout]
// ends: then events that were in memory are handed back in a [*CloseError]; those in an
// outbox stay there. A closed client still decides, with its last datafile.
//
// Every call waits and returns the same error, but only the first one's ctx counts.
// Source: pages.md I-14, config.md CF-21, event-batching.md EB-26, EB-P7.
func (c *Client) Close(ctx context.Context) error {
	isFirst, hasStarted := c.life.close()
	if !isFirst {
		select {
		case <-c.life.closed:
			return c.closeErr
		case <-ctx.Done():
			return fmt.Errorf("close client: %w", context.Cause(ctx))
		}
	}
	defer close(c.life.closed)
	if !hasStarted {
		c.startProcessor() // what was taken is delivered all the same
		c.startODP()
	}
	ctx, cancel := context.WithTimeout(ctx, c.settings.events.closeTimeout)
	defer cancel()
	c.drainODP() // ODP events needn't wait until the others are delivered
	var faults []error
	faults = append(faults, c.processor.Close(ctx), c.closeODP(ctx, hasStarted))
	c.stopListening()
	if err := c.life.end(ctx); err != nil {
		faults = append(faults, fmt.Errorf("close client: background work goes on: %w", err))
	}
	c.closePredictor()
	c.closeErr = errors.Join(faults...)
	return c.closeErr
}

// eventsFailed reports events that were not taken. Under pressure there can be very
// many: the error handler hears of each, the log once a second.
func (c *Client) eventsFailed(what string, err error) {
	err = fmt.Errorf("%s: %w", what, err)
	if missed, ok := c.lost.pass(); ok {
		c.log.Error("client: events not taken", slog.Any("error", err), slog.Int64("not_logged", missed))
	}
	c.handle(err)
}

// logNotReady says that a call found no datafile, once a second.
func (c *Client) logNotReady(call string) {
	if missed, ok := c.waiting.pass(); ok {
		c.log.Error("not ready: there is no datafile yet", slog.String("call", call), slog.Int64("not_logged", missed))
	}
}
