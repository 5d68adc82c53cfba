package odp

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestObserved is the table of odp.md section 3.1: requests after each stage of
// u1, u1, u2, u1, then 1.1 s later u1.
func TestObserved(t *testing.T) {
	for _, row := range []struct {
		size    int
		timeout time.Duration
		want    [3]int
	}{
		{0, 10 * time.Minute, [3]int{2, 4, 5}},
		{-5, 10 * time.Minute, [3]int{2, 4, 5}},
		{1, 10 * time.Minute, [3]int{1, 3, 3}},
		{10_000, 0, [3]int{1, 2, 2}},
		{10_000, -time.Second, [3]int{1, 2, 2}},
		{10_000, time.Second, [3]int{1, 2, 3}},
	} {
		t.Run(fmt.Sprintf("size %d timeout %v", row.size, row.timeout), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{users: map[string][]string{"u1": {"vip"}, "u2": {"b2"}}}
				s := newFaked(t, f, func(c *Config) { c.CacheSize, c.CacheTimeout = row.size, row.timeout })
				defer s.Close()
				var got [3]int
				fetch(t, s, "u1", 0)
				require.Equal(t, []string{"vip"}, fetch(t, s, "u1", 0).Segments)
				got[0] = f.requests()
				fetch(t, s, "u2", 0)
				fetch(t, s, "u1", 0)
				got[1] = f.requests()
				time.Sleep(1100 * time.Millisecond) // of the bubble
				fetch(t, s, "u1", 0)
				got[2] = f.requests()
				require.Equal(t, row.want, got)
			})
		})
	}
}

// TestExpiry is exact: younger than the timeout is a hit, as old as it is a miss.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewLRU(2, time.Minute)
		c.Save("fs_user_id-$-u", []string{"vip"})
		time.Sleep(time.Minute - 1)
		_, ok := c.Lookup("fs_user_id-$-u")
		require.True(t, ok)
		time.Sleep(time.Nanosecond)
		_, ok = c.Peek("fs_user_id-$-u")
		require.False(t, ok)
		require.Equal(t, 1, c.Len())
		_, ok = c.Lookup("fs_user_id-$-u")
		require.False(t, ok)
		require.Equal(t, 0, c.Len(), "a lookup removes what is too old")

		// Saving over an entry renews its time; looking it up doesn't. Source: odp.md OD-15.
		c.Save("fs_user_id-$-u", []string{"vip"})
		time.Sleep(40 * time.Second)
		c.Save("fs_user_id-$-u", []string{"b2"})
		time.Sleep(40 * time.Second)
		list, ok := c.Lookup("fs_user_id-$-u")
		require.True(t, ok)
		require.Equal(t, []string{"b2"}, list)
		time.Sleep(20 * time.Second)
		_, ok = c.Lookup("fs_user_id-$-u")
		require.False(t, ok)
	})
}

// TestOptions is the option table of odp.md section 3.
func TestOptions(t *testing.T) {
	for _, row := range []struct {
		options               Options
		looks, empties, saves bool
	}{
		{0, true, false, true},
		{1 << 7, true, false, true}, // unknown ones
		{IgnoreCache, false, false, false},
		{ResetCache, false, true, true},
		{IgnoreCache | ResetCache, false, true, false},
	} {
		t.Run(strconv.Itoa(int(row.options)), func(t *testing.T) {
			c := &ownCache{lists: map[string][]string{"fs_user_id-$-other": {"b2"}, "fs_user_id-$-u": {"b2"}}}
			f := &fake{users: map[string][]string{"u": {"vip"}}}
			s := newFaked(t, f, func(cfg *Config) { cfg.Cache = c })
			defer s.Close()
			c.resets = 0 // that of the first integration
			c.lists = map[string][]string{"fs_user_id-$-other": {"b2"}, "fs_user_id-$-u": {"b2"}}
			r := fetch(t, s, "u", row.options)
			require.Equal(t, row.looks, r.Source == FromCache)
			require.Equal(t, row.looks, slices.Equal(r.Segments, []string{"b2"}))
			require.Equal(t, row.empties, c.resets == 1)
			require.Equal(t, row.empties, c.lists["fs_user_id-$-other"] == nil)
			if !row.looks {
				require.Equal(t, row.saves, slices.Equal(c.lists["fs_user_id-$-u"], []string{"vip"}))
			}
			// A user who isn't there is asked for and saved by the same rule.
			f.users["new"] = []string{"vip"}
			fetch(t, s, "new", row.options)
			require.Equal(t, row.saves, c.lists["fs_user_id-$-new"] != nil)
		})
	}
}

// An ownCache is a custom cache.
type ownCache struct {
	lists  map[string][]string
	resets int
	saves  int
}

func (c *ownCache) Save(key string, segments []string) { c.saves++; c.lists[key] = segments }
func (c *ownCache) Reset()                             { c.resets++; clear(c.lists) }
func (c *ownCache) Lookup(key string) ([]string, bool) {
	list, ok := c.lists[key]
	return list, ok
}

// TestEmptyLists are kept, unless told otherwise. Source: odp.md OD-16, OD-P4.
func TestEmptyLists(t *testing.T) {
	for _, skip := range []bool{false, true} {
		f := &fake{}
		s := newFaked(t, f, func(c *Config) { c.SkipEmpty = skip })
		for range 3 {
			r := fetch(t, s, "u", 0)
			require.NotNil(t, r.Segments)
			require.Empty(t, r.Segments)
		}
		want := 1
		if skip {
			want = 3
		}
		require.Equal(t, want, f.requests())
		s.Close()
	}
	// A cache of one's own that holds an empty list: no hit for Python.
	c := &ownCache{lists: map[string][]string{}}
	f := &fake{}
	s := newFaked(t, f, func(cfg *Config) { cfg.Cache, cfg.SkipEmpty = c, true })
	defer s.Close()
	c.Save("fs_user_id-$-u", nil)
	fetch(t, s, "u", 0)
	require.Equal(t, 1, f.requests())
}

// TestUserKeys: two identifiers of one value are two users.
func TestUserKeys(t *testing.T) {
	f := &fake{users: map[string][]string{"u": {"vip"}}}
	s := newFaked(t, f, func(c *Config) { c.UserKey = VUID })
	defer s.Close()
	for _, u := range []User{{Value: "u"}, {Key: FSUserID, Value: "u"}, {Key: VUID, Value: "u"}, {Key: "email", Value: "u"}} {
		require.NoError(t, s.Fetch(t.Context(), u, 0).Err)
	}
	require.Equal(t, 3, f.requests())
	require.Equal(t, VUID, f.asked[0].Key)
	require.Equal(t, FSUserID, f.asked[1].Key)
}

// TestKeysAreCopied: user ids may lie in a buffer that is used again.
func TestKeysAreCopied(t *testing.T) {
	f := &fake{users: map[string][]string{"aaaa": {"vip"}}}
	s := newFaked(t, f, nil)
	defer s.Close()
	buffer := []byte("aaaa")
	fetch(t, s, unsafe.String(&buffer[0], len(buffer)), 0)
	copy(buffer, "xxxx")
	require.Equal(t, FromCache, fetch(t, s, "aaaa", 0).Source)
	require.Equal(t, FromODP, fetch(t, s, "xxxx", 0).Source)
	require.Equal(t, key{"fs_user_id", "a-$-b"}, keyOf("fs_user_id-$-a-$-b"))
	require.Equal(t, "fs_user_id-$-a-$-b", keyOf("fs_user_id-$-a-$-b").String())
}

// TestLRUModel compares the cache with a list of what it should hold.
func TestLRUModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(-1, 4).Draw(t, "size")
		c := NewLRU(size, 0)
		var order []string // most recently used last
		values := map[string]string{}
		touch := func(k string) {
			order = append(slices.DeleteFunc(order, func(o string) bool { return o == k }), k)
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			k := "fs_user_id-$-" + rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"}).Draw(t, "key")
			switch rapid.IntRange(0, 9).Draw(t, "op") {
			case 0:
				c.Reset()
				order, values = nil, map[string]string{}
			case 1, 2:
				got, ok := c.Peek(k)
				want, isIn := values[k]
				if ok != isIn || ok && got[0] != want {
					t.Fatalf("peek: %v %v, want %v %v", got, ok, want, isIn)
				}
			case 3, 4, 5:
				got, ok := c.Lookup(k)
				want, isIn := values[k]
				if ok != isIn || ok && got[0] != want {
					t.Fatalf("lookup: %v %v, want %v %v", got, ok, want, isIn)
				}
				if ok {
					touch(k)
				}
			default:
				v := rapid.StringMatching("[a-z]{1,3}").Draw(t, "value")
				c.Save(k, []string{v})
				if size <= 0 {
					continue
				}
				values[k] = v
				touch(k)
				if len(order) > size {
					delete(values, order[0])
					order = order[1:]
				}
			}
			if c.Len() != len(values) {
				t.Fatalf("%d kept, want %d", c.Len(), len(values))
			}
		}
	})
}

// TestRefreshAhead: who comes often never waits, who doesn't isn't asked for.
func TestRefreshAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{users: map[string][]string{"hot": {"vip"}, "cold": {"vip"}}}
		s := newFaked(t, f, func(c *Config) { c.CacheTimeout, c.RefreshAhead = time.Minute, 10*time.Second })
		defer s.Close()
		fetch(t, s, "hot", 0)
		fetch(t, s, "cold", 0)
		f.users["hot"] = []string{"b2"}
		f.delay = time.Second
		time.Sleep(49 * time.Second)
		fetch(t, s, "hot", 0)
		synctest.Wait()
		require.Equal(t, 2, f.requests(), "too early")
		time.Sleep(2 * time.Second)
		for range 5 { // one flight
			require.Equal(t, []string{"vip"}, fetch(t, s, "hot", 0).Segments)
		}
		time.Sleep(2 * time.Second)
		require.Equal(t, 3, f.requests())
		require.Equal(t, []string{"b2"}, fetch(t, s, "hot", 0).Segments)
		time.Sleep(10 * time.Second) // past the first minute
		before := time.Now()
		require.Equal(t, Result{Segments: []string{"b2"}, Source: FromCache}, fetch(t, s, "hot", 0))
		require.Zero(t, time.Since(before))
		require.Equal(t, FromODP, fetch(t, s, "cold", 0).Source)
		st := s.Stats()
		require.EqualValues(t, 1, st.Refreshed)
		require.EqualValues(t, 4, st.Requests)

		// A refresh that fails changes nothing before the time is over.
		f.fail(&Error{Class: NetworkError})
		time.Sleep(45 * time.Second)
		fetch(t, s, "hot", 0)
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"b2"}, fetch(t, s, "hot", 0).Segments)
	})
}

// TestStale: an old answer within the limit, only if allowed, only when ODP fails for now.
func TestStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{users: map[string][]string{"u": {"vip"}}}
		s := newFaked(t, f, func(c *Config) { c.CacheTimeout, c.StaleFor, c.BreakerFailures = time.Minute, time.Minute, 2 })
		defer s.Close()
		fetch(t, s, "u", 0)
		time.Sleep(time.Minute)
		f.fail(&Error{Class: HTTPError, Status: 503})
		require.ErrorIs(t, s.Fetch(t.Context(), User{Value: "u"}, 0).Err, ErrHTTP)
		require.ErrorIs(t, s.Fetch(t.Context(), User{Value: "stranger"}, AllowStale).Err, ErrHTTP)
		stale := Result{Segments: []string{"vip"}, Source: FromStale}
		require.Equal(t, stale, s.Fetch(t.Context(), User{Value: "u"}, AllowStale))
		require.True(t, s.Stats().IsOpen)
		require.Equal(t, stale, s.Fetch(t.Context(), User{Value: "u"}, AllowStale), "while the breaker is open")
		require.ErrorIs(t, s.Fetch(t.Context(), User{Value: "u"}, AllowStale|IgnoreCache).Err, ErrCircuitOpen)
		time.Sleep(10 * time.Second)
		f.fail(&Error{Class: InvalidIdentifier})
		require.ErrorIs(t, s.Fetch(t.Context(), User{Value: "u"}, AllowStale).Err, ErrInvalidIdentifier)
		time.Sleep(50 * time.Second)
		f.fail(&Error{Class: NetworkError})
		require.ErrorIs(t, s.Fetch(t.Context(), User{Value: "u"}, AllowStale).Err, ErrNetwork, "beyond the limit")
	})
}
