package odp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"sortition/internal/emulator"
)

// TestNotReady is odp.md section 7, and the order of the steps in section 3.
func TestNotReady(t *testing.T) {
	f := &fake{}
	c := &ownCache{lists: map[string][]string{"fs_user_id-$-u": {"vip"}}}
	newOne := func(disabled bool) *Segments {
		cfg := DefaultConfig()
		cfg.Fetcher, cfg.Cache, cfg.IsDisabled = f, c, disabled
		s, err := NewSegments(cfg)
		require.NoError(t, err)
		t.Cleanup(s.Close)
		return s
	}
	s := newOne(false)
	both := func(want *Error) {
		t.Helper()
		r := s.Fetch(t.Context(), User{Value: "u"}, ResetCache)
		require.ErrorIs(t, r.Err, want)
		require.Nil(t, r.Segments)
		for _, r := range s.FetchMany(t.Context(), []User{{Value: "u"}, {Value: "v"}}, ResetCache) {
			require.ErrorIs(t, r.Err, want)
		}
	}
	both(ErrNotReady)
	s.Update(t.Context(), Integration{Segments: []string{"vip"}})
	both(ErrNotIntegrated)
	s.Update(t.Context(), Integration{Host: "http://odp.test", Segments: []string{"vip"}})
	both(ErrNotIntegrated)
	s.Update(t.Context(), Integration{PublicKey: "k", Segments: []string{"vip"}})
	both(ErrNotIntegrated)
	s = newOne(true)
	both(ErrNotReady)
	s.Update(t.Context(), Integration{Host: "http://odp.test", PublicKey: "k", Segments: []string{"vip"}})
	both(ErrDisabled)

	// Nothing to check: none, no request, the cache untouched.
	s = newOne(false)
	s.Update(t.Context(), Integration{Host: "http://odp.test", PublicKey: "k"})
	c.Save("fs_user_id-$-u", []string{"vip"})
	c.resets = 0
	require.Equal(t, Result{Segments: []string{}}, s.Fetch(t.Context(), User{Value: "u"}, ResetCache))
	require.Equal(t, []Result{{Segments: []string{}}}, s.FetchMany(t.Context(), []User{{Value: "u"}}, ResetCache))
	require.Zero(t, c.resets)
	require.Zero(t, f.requests())
}

// TestUpdate is odp.md section 6.
func TestUpdate(t *testing.T) {
	base := Integration{Host: "http://odp.test", PublicKey: "k", Segments: []string{"vip", "b2"}}
	for _, row := range []struct {
		name      string
		next      Integration
		isChanged bool
	}{
		{"same", base, false},
		{"order and repeats", Integration{base.Host, base.PublicKey, []string{"b2", "vip", "b2"}}, false},
		{"host", Integration{"http://other.test", base.PublicKey, base.Segments}, true},
		{"key", Integration{base.Host, "other", base.Segments}, true},
		{"one more", Integration{base.Host, base.PublicKey, []string{"vip", "b2", "new"}}, true},
		{"one less", Integration{base.Host, base.PublicKey, []string{"vip"}}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := &fake{users: map[string][]string{"u": {"vip"}}}
			s := newFaked(t, f, nil)
			defer s.Close()
			s.Update(t.Context(), base)
			fetch(t, s, "u", 0)
			require.Equal(t, row.isChanged, s.Update(t.Context(), row.next))
			fetch(t, s, "u", 0)
			want := 1
			if row.isChanged {
				want = 2
			}
			require.Equal(t, want, f.requests())
			last := f.asked[len(f.asked)-1]
			if row.isChanged {
				asked := Integration{last.Host, last.PublicKey, last.Segments}
				require.Equal(t, row.next, asked)
			}
			s.Update(t.Context(), Integration{})
			require.ErrorIs(t, s.Fetch(t.Context(), User{Value: "u"}, 0).Err, ErrNotIntegrated)
		})
	}
	i := Integration{Segments: []string{"b", "a", "b"}}
	c := i.clone()
	require.Equal(t, []string{"b", "a"}, c.Segments) // odp.md OD-P1
}

// TestLateAnswers of before a reset or an update don't get into the cache, nor to
// those who ask after it.
func TestLateAnswers(t *testing.T) {
	for name, change := range map[string]func(*Segments){
		"reset": func(s *Segments) { s.Reset(t.Context()) },
		"update": func(s *Segments) {
			s.Update(t.Context(), Integration{Host: "http://odp.test", PublicKey: "k2", Segments: []string{"vip"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{users: map[string][]string{"u": {"vip"}}, delay: time.Second}
				s := newFaked(t, f, nil)
				defer s.Close()
				early := make(chan Result, 1) // one answer
				go func() { early <- s.Fetch(t.Context(), User{Value: "u"}, 0) }()
				synctest.Wait()
				change(s)
				fetch(t, s, "u", 0)
				require.Equal(t, 2, f.requests(), "it didn't join the older flight")
				require.NoError(t, (<-early).Err)
				fetch(t, s, "u", 0)
				require.Equal(t, 2, f.requests(), "the younger answer is kept")
				// And with the younger one first, the older isn't kept over it.
				s.Reset(t.Context())
				require.Equal(t, 0, s.store.(*LRU).Len())
			})
		})
	}
}

// TestOneFlight: parallel misses of a user are one request. Source: odp.md OD-P3.
func TestOneFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{users: map[string][]string{"u": {"vip"}}, delay: time.Second}
		s := newFaked(t, f, nil)
		defer s.Close()
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() { fetch(t, s, "u", 0) })
		}
		users := make([]User, 50)
		for i := range users {
			users[i].Value = "u"
		}
		all.Go(func() {
			for _, r := range s.FetchMany(t.Context(), users, 0) {
				require.NoError(t, r.Err)
			}
		})
		all.Wait()
		require.Equal(t, 1, f.requests())
		require.Equal(t, 100+50, int(s.Stats().Hits+s.Stats().Misses))
	})
}

// TestGivingUp: who leaves does not end it for others, nor for the cache.
func TestGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{users: map[string][]string{"u": {"vip"}}, delay: time.Second}
		s := newFaked(t, f, nil)
		defer s.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		other := make(chan Result, 1) // one answer
		go func() {
			time.Sleep(10 * time.Millisecond)
			other <- s.Fetch(t.Context(), User{Value: "u"}, 0)
		}()
		r := s.Fetch(ctx, User{Value: "u"}, 0)
		require.Equal(t, Cancelled, ClassOf(r.Err))
		require.ErrorIs(t, r.Err, context.DeadlineExceeded)
		require.Equal(t, []string{"vip"}, (<-other).Segments)
		require.Equal(t, 1, f.requests())

		// Alone, too: the answer is there for the next one.
		ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		require.Error(t, s.Fetch(ctx, User{Value: "v"}, 0).Err)
		time.Sleep(time.Second)
		require.Equal(t, FromCache, fetch(t, s, "v", 0).Source)
	})
}

// TestLeaderGivesUpWaiting: the one who was to begin leaves while all slots are taken;
// another one begins then.
func TestLeaderGivesUpWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{users: map[string][]string{"u": {"vip"}}, hold: make(chan struct{})}
		s := newFaked(t, f, func(c *Config) { c.MaxInFlight = 1 })
		defer s.Close()
		go s.Fetch(t.Context(), User{Value: "busy"}, 0)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		go s.Fetch(ctx, User{Value: "u"}, 0)
		synctest.Wait()
		second := make(chan Result, 1) // one answer
		go func() { second <- s.Fetch(t.Context(), User{Value: "u"}, 0) }()
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(f.hold)
		require.Equal(t, []string{"vip"}, (<-second).Segments)
	})
}

// TestBounded: never more than so many requests at once.
func TestBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{delay: time.Second}
		s := newFaked(t, f, func(c *Config) { c.MaxInFlight = 7 })
		defer s.Close()
		users := make([]User, 100)
		for i := range users {
			users[i].Value = fmt.Sprint(i)
		}
		var all sync.WaitGroup
		for from := 0; from < 100; from += 25 {
			all.Go(func() { s.FetchMany(t.Context(), users[from:from+25], 0) })
		}
		all.Wait()
		require.Equal(t, 100, f.requests())
		require.Equal(t, 7, f.most)
	})
}

// TestBreaker opens, stays open for its pause, probes, and closes.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{users: map[string][]string{"u": {"vip"}}}
		s := newFaked(t, f, func(c *Config) { c.BreakerFailures, c.CacheSize = 3, 0 })
		defer s.Close()
		get := func() error { return s.Fetch(t.Context(), User{Value: "u"}, 0).Err }
		// Failures that say nothing about ODP as a whole don't count.
		for _, err := range []*Error{{Class: InvalidIdentifier}, {Class: DecodeError}, {Class: ServerError}, {Class: HTTPError, Status: 403}} {
			f.fail(err)
			for range 5 {
				require.ErrorIs(t, get(), &Error{Class: err.Class})
			}
		}
		require.False(t, s.Stats().IsOpen)
		f.fail(errors.New("connection refused"))
		for range 3 {
			require.ErrorIs(t, get(), ErrNetwork)
		}
		asked := f.requests()
		for range 100 {
			require.ErrorIs(t, get(), ErrCircuitOpen)
		}
		require.Equal(t, asked, f.requests())
		time.Sleep(time.Second)
		require.ErrorIs(t, get(), ErrNetwork, "the probe")
		require.ErrorIs(t, get(), ErrCircuitOpen)
		time.Sleep(1500 * time.Millisecond)
		require.ErrorIs(t, get(), ErrCircuitOpen, "the second pause is longer")
		time.Sleep(500 * time.Millisecond)
		// One probe, whoever else asks.
		f.fail(nil)
		f.hold = make(chan struct{})
		probe := make(chan error, 1) // one answer
		go func() { probe <- get() }()
		synctest.Wait()
		require.ErrorIs(t, s.Fetch(t.Context(), User{Value: "v"}, 0).Err, ErrCircuitOpen)
		close(f.hold)
		require.NoError(t, <-probe)
		require.NoError(t, get())
		st := s.Stats()
		require.EqualValues(t, 1, st.Opened)
		require.EqualValues(t, 1, st.Closed)
		require.False(t, st.IsOpen)
		require.EqualValues(t, 103, st.Failures[CircuitOpen])

		// The server's own wish counts if it is longer.
		f.fail(&Error{Class: HTTPError, Status: 429, RetryAfter: 8 * time.Second})
		for range 3 {
			require.Error(t, get())
		}
		time.Sleep(7 * time.Second)
		require.ErrorIs(t, get(), ErrCircuitOpen)
		time.Sleep(time.Second)
		require.ErrorIs(t, get(), ErrHTTP)
	})
}

// TestClose ends requests under way and those who wait, and waits for them.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{users: map[string][]string{"u": {"vip"}}, hold: make(chan struct{})}
		s := newFaked(t, f, func(c *Config) { c.MaxInFlight, c.RequestTimeout = 2, time.Hour })
		results := make(chan Result, 10) // ten answers
		for i := range 10 {
			go func() { results <- s.Fetch(t.Context(), User{Value: fmt.Sprint(i)}, 0) }()
		}
		synctest.Wait()
		s.Close()
		s.Close()
		for range 10 {
			require.ErrorIs(t, (<-results).Err, ErrClosed)
		}
		require.ErrorIs(t, s.Fetch(t.Context(), User{Value: "u"}, 0).Err, ErrClosed)
		require.Equal(t, 2, f.requests())
	})
}

// TestFetcherTimeout: a fetcher of one's own is bounded too.
func TestFetcherTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaked(t, &fake{delay: time.Hour}, func(c *Config) { c.RequestTimeout = 0 })
		defer s.Close()
		before := time.Now()
		require.ErrorIs(t, s.Fetch(t.Context(), User{Value: "u"}, 0).Err, ErrNetwork)
		require.Equal(t, DefaultTimeout, time.Since(before))
	})
}

// TestFetchMany keeps the order and gives each user a result of their own.
func TestFetchMany(t *testing.T) {
	em := newODP(t)
	users := make([]User, 300)
	for i := range users {
		users[i].Value = fmt.Sprint("u", i%200)
		switch {
		case i%10 == 3:
			require.NoError(t, em.SetUnknown(users[i].Value))
		case i%2 == 0:
			require.NoError(t, em.SetSegments(users[i].Value, "vip"))
		default:
			require.NoError(t, em.SetSegments(users[i].Value))
		}
	}
	s := newSegments(t, integrationOf(em, "vip", "b2"), func(c *Config) { c.MaxInFlight = 8 })
	check := func(results []Result) {
		require.Len(t, results, len(users))
		for i, r := range results {
			switch {
			case i%10 == 3:
				require.ErrorIs(t, r.Err, ErrInvalidIdentifier)
			case i%2 == 0:
				require.Equal(t, []string{"vip"}, r.Segments)
			default:
				require.Equal(t, []string{}, r.Segments)
			}
		}
	}
	check(s.FetchMany(deadline(t), users, 0))
	first := len(queries(em))
	require.GreaterOrEqual(t, first, 200)
	require.LessOrEqual(t, first, 200+10, "unknown users may be asked for again, others not")
	check(s.FetchMany(deadline(t), users, 0))
	require.LessOrEqual(t, len(queries(em)), first+30)
	require.Equal(t, []Result{{Segments: []string{}}, {Segments: []string{"vip"}, Source: FromCache}},
		s.AppendMany(deadline(t), []Result{{Segments: []string{}}}, []User{{Value: "u0"}}, 0))
	require.Empty(t, s.FetchMany(deadline(t), nil, 0))
}

// TestKnown tells of everybody in their order, and asks nobody.
func TestKnown(t *testing.T) {
	type told struct {
		segments []string
		isKnown  bool
	}
	known := func(s *Segments, users ...string) (out []told) {
		list := make([]User, len(users))
		for i, user := range users {
			list[i].Value = user
		}
		s.Known(list, func(i int, segments []string, isKnown bool) {
			require.Len(t, out, i)
			out = append(out, told{segments, isKnown})
		})
		return out
	}
	f := &fake{users: map[string][]string{"a": {"vip", "b2"}, "b": {"vip", "b2"}}}
	s := newFaked(t, f, nil)
	defer s.Close()
	require.Equal(t, []told{{}, {}}, known(s, "a", "none"))
	require.Zero(t, f.requests())
	for _, user := range []string{"a", "b", "none"} {
		fetch(t, s, user, 0)
	}
	hits := s.Stats().Hits
	got := known(s, "none", "other", "b", "a")
	require.Equal(t, []told{{[]string{}, true}, {}, {[]string{"vip", "b2"}, true}, {[]string{"vip", "b2"}, true}}, got)
	require.Same(t, &got[2].segments[0], &got[3].segments[0], "equal lists are one")
	require.Equal(t, hits+3, s.Stats().Hits)
	require.Equal(t, 3, f.requests())
	require.Equal(t, 2, cap(got[2].segments), "appending to it must copy")

	s.Update(t.Context(), Integration{Host: "http://odp.test", PublicKey: "k"})
	require.Equal(t, []told{{[]string{}, true}}, known(s, "a"), "there is nothing to ask for")
	s.Update(t.Context(), Integration{Segments: []string{"vip"}})
	require.Equal(t, []told{{}}, known(s, "a"), "not integrated: it has yet to be said so")

	elsewhere := newFaked(t, f, func(c *Config) { c.Cache = &ownCache{lists: map[string][]string{}} })
	defer elsewhere.Close()
	fetch(t, elsewhere, "a", 0)
	require.Equal(t, []told{{}}, known(elsewhere, "a"))
}

// TestSharedLists: lists are one only if they hold the same in the same order.
func TestSharedLists(t *testing.T) {
	st := newState(Integration{Segments: []string{"a", "b"}})
	for _, list := range [][]string{{"a", "b"}, {"b", "a"}, {"ab"}, {"a"}, {"a", "b", "c"}, {"a", "a"}, {""}, {"", ""}, {"\x01a"}} {
		require.Equal(t, list, st.intern(slices.Clone(list)))
		require.Same(t, &st.intern(list)[0], &st.intern(slices.Clone(list))[0])
	}
	require.Equal(t, []string{}, st.intern(nil))
	for i := range maxLists + 10 {
		require.Equal(t, []string{fmt.Sprint(i)}, st.intern([]string{fmt.Sprint(i)}))
	}
	require.Len(t, st.lists, maxLists)
}

// TestUnknownIsNone. Source: odp.md OD-P5.
func TestUnknownIsNone(t *testing.T) {
	em := newODP(t)
	require.NoError(t, em.SetUnknown("u"))
	s := newSegments(t, integrationOf(em, "vip"), func(c *Config) { c.UnknownIsNone = true })
	for range 2 {
		r := s.Fetch(deadline(t), User{Value: "u"}, 0)
		require.NoError(t, r.Err)
		require.Equal(t, []string{}, r.Segments)
	}
	require.Len(t, queries(em), 1)
}

// TestSeededTruth: what the emulator's rule says is what is fetched.
func TestSeededTruth(t *testing.T) {
	em := emulator.Start(t, emulator.Options{ODPKey: testKey, Seed: 7})
	require.NoError(t, em.SetSegmentRule(emulator.SegmentRule{Fraction: 0.5}))
	s := newSegments(t, integrationOf(em, "vip", "b2"), nil)
	users := make([]User, 400)
	for i := range users {
		users[i].Value = fmt.Sprint("user-", i)
	}
	first := s.FetchMany(deadline(t), users, 0)
	vips := 0
	for i, r := range s.FetchMany(deadline(t), users, ResetCache) {
		require.NoError(t, r.Err)
		require.Equal(t, first[i].Segments, r.Segments)
		for _, name := range r.Segments {
			if name == "vip" {
				vips++
			}
		}
	}
	require.InDelta(t, 200, vips, 60)
}

// TestHammer has everything happen at once; -race looks on.
func TestHammer(t *testing.T) {
	f := &fake{users: map[string][]string{"1": {"vip"}}}
	s := newFaked(t, f, func(c *Config) {
		c.CacheSize, c.CacheTimeout, c.RefreshAhead, c.StaleFor, c.MaxInFlight = 5, time.Millisecond, 500*time.Microsecond, time.Millisecond, 3
	})
	var all sync.WaitGroup
	var n atomic.Int64
	for w := range 8 {
		all.Go(func() {
			for i := range 300 {
				u := User{Value: fmt.Sprint(i % 7)}
				switch (i + w) % 20 {
				case 0:
					s.Reset(t.Context())
				case 1:
					s.Update(t.Context(), Integration{Host: "http://odp.test", PublicKey: fmt.Sprint(i % 2), Segments: []string{"vip"}})
				case 2:
					f.fail(&Error{Class: NetworkError})
				case 3:
					f.fail(nil)
				case 4:
					ctx, cancel := context.WithTimeout(t.Context(), time.Microsecond)
					s.Fetch(ctx, u, AllowStale)
					cancel()
				default:
					r := s.Fetch(t.Context(), u, Options(i%8))
					if (r.Err == nil) != (r.Segments != nil) {
						t.Errorf("%v and %v", r.Segments, r.Err)
					}
				}
				n.Add(1)
			}
		})
	}
	all.Wait()
	s.Close()
	require.EqualValues(t, 2400, n.Load())
	require.Empty(t, s.flights)
	require.Empty(t, s.slots)
}

func TestConfig(t *testing.T) {
	standard := DefaultConfig()
	require.NoError(t, standard.Validate())
	cfg := Config{RequestTimeout: -1, BreakerFailures: -1, RefreshAhead: -1, StaleFor: -1, UserKey: "a b"}
	_, err := NewSegments(cfg)
	for _, part := range []string{"user key", "request timeout", "in flight", "breaker", "refresh", "stale"} {
		require.ErrorContains(t, err, part)
	}
	cfg = DefaultConfig()
	cfg.RefreshAhead = cfg.CacheTimeout
	require.ErrorContains(t, cfg.Validate(), "shorter")
}
