package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"sortition/decision"
	"sortition/decision/datafile"
	"sortition/odp"
	"sortition/pipeline"
	"sortition/schemas"
	"sortition/sinks"
)

// update makes a datafile the stream's. The datafile's source calls it before anybody
// learns that there is a datafile, and for each one after it.
func (s *stream) update(u datafile.Update) {
	if s.segmenter != nil {
		s.segmenter.update(u.New)
	}
	s.snapshots.Swap(pipeline.NewSnapshot(u.New))
}

// integration is what the datafile in force says of ODP.
func (s *stream) integration() odp.Integration {
	if s.source == nil {
		return odp.Integration{}
	}
	p := s.source.Current()
	if p == nil {
		return odp.Integration{}
	}
	host, key := p.ODP()
	return odp.Integration{Host: host, PublicKey: key}
}

// segmenter is the stream's way to ODP's segments.
type segmenter struct {
	segments   *odp.Segments
	identifier string
	host       string // instead of the datafile's
	policy     odp.Policy
	timeout    time.Duration
}

var _ pipeline.Segmenter = (*segmenter)(nil)

// update takes over what a datafile says of ODP.
func (s *segmenter) update(p *decision.Project) {
	var i odp.Integration
	i.Host, i.PublicKey = p.ODP()
	i.Segments = p.Segments()
	if s.host != "" {
		i.Host = s.host
	}
	s.segments.Update(context.Background(), i)
}

// Identifier names what users are asked for by.
func (s *segmenter) Identifier() string { return s.identifier }

// AppendSegments asks for the users of a micro-batch and applies the policy.
func (s *segmenter) AppendSegments(ctx context.Context, dst []pipeline.SegmentAnswer, ids []string) ([]pipeline.SegmentAnswer, error) {
	users := make([]odp.User, len(ids))
	for i, id := range ids {
		users[i] = odp.User{Value: id}
	}
	found, err := s.segments.Resolve(ctx, users, s.policy, s.timeout)
	if err != nil {
		return dst, err
	}
	for i := range found {
		r := &found[i]
		dst = append(dst, pipeline.SegmentAnswer{
			Segments: r.Segments, IsKnown: r.Verdict == odp.DecideKnown, Code: r.Code(), IsRefused: r.Verdict == odp.Refuse,
		})
	}
	return dst, nil
}

// eventEndpoint delivers event batches.
type eventEndpoint struct {
	poster   *sinks.Poster
	endpoint string // instead of the records' own
}

var _ pipeline.Endpoint = (*eventEndpoint)(nil)

func newEventEndpoint(p deliveryParts) (*eventEndpoint, error) {
	poster, err := sinks.NewPoster(sinks.PosterOptions{Timeout: p.timeout, Concurrency: p.concurrency, UserAgent: "sortition/" + version})
	if err != nil {
		return nil, err
	}
	return &eventEndpoint{poster, p.endpoint}, nil
}

func (e *eventEndpoint) close() { e.poster.Close() }

// Deliver posts a batch until it is accepted or refused. Behind the poster's circuit
// breaker it waits for an endpoint that is down.
func (e *eventEndpoint) Deliver(ctx context.Context, r *pipeline.Record) (pipeline.Delivery, error) {
	visitors, ok := sinks.CountVisitors(r.Value)
	if !ok {
		return refused(r, 0, "the record is no event batch"), nil
	}
	to := e.endpoint
	if to == "" {
		to = headerOf(r, schemas.HeaderEndpoint)
	}
	if to == "" {
		return refused(r, visitors, "the record has no header "+schemas.HeaderEndpoint+", and deliver.events.endpoint is not set"), nil
	}
	result, err := e.poster.DeliverDurably(ctx, sinks.Batch{Endpoint: to, Visitors: visitors, Body: r.Value})
	if err != nil {
		return pipeline.Delivery{}, err
	}
	d := pipeline.Delivery{Accepted: result.Delivered}
	for _, part := range result.Refused {
		d.Refused = append(d.Refused, pipeline.Refusal{Value: part.Batch.Body, Events: part.Batch.Visitors, Detail: part.Reason})
	}
	return d, nil
}

// refused is a whole record that can't be delivered.
func refused(r *pipeline.Record, events int, why string) pipeline.Delivery {
	return pipeline.Delivery{Refused: []pipeline.Refusal{{Value: r.Value, Events: events, Detail: why}}}
}

func headerOf(r *pipeline.Record, key string) string {
	for i := range r.Headers {
		if r.Headers[i].Key == key {
			return string(r.Headers[i].Value)
		}
	}
	return ""
}

// odpEndpoint delivers ODP event batches.
type odpEndpoint struct {
	api         odpEvents
	integration func() odp.Integration // of the datafile in force
	fixed       odp.Integration        // what the configuration says instead
	// probe is held by the one delivery that goes on while ODP is down; the others wait
	// for it. Capacity 1.
	probe chan struct{}
	// isDown is set by deliveries that meet an outage before they wait for probe, and
	// cleared by the one that holds it.
	isDown  atomic.Bool
	isApart atomic.Bool // the datafile names no integration
	log     *slog.Logger
}

// odpEvents is ODP's event API with the connections to it.
type odpEvents interface {
	odp.EventAPI
	Close()
}

var _ pipeline.Endpoint = (*odpEndpoint)(nil)

func newODPEndpoint(p deliveryParts, integration func() odp.Integration, logger *slog.Logger) *odpEndpoint {
	return &odpEndpoint{
		api: odp.NewREST(p.timeout, nil), integration: integration, fixed: odp.Integration{Host: p.endpoint, PublicKey: p.key},
		probe: make(chan struct{}, 1), log: logger,
	}
}

func (e *odpEndpoint) close() { e.api.Close() }

// Deliver posts a batch until it is accepted or refused. After a few quick tries ODP
// counts as down: then one batch goes on trying, with growing pauses, and all others
// wait for how it fares; when it is through, they go on side by side. Source: odp.md OD-33, OD-P11.
func (e *odpEndpoint) Deliver(ctx context.Context, r *pipeline.Record) (pipeline.Delivery, error) {
	events, ok := odp.CountEvents(r.Value)
	if !ok {
		return refused(r, 0, "the record is no ODP event batch"), nil
	}
	i, err := e.awaitIntegration(ctx)
	if err != nil {
		return pipeline.Delivery{}, fmt.Errorf("deliver ODP events: %w", err)
	}
	batch := odp.EventBatch{Host: i.Host, PublicKey: i.PublicKey, Events: events, Body: r.Value}
	err = e.send(ctx, batch)
	switch {
	case err == nil:
		return pipeline.Delivery{Accepted: events}, nil
	case ctx.Err() == nil && !odp.IsTransient(err):
		return refused(r, events, err.Error()), nil
	}
	return pipeline.Delivery{}, fmt.Errorf("deliver ODP events: %w", err)
}

// integrationPause is how long is waited before the datafile is looked at again.
const integrationPause = time.Second

// awaitIntegration waits until it is known where ODP is: events that are stored wait for
// the public key, and are not given up while a datafile names none. Source: pages.md
// O-10.
func (e *odpEndpoint) awaitIntegration(ctx context.Context) (odp.Integration, error) {
	for {
		i := e.integration()
		if e.fixed.Host != "" {
			i.Host = e.fixed.Host
		}
		if e.fixed.PublicKey != "" {
			i.PublicKey = e.fixed.PublicKey
		}
		if i.IsIntegrated() {
			if e.isApart.Swap(false) {
				e.log.Info("the datafile names an integration with ODP again: its events are delivered")
			}
			return i, nil
		}
		if !e.isApart.Swap(true) {
			e.log.Warn("the datafile names no integration with ODP: its events wait in their topic. Name host and key in the configuration, or take the handler away")
		}
		select {
		case <-time.After(integrationPause):
		case <-ctx.Done():
			return i, fmt.Errorf("%w: %w", odp.ErrNotIntegrated, context.Cause(ctx))
		}
	}
}

// send posts a batch until ODP has taken or refused it.
func (e *odpEndpoint) send(ctx context.Context, batch odp.EventBatch) error {
	for {
		if !e.isDown.Load() {
			_, err := odp.Deliver(ctx, e.api, batch, odp.DefaultAttempts)
			if err == nil || !odp.IsTransient(err) || ctx.Err() != nil {
				return err
			}
			e.isDown.Store(true) // not later: it would undo what the holder of probe finds out
		}
		isOver, err := e.sendDuringOutage(ctx, batch)
		if !isOver {
			return err
		}
	}
}

// sendDuringOutage waits for the others that met the outage, then posts the batch for
// as long as the outage takes. isOver tells that one of them got through instead: then
// nothing was posted, and the batch need not wait for anybody.
func (e *odpEndpoint) sendDuringOutage(ctx context.Context, batch odp.EventBatch) (isOver bool, err error) {
	select {
	case e.probe <- struct{}{}:
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	defer func() { <-e.probe }()
	if !e.isDown.Load() {
		return true, nil
	}
	_, err = odp.Deliver(ctx, e.api, batch, 0)
	if err == nil || !odp.IsTransient(err) {
		e.isDown.Store(false) // it answers, whatever it thinks of the batch
	}
	return false, err
}
