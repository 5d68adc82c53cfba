package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"sortition/decision"
	"sortition/odp"
	"sortition/sinks"
)

// odp.go is the client's own ODP: what fetches segments and sends ODP events unless
// the program brings something in its place.

// ownODP holds its parts; each is nil if the program has its own, or ODP is disabled.
type ownODP struct {
	segments *odp.Segments
	events   *odp.Events
	outbox   *outbox // nil: events wait in memory
	known    atomic.Pointer[decision.Project]
}

// openODP makes the parts. Nothing is started.
func (c *Client) openODP() error {
	s := &c.settings.odp
	if s.isDisabled {
		return nil
	}
	if s.fetcher == nil {
		cfg := odp.DefaultConfig()
		cfg.CacheSize, cfg.CacheTimeout, cfg.RequestTimeout = s.cacheSize, s.cacheTimeout, s.segmentTimeout
		cfg.Transport, cfg.Logger, cfg.Fetcher = c.settings.transport, c.log, s.segmentAPI
		if s.cache != nil {
			cfg.Cache = s.cache
		}
		var err error
		if c.odp.segments, err = odp.NewSegments(cfg); err != nil {
			return err
		}
	}
	if s.sender == nil {
		return c.openODPEvents()
	}
	return nil
}

func (c *Client) openODPEvents() error {
	s, events := &c.settings.odp, &c.settings.events
	cfg := odp.DefaultEventsConfig()
	cfg.Sender = odp.Sender{Name: c.settings.identity.Name, Version: c.settings.identity.Version}
	cfg.RequestTimeout, cfg.FlushInterval = s.eventTimeout, max(s.eventFlushInterval, 0)
	cfg.Transport, cfg.Logger, cfg.CloseTimeout = c.settings.transport, c.log, events.closeTimeout
	cfg.OnFailure, cfg.API = c.odpFailed, s.eventAPI
	if events.outbox != "" {
		o := c.outboxOptions("ODP events")
		o.Concurrency = 4 * 10 // events meet in batches of ten while they are being delivered
		var err error
		if c.odp.outbox, err = openOutbox(filepath.Join(events.outbox, "odp"), o); err != nil {
			return fmt.Errorf("for ODP events: %w", err)
		}
		cfg.Queue = odpQueue{c.odp.outbox.Outbox}
	}
	var err error
	c.odp.events, err = odp.NewEvents(cfg)
	return err
}

// startODP starts the delivery of ODP events.
func (c *Client) startODP() {
	o := &c.odp
	if o.outbox != nil { // there may be events that wait for the first datafile
		c.runAlong("ODP integration", func(ctx context.Context) error {
			select {
			case <-c.source.Ready():
				o.use(ctx, c.source.Current())
			case <-ctx.Done():
			}
			return nil
		})
	}
	if o.events != nil {
		c.runAlong("ODP events", o.events.Run)
	}
	if o.outbox != nil {
		c.runAlong("outbox of ODP events", func(ctx context.Context) error {
			return o.outbox.deliver(ctx, c.deliverODP)
		})
	}
}

// flushODP sends the ODP events held now.
func (c *Client) flushODP() {
	if c.odp.events != nil {
		c.odp.events.Flush()
	}
}

// abandonODP gives back what openODP made, of which not all need be there.
func (c *Client) abandonODP() error {
	o := &c.odp
	var err error
	if o.outbox != nil {
		err = o.outbox.Close()
	}
	if o.events != nil {
		_, closing := o.events.Close(context.Background()) // returns at once: nothing is held, nothing runs
		err = errors.Join(err, closing)
	}
	if o.segments != nil {
		o.segments.Close()
	}
	return err
}

// drainODP has ODP events no longer wait for each other.
func (c *Client) drainODP() {
	if c.odp.events != nil {
		c.odp.events.Drain()
	}
}

var errNobodyPolls = errors.New("there is no datafile, and nobody has looked for one")

// closeODP delivers what was taken, until ctx ends. What is in an outbox then stays.
func (c *Client) closeODP(ctx context.Context, hasStarted bool) error {
	o := &c.odp
	var faults []error
	if o.outbox != nil {
		if !hasStarted && !c.IsReady() { // what waits for the datafile would wait in vain
			ended, cancel := context.WithCancelCause(ctx)
			cancel(errNobodyPolls)
			ctx = ended
		}
		if err := o.outbox.wait(ctx); err != nil {
			c.log.Warn("ODP events stay in the outbox", slog.Uint64("events", o.outbox.Account().Pending.Visitors), slog.Any("error", err))
		}
		faults = append(faults, o.outbox.Close())
	}
	if o.events != nil {
		remains, err := o.events.Close(ctx)
		for _, b := range remains {
			c.odpFailed(b, context.Cause(ctx))
		}
		faults = append(faults, err)
	}
	if o.segments != nil {
		o.segments.Close()
	}
	return errors.Join(faults...)
}

// use tells the parts of the datafile in force, if it is another than before.
func (o *ownODP) use(ctx context.Context, p *decision.Project) {
	if o.known.Load() == p {
		return
	}
	var i odp.Integration
	i.Host, i.PublicKey = p.ODP()
	i.Segments = p.Segments()
	if o.segments != nil {
		o.segments.Update(ctx, i)
	}
	if o.events != nil {
		o.events.Update(i)
	}
	o.known.Store(p)
}

// FetchSegments asks by cache and GraphQL.
func (o *ownODP) FetchSegments(ctx context.Context, q SegmentQuery) ([]string, error) {
	var options odp.Options
	if q.Options&IgnoreSegmentsCache != 0 {
		options |= odp.IgnoreCache
	}
	if q.Options&ResetSegmentsCache != 0 {
		options |= odp.ResetCache
	}
	user := odp.User{Key: odp.FSUserID, Value: q.UserID}
	if q.Options&FetchByVUID != 0 {
		user.Key = odp.VUID
	}
	r := o.segments.Fetch(ctx, user, options)
	var e *odp.Error
	if errors.As(r.Err, &e) {
		if e.Class == odp.Closed {
			return nil, ErrClosed
		}
		return nil, e // without what the caller says too
	}
	return r.Segments, r.Err
}

// SegmentsStats are the counters of the client's own fetching; all are 0 if the
// program brought a fetcher, or ODP is disabled.
func (c *Client) SegmentsStats() odp.Stats {
	if c.odp.segments == nil {
		return odp.Stats{}
	}
	return c.odp.segments.Stats()
}

// SendODPEvent sends an event to ODP. It returns when the event is queued; with
// [WithOutbox], when it is on disk. What then is refused for good, or without an outbox
// can't be delivered, goes to the error handler as an [ODPEventError]; an outbox also
// keeps it among its refused batches.
//
// Before there is a datafile nobody knows where to send it. With an outbox the event is
// checked and kept on disk all the same, over restarts too, and sent when a datafile names
// host and key; if the first one names none, it is refused for good with
// [ErrODPNotIntegrated]. Without an outbox it is not taken: [ErrNotReady].
//
// The error wraps [ErrNotReady], [ErrODPDisabled], [ErrODPNotIntegrated], [ErrClosed],
// [ErrFull], or says what is wrong with the event; the event is not taken then.
// Source: odp.md section 5, OD-P6; pages.md O-10.
func (c *Client) SendODPEvent(ctx context.Context, e ODPEvent) error {
	err := c.sendODPEvent(ctx, e)
	switch {
	case errors.Is(err, odp.ErrFull):
		err = fmt.Errorf("%w: %w", ErrFull, err)
	case errors.Is(err, odp.ErrClosed):
		err = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	if err != nil {
		return fmt.Errorf("send ODP event: %w", err)
	}
	return nil
}

func (c *Client) sendODPEvent(ctx context.Context, e ODPEvent) error {
	event := odp.Event{Type: e.Type, Action: e.Action, Identifiers: e.Identifiers, Data: e.Data}
	if c.life.isClosed() {
		return ErrClosed
	}
	p := c.source.Current()
	if p == nil && c.odp.outbox == nil {
		return ErrNotReady
	}
	if c.settings.odp.isDisabled {
		return ErrODPDisabled
	}
	if p != nil {
		c.odp.use(ctx, p)
	}
	if c.odp.events != nil {
		err := c.odp.events.SendEvent(ctx, event)
		var own *odp.Error
		if errors.As(err, &own) {
			return own
		}
		return err
	}
	if host, _ := p.ODP(); host == "" {
		return ErrODPNotIntegrated
	}
	event.ID = "checked"
	if _, err := odp.AppendEvent(nil, &event, odp.Sender{}); err != nil {
		return err
	}
	return c.settings.odp.sender.SendODPEvent(ctx, e)
}

// An ODPEventError hands back ODP events that were not delivered, in one batch, and
// says why. Nobody sends them again. Its text holds nothing of them; its Body does.
type ODPEventError struct {
	Host   string
	Body   []byte // a JSON array of events
	Events int
	// IsPermanent: ODP refused them for good.
	IsPermanent bool
	Err         error
}

func (e *ODPEventError) Error() string {
	return fmt.Sprintf("batch of %d ODP events not delivered: %v", e.Events, e.Err)
}

func (e *ODPEventError) Unwrap() error { return e.Err }

func (c *Client) odpFailed(b odp.EventBatch, err error) {
	c.fail(&ODPEventError{Host: b.Host, Body: b.Body, Events: b.Events, IsPermanent: !odp.IsTransient(err), Err: err})
}

// odpQueue keeps ODP events in an outbox: one a batch, so that each is on disk when it
// is taken. The integration's key stands behind the address as its fragment, which
// HTTP doesn't send.
type odpQueue struct{ outbox *sinks.Outbox }

// unknownODP is the address of events that were taken before there was a datafile. A
// name below .invalid can't be anybody's (RFC 2606).
const unknownODP = "https://odp.invalid"

// Append brings an event to the disk.
func (q odpQueue) Append(ctx context.Context, r odp.Record) error {
	if r.Host == "" {
		r.Host = unknownODP
	}
	_, err := q.outbox.Append(ctx, sinks.Batch{Endpoint: r.Host + "#" + r.PublicKey, Visitors: 1, Body: r.Event})
	return err
}

// deliverODP delivers an event of the outbox.
func (c *Client) deliverODP(ctx context.Context, b sinks.Batch) (sinks.Result, error) {
	at := strings.LastIndexByte(b.Endpoint, '#')
	if at < 0 {
		return sinks.Result{Refused: []sinks.Refusal{{Batch: b, Reason: "not an ODP event"}}}, nil
	}
	r := odp.Record{Host: b.Endpoint[:at], PublicKey: b.Endpoint[at+1:], Event: slices.Clone(b.Body)}
	if r.Host == unknownODP {
		r.Host = ""
	}
	err := c.odp.events.Deliver(ctx, r)
	if err == nil {
		return sinks.Result{Delivered: 1, Attempts: 1}, nil
	}
	isTransient := odp.IsTransient(err)
	if isTransient {
		<-ctx.Done() // the delivery has ended before the outbox has
	}
	if !isTransient || isTooOld(ctx) { // the outbox refuses it
		c.fail(&ODPEventError{Host: r.Host, Body: slices.Concat([]byte("["), b.Body, []byte("]")), Events: 1, IsPermanent: true, Err: err})
	}
	if isTransient {
		return sinks.Result{Unsent: []sinks.Batch{b}}, err
	}
	refusal := sinks.Refusal{Batch: b, Reason: err.Error()}
	var e *odp.Error
	if errors.As(err, &e) {
		refusal.Status = e.Status
	}
	return sinks.Result{Refused: []sinks.Refusal{refusal}, Attempts: 1}, nil
}
