package emulator

import (
	"context"
	"encoding/json"
	"maps"
	"strings"
	"sync"
	"time"

	"sortition/sinks"
)

// Counts are what was received since the start, or the last Clear. They count
// also what is no longer kept.
type Counts struct {
	Routes      map[Route]RouteCounts `json:"routes"`
	Visitors    int64                 `json:"visitors"` // events of accepted bodies
	Impressions int64                 `json:"impressions"`
	Conversions int64                 `json:"conversions"`
	UUIDs       int                   `json:"uuids"`   // different ones among them
	Repeats     int64                 `json:"repeats"` // events that had come before, and were the same
	// UUIDsUncounted are events beyond Options.MaxUUIDs, whose uuids weren't compared.
	UUIDsUncounted int64                `json:"uuids_uncounted"`
	Problems       map[sinks.Code]int64 `json:"problems"`
	// ODPEvents are the events of accepted bodies for ODP, ODPIDs the different
	// idempotence ids among them; beyond Options.MaxUUIDs they are not told apart.
	ODPEvents int64 `json:"odp_events"`
	ODPIDs    int   `json:"odp_ids"`
	Forgotten int64 `json:"forgotten"` // attempts no longer in memory
}

// RouteCounts are the counts of one route.
type RouteCounts struct {
	Requests int64         `json:"requests"`
	Accepted int64         `json:"accepted"`
	Faults   int64         `json:"faults"`
	Statuses map[int]int64 `json:"statuses"` // 0: not answered
}

// An inbox keeps what was received.
type inbox struct {
	opts Options

	mu        sync.Mutex // guards what follows
	validator *sinks.Validator
	journal   *journal // nil: memory only
	attempts  []*Attempt
	bytes     int64
	seq       int64
	counts    Counts
	uuids     map[string]int
	odpIDs    map[string]int
	changed   chan struct{} // closed and replaced when something comes: capacity 0, nothing is sent
}

// openInbox makes an inbox, and reads the files of an earlier process.
func openInbox(opts Options, validator *sinks.Validator) (*inbox, error) {
	b := &inbox{opts: opts, validator: validator, changed: make(chan struct{})}
	b.reset()
	if opts.Dir == "" {
		return b, nil
	}
	damaged := 0
	var err error
	b.journal, err = openJournal(opts.Dir, opts.FileBytes, func(line []byte) {
		a, err := parseAttempt(line)
		if err != nil {
			damaged++
			return
		}
		b.seq = max(b.seq, a.Seq)
		if a.Route == RouteEvents {
			a.Visitors = visitorsOf(a.Body)
			if a.Accepted {
				validator.Check(a.Body, a.Time) // its memory; the problems were kept
			}
		}
		b.keep(a)
	})
	if damaged > 0 {
		opts.Logger.Warn("some lines of the emulator's files are damaged and were passed over", "lines", damaged)
	}
	return b, err
}

func (b *inbox) reset() {
	b.attempts, b.bytes, b.uuids, b.odpIDs = nil, 0, map[string]int{}, map[string]int{}
	b.counts = Counts{Routes: map[Route]RouteCounts{}, Problems: map[sinks.Code]int64{}}
}

// check holds a body against the validator.
func (b *inbox) check(body []byte, now time.Time) sinks.Report {
	b.mu.Lock()
	v := b.validator
	b.mu.Unlock()
	return v.Check(body, now)
}

// add records an attempt. With files it is in them when add returns.
func (b *inbox) add(a *Attempt) error {
	if a.Route == RouteEvents {
		a.Visitors = visitorsOf(a.Body)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	a.Seq = b.seq + 1
	if b.journal != nil {
		line, err := json.Marshal(a.wire())
		if err != nil {
			panic("BUG: an attempt that is not JSON: " + err.Error())
		}
		if err := b.journal.append(line); err != nil {
			return err
		}
	}
	b.seq++
	b.keep(a)
	if b.opts.Recorded != nil {
		b.opts.Recorded(a)
	}
	close(b.changed)
	b.changed = make(chan struct{})
	return nil
}

// keep counts an attempt and keeps it in memory; the lock is held.
func (b *inbox) keep(a *Attempt) {
	r := b.counts.Routes[a.Route]
	if r.Statuses == nil {
		r.Statuses = map[int]int64{}
	}
	r.Requests++
	r.Statuses[a.Status]++
	if a.Accepted {
		r.Accepted++
	}
	if a.Fault != "" {
		r.Faults++
	}
	b.counts.Routes[a.Route] = r
	for _, p := range a.Problems {
		b.counts.Problems[p.Code]++
	}
	if a.Accepted {
		b.counts.Repeats += int64(a.repeats)
		for i := range a.Visitors {
			b.count(&a.Visitors[i])
		}
		if a.Route == RouteODPEvents {
			b.countODP(a.Body)
		}
	}
	b.attempts = append(b.attempts, a)
	b.bytes += int64(len(a.Body))
	for len(b.attempts) > b.opts.MaxAttempts || b.bytes > b.opts.MaxBytes && len(b.attempts) > 1 {
		b.bytes -= int64(len(b.attempts[0].Body))
		b.attempts[0] = nil
		b.attempts = b.attempts[1:]
		b.counts.Forgotten++
	}
}

func (b *inbox) count(v *Visitor) {
	b.counts.Visitors++
	if v.Impression {
		b.counts.Impressions++
	} else {
		b.counts.Conversions++
	}
	if _, ok := b.uuids[v.UUID]; !ok && len(b.uuids) >= b.opts.MaxUUIDs {
		b.counts.UUIDsUncounted++
		return
	}
	b.uuids[v.UUID]++
	b.counts.UUIDs = len(b.uuids)
}

// countODP counts the events of an accepted body for ODP.
func (b *inbox) countODP(body []byte) {
	var events []struct {
		Data struct {
			ID string `json:"idempotence_id"`
		} `json:"data"`
	}
	if json.Unmarshal(body, &events) != nil {
		return // a fault has made it count as accepted
	}
	for i := range events {
		b.counts.ODPEvents++
		if id := events[i].Data.ID; b.odpIDs[id] > 0 || len(b.odpIDs) < b.opts.MaxUUIDs {
			b.odpIDs[id]++
		}
	}
	b.counts.ODPIDs = len(b.odpIDs)
}

func (b *inbox) clear() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reset()
	b.validator = b.validator.Fresh()
	if b.journal == nil {
		return nil
	}
	return b.journal.clear()
}

func (b *inbox) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.journal == nil {
		return nil
	}
	return b.journal.close()
}

// Attempts returns what is kept of the requests to a route, oldest first: to its
// path and all that begin so; "" is all routes.
func (e *Emulator) Attempts(route string) []Attempt {
	return e.inbox.list(func(a *Attempt) bool { return strings.HasPrefix(a.Path, route) })
}

// Received returns what is kept of the event bodies that took effect, oldest
// first. A body that was delivered twice is there twice.
func (e *Emulator) Received() []Attempt {
	return e.inbox.list(func(a *Attempt) bool { return a.Route == RouteEvents && a.Accepted })
}

func (b *inbox) list(wanted func(*Attempt) bool) []Attempt {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []Attempt
	for _, a := range b.attempts {
		if wanted(a) {
			list = append(list, *a)
		}
	}
	return list
}

// Visitors returns the events of [Emulator.Received], in order.
func (e *Emulator) Visitors() []Visitor {
	var list []Visitor
	for _, a := range e.Received() {
		list = append(list, a.Visitors...)
	}
	return list
}

// UUIDs returns how often the event of each uuid was received and took effect,
// also of bodies no longer kept.
func (e *Emulator) UUIDs() map[string]int {
	e.inbox.mu.Lock()
	defer e.inbox.mu.Unlock()
	return maps.Clone(e.inbox.uuids)
}

// ODPIDs returns how often the ODP event of each idempotence id was accepted, also of
// bodies no longer kept.
func (e *Emulator) ODPIDs() map[string]int {
	e.inbox.mu.Lock()
	defer e.inbox.mu.Unlock()
	return maps.Clone(e.inbox.odpIDs)
}

// Counts returns the counts of now.
func (e *Emulator) Counts() Counts {
	e.inbox.mu.Lock()
	defer e.inbox.mu.Unlock()
	c := e.inbox.counts
	c.Problems = maps.Clone(c.Problems)
	c.Routes = make(map[Route]RouteCounts, len(c.Routes))
	for route, r := range e.inbox.counts.Routes {
		r.Statuses = maps.Clone(r.Statuses)
		c.Routes[route] = r
	}
	return c
}

// Requests returns how many requests a route had.
func (e *Emulator) Requests(route Route) int { return int(e.Counts().Routes[route].Requests) }

// Clear forgets what was received, the files of it too, and counts from zero.
// Faults and what was set stay.
func (e *Emulator) Clear() error {
	err := e.inbox.clear()
	e.log.Info("cleared what was received")
	return err
}

// Await waits until a condition holds; it is asked now and after each request.
// The error is the context's.
func (e *Emulator) Await(ctx context.Context, holds func() bool) error {
	for {
		e.inbox.mu.Lock()
		changed := e.inbox.changed
		e.inbox.mu.Unlock()
		if holds() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
