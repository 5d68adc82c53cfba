package odp

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options of a fetch, joined with |. Source: odp.md section 3.
type Options uint8

// The options.
const (
	IgnoreCache Options = 1 << iota // neither look into the cache nor save to it
	ResetCache                      // empty the whole cache first, for all users
	AllowStale                      // if ODP fails for now, an old answer will do; see Config.StaleFor
)

// A User is whom to ask for. Its strings are copied where they are kept.
type User struct {
	Key   string // identifier; "": Config.UserKey
	Value string
}

// A Source tells where segments come from.
type Source uint8

// The sources.
const (
	FromNowhere Source = iota // there was nothing to check, or an error
	FromCache
	FromODP
	FromStale // from the cache, past its time, because ODP fails
)

// A Result is what is known of a user: the segments, never nil, or why they can't be
// had. The segments are shared with the cache and must not be changed.
type Result struct {
	Segments []string
	Source   Source
	Err      error // an [*Error], wrapped
}

// Segments finds out which segments users qualify for. Make one with [NewSegments],
// tell it the integration with [Segments.Update], and close it. Safe for concurrent
// use.
type Segments struct {
	cfg     Config
	log     *slog.Logger
	own     *GraphQL // nil: the fetcher is somebody else's
	store   store
	isLocal bool // the store is memory: looking twice costs nothing
	breaker breaker
	slots   chan struct{} // capacity: requests under way at once
	state   atomic.Pointer[state]
	stats   counters

	// changing is held to replace state and reset the cache; readers save. Thus
	// nothing of an older state is saved after a reset.
	changing sync.RWMutex

	mu       sync.Mutex // guards what follows
	flights  map[flightKey]*flight
	isClosed bool
	closing  chan struct{}  // never sent on; closed by Close
	group    sync.WaitGroup // flights under way
}

// A state is one integration between two resets of the cache.
type state struct {
	Integration

	mu    sync.Mutex
	lists map[string][]string // answers, by their names; see intern
}

func newState(i Integration) *state { return &state{Integration: i, lists: map[string][]string{}} }

// NewSegments makes a Segments that isn't ready before Update.
func NewSegments(cfg Config) (*Segments, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure segments: %w", err)
	}
	s := &Segments{
		cfg: cfg, log: cfg.Logger, breaker: breaker{most: cfg.BreakerFailures}, slots: make(chan struct{}, cfg.MaxInFlight),
		flights: map[flightKey]*flight{}, closing: make(chan struct{}),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.cfg.RequestTimeout == 0 {
		s.cfg.RequestTimeout = DefaultTimeout
	}
	if s.cfg.Fetcher == nil {
		if cfg.Transport == nil {
			s.own = &GraphQL{newPoster(nil, s.cfg.RequestTimeout, cfg.MaxInFlight)}
		} else {
			s.own = NewGraphQL(s.cfg.RequestTimeout, cfg.Transport)
		}
		s.cfg.Fetcher = s.own
	}
	switch c := cfg.Cache.(type) {
	case nil:
		lru := NewLRU(cfg.CacheSize, cfg.CacheTimeout)
		lru.staleFor = cfg.StaleFor
		s.store, s.isLocal = lru, true
	case store:
		s.store = c
		if r, ok := c.(*Redis); ok {
			r.configure(cfg.CacheTimeout, cfg.StaleFor, s.log)
		}
	default:
		s.store = foreign{c}
	}
	return s, nil
}

// Update tells the integration of the datafile in force. If it differs from the one
// before, the cache is reset; the order of segments is no difference.
// Source: odp.md OD-38, OD-39, OD-P12.
func (s *Segments) Update(ctx context.Context, i Integration) (isChanged bool) {
	if before := s.state.Load(); before != nil && before.same(&i) {
		return false
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	next := newState(i.clone())
	if before := s.state.Load(); before != nil && before.same(&i) {
		return false
	}
	s.store.use(ctx, &next.Integration)
	s.state.Store(next)
	return true
}

// Reset empties the cache. Answers under way don't get into it any more.
func (s *Segments) Reset(ctx context.Context) {
	s.changing.Lock()
	defer s.changing.Unlock()
	if before := s.state.Load(); before != nil {
		s.state.Store(newState(before.Integration))
	}
	s.store.reset(ctx)
	s.stats.resets.Add(1)
}

// ready is steps 2 to 5 of odp.md section 3: it returns the state to go on with, or
// nil and the result.
func (s *Segments) ready() (*state, Result) {
	st := s.state.Load()
	switch {
	case st == nil:
		return nil, Result{Err: fetchError(ErrNotReady)}
	case s.cfg.IsDisabled:
		return nil, Result{Err: fetchError(ErrDisabled)}
	case !st.IsIntegrated():
		return nil, Result{Err: fetchError(ErrNotIntegrated)}
	case len(st.Segments) == 0:
		return nil, Result{Segments: noSegments}
	}
	return st, Result{}
}

var noSegments = []string{}

// Fetch finds out one user's segments. It returns when they are known, when it is
// known why they can't be had, or when ctx ends; a request under way then goes on for
// others, and for the cache. A hit in the cache in memory doesn't allocate.
// Source: odp.md section 3.
func (s *Segments) Fetch(ctx context.Context, u User, o Options) Result {
	st, r := s.ready()
	if st == nil {
		s.stats.count(&r)
		return r
	}
	if o&ResetCache != 0 {
		s.Reset(ctx)
		if st, r = s.ready(); st == nil {
			return r
		}
	}
	k := s.keyOf(u)
	var old entry
	if o&(IgnoreCache|ResetCache) == 0 {
		e, ok := s.store.find(ctx, k)
		if ok && s.isFresh(&e) {
			return s.hit(st, k, &e)
		}
		old = e
	}
	r = s.ask(ctx, st, k, o, old)
	s.stats.count(&r)
	return r
}

func (s *Segments) keyOf(u User) key {
	if u.Key == "" {
		u.Key = s.cfg.UserKey
	}
	return key{u.Key, u.Value}
}

// isFresh tells whether an entry is a hit.
func (s *Segments) isFresh(e *entry) bool {
	if s.cfg.SkipEmpty && len(e.segments) == 0 {
		return false
	}
	return s.cfg.CacheTimeout <= 0 || e.age < s.cfg.CacheTimeout
}

// hit answers from the cache, and has users refreshed whose time is nearly over.
func (s *Segments) hit(st *state, k key, e *entry) Result {
	s.stats.hits.Add(1)
	if s.isDue(e) {
		s.refresh(st, k)
	}
	return fromCache(e)
}

// isDue tells whether the time of a hit is nearly over.
func (s *Segments) isDue(e *entry) bool {
	return s.cfg.RefreshAhead > 0 && s.cfg.CacheTimeout > 0 && e.age >= s.cfg.CacheTimeout-s.cfg.RefreshAhead
}

func fromCache(e *entry) Result {
	if e.segments == nil {
		return Result{Segments: noSegments, Source: FromCache}
	}
	return Result{Segments: slices.Clip(e.segments), Source: FromCache}
}

// ask asks ODP, and falls back to an old answer where that is allowed.
func (s *Segments) ask(ctx context.Context, st *state, k key, o Options, old entry) Result {
	s.stats.misses.Add(1)
	return s.orStale(s.fly(ctx, flightKey{k, st, o&IgnoreCache != 0}, nil), o, old)
}

// orStale is a result, or the old answer in its place where that is allowed.
func (s *Segments) orStale(r Result, o Options, old entry) Result {
	if r.Err != nil && o&AllowStale != 0 && old.segments != nil && isForNow(r.Err) {
		s.stats.stale.Add(1)
		return Result{Segments: slices.Clip(old.segments), Source: FromStale}
	}
	return r
}

// isForNow tells whether an old answer is better than a failure: not when ODP says
// something about this user.
func isForNow(err error) bool {
	return IsTransient(err) || isOutage(err)
}

// Close ends the requests under way, waits for them and drops idle connections.
// Fetches fail from now on with [ErrClosed] unless the cache answers.
func (s *Segments) Close() {
	s.mu.Lock()
	if !s.isClosed {
		s.isClosed = true
		close(s.closing)
		for _, f := range s.flights {
			if f.cancel != nil {
				f.cancel(ErrClosed)
			}
		}
	}
	s.mu.Unlock()
	s.group.Wait()
	if s.own != nil {
		s.own.Close()
	}
}

// keepTimeout is the time the store gets to keep an answer nobody waits for.
const keepTimeout = time.Second
