package client

import (
	"errors"
	"fmt"
	"time"

	"sortition/sinks"
)

// eventSettings are the event options. Source: event-batching.md section 2.
type eventSettings struct {
	endpoint       string // "": by the datafile's region
	batchSize      int
	batchBytes     int
	flushInterval  time.Duration
	closeTimeout   time.Duration
	requestTimeout time.Duration
	queueSize      int
	isBlocking     bool
	dispatcher     EventDispatcher
	processor      EventProcessor
	outbox         string // folder; "": none
	outboxOptions  OutboxOptions
	faults         []error
}

// The defaults of event options. Source: event-batching.md EB-P7, EB-P9.
const (
	DefaultBatchSize      = 10
	DefaultFlushInterval  = 30 * time.Second
	DefaultCloseTimeout   = 30 * time.Second
	DefaultQueueSize      = 1000
	DefaultRequestTimeout = 10 * time.Second

	maxBatchBytes = 1 << 20 // EB-P9
)

func defaultEventSettings() eventSettings {
	return eventSettings{
		batchSize: DefaultBatchSize, batchBytes: maxBatchBytes, flushInterval: DefaultFlushInterval,
		closeTimeout: DefaultCloseTimeout, requestTimeout: DefaultRequestTimeout, queueSize: DefaultQueueSize,
	}
}

func (s *eventSettings) mustBePositive(what string, isPositive bool) {
	if !isPositive {
		s.faults = append(s.faults, fmt.Errorf("%s must be positive", what))
	}
}

// WithEventBatchSize sets how many events make a batch. Default 10; 1 sends every
// event at once. With [WithOutbox], unless that is buffered, batches don't fill from call
// to call: the events of one call are one POST, or several of this size if they are more.
// Source: pages.md I-12, event-batching.md EB-P9, ADR 31.
func WithEventBatchSize(events int) Option {
	return func(s *settings) {
		s.events.batchSize = events
		s.events.mustBePositive("event batch size", events > 0)
	}
}

// WithEventFlushInterval sets how long the first event of a batch waits at most
// until the batch is sent. Default 30 s. It has no effect with [WithOutbox], unless that
// is buffered: there events don't wait for a batch.
// Source: pages.md I-12, event-batching.md EB-8, ADR 31.
func WithEventFlushInterval(interval time.Duration) Option {
	return func(s *settings) {
		s.events.flushInterval = interval
		s.events.mustBePositive("event flush interval", interval > 0)
	}
}

// WithCloseTimeout bounds how long [Client.Close] waits for events to be delivered,
// if its context doesn't end sooner: the SDKs' timeout of the event processor.
// Default 30 s. Source: pages.md I-12, event-batching.md EB-P7.
func WithCloseTimeout(timeout time.Duration) Option {
	return func(s *settings) {
		s.events.closeTimeout = timeout
		s.events.mustBePositive("close timeout", timeout > 0)
	}
}

// WithEventQueueSize bounds the events held in memory, those under way included.
// Default 1000; at least a batch. Source: pages.md I-12, event-batching.md section 2.
func WithEventQueueSize(events int) Option {
	return func(s *settings) {
		s.events.queueSize = events
		s.events.mustBePositive("event queue size", events > 0)
	}
}

// BlockWhenFull makes decisions and conversions wait while there is no room for
// their events, at most until their context ends; somebody must have started the
// client for there ever to be room again. By default they don't wait: the event
// fails with [ErrFull], which goes to the caller of TrackEvent and, for impressions,
// to the error handler. It holds for queue and outbox. Source: event-batching.md EB-2.
func BlockWhenFull() Option { return func(s *settings) { s.events.isBlocking = true } }

// WithEventEndpoint sets where events are posted, whatever region the datafile
// names. Source: events.md EV-P1.
func WithEventEndpoint(url string) Option { return func(s *settings) { s.events.endpoint = url } }

// WithEventRequestTimeout bounds one attempt to post a batch. Default 10 s.
// Source: event-batching.md EB-18.
func WithEventRequestTimeout(timeout time.Duration) Option {
	return func(s *settings) {
		s.events.requestTimeout = timeout
		s.events.mustBePositive("event request timeout", timeout > 0)
	}
}

// WithEventDispatcher sends batches by a dispatcher of one's own. Source: pages.md I-5.
func WithEventDispatcher(d EventDispatcher) Option {
	return func(s *settings) { s.events.dispatcher = d }
}

// WithEventProcessor hands events to a processor of one's own; batch, queue,
// dispatcher and outbox options have no effect then. Source: pages.md I-12.
func WithEventProcessor(p EventProcessor) Option { return func(s *settings) { s.events.processor = p } }

// OutboxOptions configure the outbox; the zero value is the most careful choice.
type OutboxOptions struct {
	// IsBuffered lets events wait in memory for a batch to fill, and brings whole
	// batches to the disk. Decisions are as fast as without an outbox, and a crash
	// loses at most the events of the batches not closed yet. By default every event
	// is on disk before the call that made it returns.
	IsBuffered bool
	// Sync says when the disk is forced to store what was written. By default before
	// the call returns; see [sinks.SyncPolicy].
	Sync      sinks.SyncPolicy
	SyncEvery time.Duration // of sinks.SyncInterval; default 1 s
	MaxBytes  int64         // of the files; default 1 GiB
	// MaxRefusedBytes is how much of that what was refused for good may take. At the bound
	// the oldest make way: the error handler has heard of each when it was refused, the log
	// and [OutboxView.Account] tell of it. Default: a quarter of MaxBytes, at most half.
	MaxRefusedBytes int64
	// MaxAge gives events up that could not be delivered for so long: they count as
	// refused. Default: never.
	MaxAge time.Duration
}

// WithOutbox keeps events in a folder until they are delivered or refused for good:
// over restarts, crashes and any time the endpoint is down. An event is on disk
// before the call that made it returns, unless it is buffered. It is sent at least
// once, each time with the same bytes, so that its uuid tells a repeat. Refused
// events stay readable in the folder, within a bound: [Client.Outbox]. One process at a time may use a folder;
// starting finds what the one before left, and sends it.
//
// Unless it is buffered the events of each call are a POST of their own, since they are on
// disk before the next call's are there: a decision is one request. [WithEventBatchSize]
// then only bounds what one call, such as DecideAll, puts into one request, and
// [WithEventFlushInterval] has no effect. ODP events are one by one on disk, but meet in
// batches on their way. Source: ADR 31.
//
// The SDKs keep events in memory only. Source: event-batching.md EB-P4, section 9;
// pages.md O-10.
func WithOutbox(dir string, o OutboxOptions) Option {
	return func(s *settings) {
		s.events.outbox, s.events.outboxOptions = dir, o
		if dir == "" {
			s.events.faults = append(s.events.faults, errors.New("outbox needs a folder"))
		}
	}
}
