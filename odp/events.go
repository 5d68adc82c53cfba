package odp

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// EventsConfig of an [Events]. Begin with [DefaultEventsConfig]. Source: odp.md
// sections 2 and 5.4.
type EventsConfig struct {
	IsDisabled bool   // nothing is sent. Source: odp.md OD-4
	Sender     Sender // in the data of all events

	API            EventAPI          // default: [REST] with the two that follow
	Transport      http.RoundTripper // of requests; default: an own pool
	RequestTimeout time.Duration     // 0 stands for the default, 10 s

	BatchSize int // 1 to 10; default 10
	// FlushInterval is how long the first event of a batch waits at most. Default
	// 1 s; 0 makes batches of one.
	FlushInterval time.Duration
	Capacity      int // events held in memory, those under way included; default 10,000
	Concurrency   int // batches under way at once; default 1
	Attempts      int // for a batch in memory; default 4
	CloseTimeout  time.Duration

	// NewID makes idempotence ids for events without one. Default: random UUIDs.
	NewID func() string
	// Queue keeps events on disk first. Default: memory.
	Queue Queue
	// OnFailure is handed the batches from memory that were refused or tried too often,
	// after which they are forgotten. It must be there: nothing is dropped silently.
	OnFailure func(EventBatch, error)
	Logger    *slog.Logger // default: nobody
}

// DefaultEventsConfig is the SDKs' behaviour with the Go SDK's capacity.
// Source: odp.md OD-P11.
func DefaultEventsConfig() EventsConfig {
	return EventsConfig{
		RequestTimeout: DefaultTimeout, BatchSize: maxBatch, FlushInterval: time.Second, Capacity: 10_000, Concurrency: 1,
		Attempts: DefaultAttempts, CloseTimeout: 10 * time.Second, Sender: Sender{Name: "sortition", Version: "0"},
	}
}

const maxBatch = 10

// Validate reports all faults.
func (c *EventsConfig) Validate() error {
	var faults []error
	fault := func(is bool, text string) {
		if is {
			faults = append(faults, errors.New(text))
		}
	}
	fault(c.RequestTimeout < 0, "the request timeout must not be negative")
	fault(c.BatchSize < 1 || c.BatchSize > maxBatch, "the batch size must be 1 to 10")
	fault(c.FlushInterval < 0, "the flush interval must not be negative")
	fault(c.Capacity < c.BatchSize, "the capacity must be at least the batch size")
	fault(c.Concurrency < 1 || c.Concurrency > 1000, "the concurrency must be 1 to 1000")
	fault(c.Attempts < 1, "there must be at least one attempt")
	fault(c.CloseTimeout <= 0, "the close timeout must be positive")
	fault(c.OnFailure == nil, "somebody must take the batches that can't be delivered")
	return errors.Join(faults...)
}

// A Record is one event in a [Queue]: where it goes, and what is sent.
type Record struct {
	// Host and PublicKey are "" if the event was taken before there was a datafile: it
	// goes where the first one says.
	Host, PublicKey string
	Event           []byte // a JSON object
}

// A Queue keeps events until they are delivered: an outbox on disk. What it holds it
// gives to [Events.Deliver], side by side and again after a crash, until that returns
// nil or an error that isn't transient.
type Queue interface {
	Append(ctx context.Context, r Record) error
}

// Events sends ODP events. Make one with [NewEvents], tell it the integration with
// [Events.Update], have it Run, and close it. Safe for concurrent use.
//
// What is guaranteed: with a Queue, an event for which SendEvent returned nil is
// delivered at least once, or refused for good by ODP, however often the process ends
// in between. That holds for events from before the first Update too: they wait in the
// queue until host and key are known; if the datafile then names none, they are refused.
// Whether there will ever be a datafile nobody can promise. Source: pages.md O-10.
//
// Without a Queue, events from before the first Update are not taken. For the others at
// most Attempts requests are made, and they are lost with the process; but never silently
// while that runs.
type Events struct {
	cfg   EventsConfig
	log   *slog.Logger
	own   *REST // nil: the API is somebody else's
	state atomic.Pointer[Integration]
	known chan struct{} // never sent on; closed by the first Update
	first sync.Once     // closes known
	stats eventCounters

	wake chan struct{} // capacity 1: there is something to look at; a second signal would say the same
	done chan struct{} // closed when Run has returned

	mu         sync.Mutex // guards what follows
	filling    []*item
	deadline   time.Time // of the batch being filled
	queue      []*batch  // closed, oldest first
	numBatches uint64    // closed so far
	sending    map[*batch]bool
	held       int // events in memory
	isRunning  bool
	isDraining bool
	isClosing  bool
	cut        context.CancelFunc // ends Run; nil unless running
}

// An item is an event that waits for its batch.
type item struct {
	Record
	outcome chan error // capacity 1: whoever delivers never waits. nil: nobody waits for it
}

// NewEvents makes an Events that takes nothing before Update unless there is a [Queue],
// and sends nothing before Run.
func NewEvents(cfg EventsConfig) (*Events, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure ODP events: %w", err)
	}
	if cfg.FlushInterval == 0 {
		cfg.BatchSize, cfg.FlushInterval = 1, time.Second
	}
	if cfg.NewID == nil {
		cfg.NewID = newUUID
	}
	e := &Events{
		cfg: cfg, log: cfg.Logger, known: make(chan struct{}), wake: make(chan struct{}, 1), done: make(chan struct{}), sending: map[*batch]bool{},
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if cfg.API == nil {
		e.own = NewREST(cfg.RequestTimeout, cfg.Transport)
		e.cfg.API = e.own
	}
	return e, nil
}

// Update tells the integration of the datafile in force. If host, key or segments
// differ, the batch being filled is sent, with the host and key it was made for.
// Source: odp.md OD-38, OD-39.
func (e *Events) Update(i Integration) (isChanged bool) {
	next := i.clone()
	before := e.state.Swap(&next)
	e.first.Do(func() { close(e.known) })
	if before != nil && before.same(&next) {
		return false
	}
	e.Flush()
	return true
}

// SendEvent checks and completes an event and queues it: on disk when it returns, if
// there is a [Queue], which also takes events from before the first Update. The errors
// are ErrInvalidEvent, ErrNotReady (only without a queue), ErrDisabled, ErrNotIntegrated,
// ErrFull, ErrClosed, or the queue's; the event is not taken then.
// Source: odp.md section 5.2, OD-P6; pages.md O-10.
func (e *Events) SendEvent(ctx context.Context, event Event) error {
	if err := e.send(ctx, &event); err != nil {
		e.stats.rejected.Add(1)
		return fmt.Errorf("send ODP event: %w", err)
	}
	e.stats.taken.Add(1)
	return nil
}

func (e *Events) send(ctx context.Context, event *Event) error {
	if err := event.checkHead(); err != nil {
		return err
	}
	i := e.state.Load()
	switch {
	case i == nil && e.cfg.Queue == nil:
		return ErrNotReady
	case e.cfg.IsDisabled:
		return ErrDisabled
	case i != nil && !i.IsIntegrated():
		return ErrNotIntegrated
	}
	if event.ID == "" {
		event.ID = e.cfg.NewID()
	}
	text, err := AppendEvent(nil, event, e.cfg.Sender)
	if err != nil {
		return err
	}
	r := Record{Event: text}
	if i != nil {
		r.Host, r.PublicKey = i.Host, i.PublicKey
	}
	if e.cfg.Queue == nil {
		return e.add(&item{Record: r})
	}
	e.mu.Lock()
	isClosing := e.isClosing
	e.mu.Unlock()
	if isClosing {
		return ErrClosed
	}
	return e.cfg.Queue.Append(ctx, r)
}

// Identify ties a user's identifiers together: an event of the action "identified".
// Empty ones are left out; it is sent only if two or more remain. If ODP is disabled,
// not integrated or not ready, nothing is sent and that is no error.
// Source: odp.md OD-26 to OD-29.
func (e *Events) Identify(ctx context.Context, identifiers map[string]string) error {
	kept := maps.Clone(identifiers)
	maps.DeleteFunc(kept, func(_, value string) bool { return value == "" })
	if len(kept) < 2 {
		return nil
	}
	i := e.state.Load()
	if e.cfg.IsDisabled || i == nil || !i.IsIntegrated() {
		e.log.Debug("not identified: ODP is disabled, not integrated or not ready")
		return nil
	}
	return e.SendEvent(ctx, Event{Action: Identified, Identifiers: kept})
}

// Deliver sends an event of a [Queue], in a batch with others that are being delivered
// or wait in memory. It returns nil when that is accepted, an error that isn't
// transient when ODP refused it for good, or a transient one when ctx or Run ended. It
// tries until then.
//
// A record without a host waits for the first Update, and is refused with
// [ErrNotIntegrated] if that says that there is no ODP.
func (e *Events) Deliver(ctx context.Context, r Record) error {
	if r.Host == "" {
		select {
		case <-e.known:
		case <-e.done:
			return fmt.Errorf("deliver ODP event: %w", ErrClosed)
		case <-ctx.Done():
			return fmt.Errorf("deliver ODP event: %w", cancelled(ctx))
		}
		i := e.state.Load()
		if !i.IsIntegrated() {
			e.stats.refused.Add(1)
			return fmt.Errorf("deliver ODP event: %w", ErrNotIntegrated)
		}
		r.Host, r.PublicKey = i.Host, i.PublicKey
	}
	it := &item{Record: r, outcome: make(chan error, 1)}
	if err := e.add(it); err != nil {
		return fmt.Errorf("deliver ODP event: %w", err)
	}
	select {
	case err := <-it.outcome:
		if err != nil {
			return fmt.Errorf("deliver ODP event: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("deliver ODP event: %w", cancelled(ctx))
	}
}

// newUUID makes a random UUID of version 4.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	text := make([]byte, 0, 36)
	for i, part := range [][]byte{b[:4], b[4:6], b[6:8], b[8:10], b[10:]} {
		if i > 0 {
			text = append(text, '-')
		}
		text = hex.AppendEncode(text, part)
	}
	return string(text)
}

type eventCounters struct {
	taken, rejected, delivered, refused, batches, attempts atomic.Uint64
}

// EventStats are an [Events]' counters since it was made.
type EventStats struct {
	Taken     uint64 // events SendEvent returned nil for
	Rejected  uint64 // events it returned an error for
	Delivered uint64 // events accepted by ODP
	Failed    uint64 // events refused, or handed to OnFailure or back by Close
	Batches   uint64 // batches accepted
	Attempts  uint64 // requests
	Held      int    // events in memory now
}

// Stats reads the counters. Each is exact; they aren't read in one instant.
func (e *Events) Stats() EventStats {
	e.mu.Lock()
	held := e.held
	e.mu.Unlock()
	c := &e.stats
	return EventStats{
		Taken: c.taken.Load(), Rejected: c.rejected.Load(), Delivered: c.delivered.Load(), Failed: c.refused.Load(),
		Batches: c.batches.Load(), Attempts: c.attempts.Load(), Held: held,
	}
}
