package odp

import (
	"context"
	"slices"
)

// FetchMany finds out the segments of the users of a micro-batch: one result each, in
// their order. Users in the cache cost no goroutine; for the others at most
// Config.MaxInFlight requests are under way. A user who appears twice is asked for
// once. With [ResetCache], the cache is reset once, before all.
func (s *Segments) FetchMany(ctx context.Context, users []User, o Options) []Result {
	return s.AppendMany(ctx, make([]Result, 0, len(users)), users, o)
}

// AppendMany is FetchMany that appends its results to dst.
func (s *Segments) AppendMany(ctx context.Context, dst []Result, users []User, o Options) []Result {
	from := len(dst)
	dst = slices.Grow(dst, len(users))[:from+len(users)]
	results := dst[from:]
	st, r := s.ready()
	if st != nil && o&ResetCache != 0 {
		s.Reset(ctx)
		st, r = s.ready()
	}
	if st == nil {
		for i := range results {
			results[i] = r
			s.stats.count(&r)
		}
		return dst
	}
	missing := s.lookUp(ctx, st, users, results, o)
	if len(missing) == 0 {
		return dst
	}
	// All requests are begun before one is waited for. Each is in a goroutine of its own
	// as it is, so that nothing else has to be.
	for i := range missing {
		m := &missing[i]
		s.stats.misses.Add(1)
		m.id = flightKey{s.keyOf(users[m.index]), st, o&IgnoreCache != 0}
		m.flight, results[m.index] = s.board(ctx, m.id)
	}
	for i := range missing {
		m := &missing[i]
		r := &results[m.index]
		if m.flight != nil {
			*r = s.fly(ctx, m.id, m.flight)
		}
		*r = s.orStale(*r, o, m.old)
		s.stats.count(r)
	}
	return dst
}

// Known tells of each of the users, in their order, whether their segments are known
// without asking anybody: because the cache in memory has them, or because there is
// nothing to ask for. It waits for nothing, and is for who has something to do while the
// others are asked for: with [Segments.Resolve], also who is due for a refresh ahead.
// told must not come back to s; the lists are shared, and those that are known never nil.
// It doesn't allocate. Of a cache that isn't in memory nobody is known.
func (s *Segments) Known(users []User, told func(i int, segments []string, isKnown bool)) {
	st, r := s.ready()
	lru, _ := s.store.(*LRU)
	if st == nil || !s.isLocal {
		for i := range users {
			told(i, r.Segments, st == nil && r.Err == nil)
		}
		return
	}
	hits := uint64(0)
	lru.each(len(users), func(i int) key { return s.keyOf(users[i]) }, func(i int, e entry, ok bool) {
		if !ok || !s.isFresh(&e) || s.isDue(&e) {
			told(i, nil, false)
			return
		}
		hits++
		told(i, fromCache(&e).Segments, true)
	})
	s.stats.hits.Add(hits)
}

// A miss is a user who isn't in the cache, or was there for too long.
type miss struct {
	index  int
	old    entry
	id     flightKey
	flight *flight
}

// lookUp answers what the cache can, and lists the others.
func (s *Segments) lookUp(ctx context.Context, st *state, users []User, results []Result, o Options) (missing []miss) {
	if o&(IgnoreCache|ResetCache) != 0 {
		missing = make([]miss, len(users))
		for i := range missing {
			missing[i].index = i
		}
		return missing
	}
	if s.isLocal {
		return s.lookUpLocal(st, users, results)
	}
	keys := make([]key, len(users))
	found := make([]entry, len(users))
	has := make([]bool, len(users))
	for i := range users {
		keys[i] = s.keyOf(users[i])
	}
	s.store.findMany(ctx, keys, func(i int, e entry) { found[i], has[i] = e, true })
	for i := range users {
		if has[i] && s.isFresh(&found[i]) {
			results[i] = s.hit(st, keys[i], &found[i])
		} else {
			missing = append(missing, miss{index: i, old: found[i]})
		}
	}
	return missing
}

// lookUpLocal is lookUp in memory: the cache is locked once, for all.
func (s *Segments) lookUpLocal(st *state, users []User, results []Result) (missing []miss) {
	lru, _ := s.store.(*LRU)
	hits := 0
	var due []int
	lru.each(len(users), func(i int) key { return s.keyOf(users[i]) }, func(i int, e entry, ok bool) {
		if !ok || !s.isFresh(&e) {
			missing = append(missing, miss{index: i, old: e})
			return
		}
		hits++
		results[i] = fromCache(&e)
		if s.isDue(&e) {
			due = append(due, i)
		}
	})
	s.stats.hits.Add(uint64(hits))
	for _, i := range due {
		s.refresh(st, s.keyOf(users[i]))
	}
	return missing
}
