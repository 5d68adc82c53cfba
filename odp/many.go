package odp

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
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
	askOne := func(m *miss) {
		results[m.index] = s.ask(ctx, st, s.keyOf(users[m.index]), o, m.old)
		s.stats.count(&results[m.index])
	}
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(len(missing), s.cfg.MaxInFlight) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(missing)); i = next.Add(1) - 1 {
				askOne(&missing[i])
			}
		})
	}
	workers.Wait()
	return dst
}

// A miss is a user who isn't in the cache, or was there for too long.
type miss struct {
	index int
	old   entry
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
		for i := range users {
			k := s.keyOf(users[i])
			e, ok := s.store.find(ctx, k)
			if ok && s.isFresh(&e) {
				results[i] = s.hit(st, k, &e)
			} else {
				missing = append(missing, miss{i, e})
			}
		}
		return missing
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
			missing = append(missing, miss{i, found[i]})
		}
	}
	return missing
}
