package odp

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
)

// flight.go sees to it that a user is asked for once at a time, that requests are
// bounded, and that one caller's giving up is no other caller's failure.

// A flightKey tells requests apart. Requests from before a reset, and those that
// don't save, are not joined by others.
type flightKey struct {
	key
	state      *state
	isUnshared bool // the cache is ignored
}

// A flight is a request for one user, and those who wait for it.
type flight struct {
	done   chan struct{} // never sent on; closed when what follows is set
	result Result
	// isAbandoned: it ended before it began, because who was to begin it gave up.
	isAbandoned bool

	cancel context.CancelCauseFunc // nil: no request yet; guarded by Segments.mu
}

// board joins the flight for a user, or begins one. Without a flight there is the result
// instead.
func (s *Segments) board(ctx context.Context, id flightKey) (*flight, Result) {
	if ctx.Err() != nil {
		return nil, Result{Err: fetchError(cancelled(ctx))}
	}
	f, isFirst := s.join(id)
	switch {
	case f == nil:
		return nil, Result{Err: fetchError(ErrClosed)}
	case isFirst:
		s.begin(ctx, id, f)
	default:
		s.stats.joined.Add(1)
	}
	return f, Result{}
}

// fly waits for a flight that was boarded, and boards one itself if f is nil or has been
// abandoned.
func (s *Segments) fly(ctx context.Context, id flightKey, f *flight) Result {
	for {
		if f == nil {
			var r Result
			if f, r = s.board(ctx, id); f == nil {
				return r
			}
		}
		select {
		case <-f.done:
			if !f.isAbandoned {
				return f.result
			}
			f = nil
		case <-ctx.Done():
			return Result{Err: fetchError(cancelled(ctx))}
		}
	}
}

// join returns the flight of a user, which the first caller must begin; nil after
// Close.
func (s *Segments) join(id flightKey) (f *flight, isFirst bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed {
		return nil, false
	}
	if f := s.flights[id]; f != nil {
		return f, false
	}
	f = &flight{done: make(chan struct{})}
	id.key = id.key.clone()
	s.flights[id] = f
	return f, true
}

// begin waits for a free slot and starts the request, or ends the flight.
func (s *Segments) begin(ctx context.Context, id flightKey, f *flight) {
	if s.isLocal && !id.isUnshared {
		// A flight may have landed since the caller looked.
		if e, ok := s.store.find(ctx, id.key); ok && s.isFresh(&e) {
			s.land(id, f, Result{Segments: slices.Clip(e.segments), Source: FromCache})
			return
		}
	}
	// Those who wait for a slot while ODP hangs needn't wait once it is known.
	if err := s.breaker.check(); err != nil {
		s.land(id, f, Result{Err: fetchError(err)})
		return
	}
	select {
	case s.slots <- struct{}{}:
	case <-s.closing:
		s.land(id, f, Result{Err: fetchError(ErrClosed)})
		return
	case <-ctx.Done():
		f.isAbandoned = true
		s.land(id, f, Result{})
		return
	}
	s.start(ctx, id, f)
}

// start starts the request; a slot is taken.
func (s *Segments) start(ctx context.Context, id flightKey, f *flight) {
	isProbe, err := s.breaker.enter()
	if err != nil {
		<-s.slots
		s.land(id, f, Result{Err: fetchError(err)})
		return
	}
	// It goes on when the caller leaves.
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	s.mu.Lock()
	if s.isClosed {
		s.mu.Unlock()
		cancel(nil)
		<-s.slots
		s.breaker.leave(isProbe, unknown, 0)
		s.land(id, f, Result{Err: fetchError(ErrClosed)})
		return
	}
	f.cancel = cancel
	id.key = id.key.clone() // the caller may be gone before the request
	s.group.Go(func() {
		defer cancel(nil)
		r := s.request(ctx, id, isProbe)
		<-s.slots
		s.land(id, f, r)
	})
	s.mu.Unlock()
}

// land ends a flight.
func (s *Segments) land(id flightKey, f *flight, r Result) {
	f.result = r
	s.mu.Lock()
	delete(s.flights, id)
	s.mu.Unlock()
	close(f.done)
}

// refresh asks for a user in the background, if a slot is free and nobody does so
// already.
func (s *Segments) refresh(st *state, k key) {
	if s.breaker.isOpen() {
		return
	}
	select {
	case s.slots <- struct{}{}:
	default:
		return
	}
	id := flightKey{k, st, false}
	f, isFirst := s.join(id)
	if !isFirst {
		<-s.slots
		return
	}
	s.stats.refreshed.Add(1)
	s.start(context.Background(), id, f)
}

// request asks ODP and keeps the answer.
func (s *Segments) request(ctx context.Context, id flightKey, isProbe bool) Result {
	s.stats.requests.Add(1)
	st := id.state
	segments, err := s.fetch(ctx, Query{Host: st.Host, PublicKey: st.PublicKey, Key: id.name, Value: id.value, Segments: st.Segments})
	o := answered
	switch {
	case ctx.Err() != nil:
		o = unknown
	case isOutage(err):
		o = failed
	}
	opened, closed := s.breaker.leave(isProbe, o, retryAfterOf(err))
	switch {
	case opened:
		s.stats.opened.Add(1)
		s.log.Warn("ODP fails, and isn't asked for segments for a while", "class", ClassOf(err).String())
	case closed:
		s.stats.closed.Add(1)
		s.log.Info("ODP answers again")
	}
	if s.cfg.UnknownIsNone && ClassOf(err) == InvalidIdentifier {
		segments, err = noSegments, nil
	}
	if err != nil {
		return Result{Err: fetchError(err)}
	}
	segments = st.intern(segments)
	if !id.isUnshared && (len(segments) > 0 || !s.cfg.SkipEmpty) {
		s.save(ctx, st, id.key, segments)
	}
	return Result{Segments: segments, Source: FromODP}
}

// fetch calls the fetcher, and gives every failure a class.
func (s *Segments) fetch(ctx context.Context, q Query) ([]string, error) {
	whole := ctx
	if s.own == nil {
		q.Segments = slices.Clone(q.Segments)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.cfg.RequestTimeout, errTimeout)
		defer cancel()
	}
	segments, err := s.cfg.Fetcher.FetchSegments(ctx, q)
	if err == nil {
		return segments, nil
	}
	var known *Error
	switch {
	case whole.Err() != nil:
		return nil, ErrClosed // nothing else ends it
	case errors.As(err, &known) && known.Class != Cancelled:
		return nil, known
	case ctx.Err() != nil:
		err = errTimeout
	}
	return nil, &Error{Class: NetworkError, Err: err}
}

// save keeps an answer, unless it is of a state that is over.
func (s *Segments) save(ctx context.Context, st *state, k key, segments []string) {
	s.changing.RLock()
	defer s.changing.RUnlock()
	if s.state.Load() != st {
		return
	}
	if !s.isLocal { // memory doesn't wait
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, keepTimeout)
		defer cancel()
	}
	s.store.keep(ctx, k, segments)
}

// intern replaces a list by one that thousands of users share: of the same names in the
// same order. The result is never nil.
func (st *state) intern(names []string) []string {
	if len(names) == 0 {
		return noSegments
	}
	var room [64]byte
	text := room[:0]
	for _, name := range names {
		text = append(binary.AppendUvarint(text, uint64(len(name))), name...)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if list, ok := st.lists[string(text)]; ok {
		return list
	}
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = name
		if j := slices.Index(st.Segments, name); j >= 0 {
			list[i] = st.Segments[j]
		}
	}
	if len(st.lists) < maxLists {
		st.lists[string(text)] = list
	}
	return list
}

// maxLists bounds the lists that are shared. Where each user has segments of their own
// there is nothing to share.
const maxLists = 4096
