package cmab

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/decision"
)

func (c *LRU) has(t *testing.T, user string) bool {
	t.Helper()
	_, ok, err := c.Lookup(t.Context(), Key{UserID: user})
	require.NoError(t, err)
	return ok
}

func (c *LRU) put(t *testing.T, users ...string) {
	t.Helper()
	for _, u := range users {
		require.NoError(t, c.Save(t.Context(), Key{UserID: u}, Entry{VariationID: u}))
	}
}

func TestLRU(t *testing.T) { // CM-11, OD-15
	synctest.Test(t, func(t *testing.T) {
		c := NewLRU(2, time.Minute)
		c.put(t, "a", "b")
		assert.True(t, c.has(t, "a")) // now b is the least recent
		c.put(t, "c")
		assert.False(t, c.has(t, "b"))
		assert.True(t, c.has(t, "a"))
		assert.True(t, c.has(t, "c"))

		time.Sleep(time.Minute - 1)
		assert.True(t, c.has(t, "a"))
		c.put(t, "a") // saved again: a new age
		time.Sleep(1 * time.Nanosecond)
		assert.False(t, c.has(t, "c"), "as old as the TTL is too old")
		assert.Equal(t, 1, c.Len(), "and makes room")
		assert.True(t, c.has(t, "a"))
		require.NoError(t, c.Remove(t.Context(), Key{UserID: "a"}))
		assert.False(t, c.has(t, "a"))
		c.put(t, "x", "y")
		require.NoError(t, c.Reset(t.Context()))
		assert.Zero(t, c.Len())

		for _, ttl := range []time.Duration{0, -1} {
			c = NewLRU(1, ttl)
			c.put(t, "a")
			time.Sleep(1000 * time.Hour)
			assert.True(t, c.has(t, "a"), "never expires")
		}
		for _, size := range []int{0, -5} {
			c = NewLRU(size, time.Hour)
			c.put(t, "a")
			assert.False(t, c.has(t, "a"), "keeps nothing")
			require.NoError(t, c.Remove(t.Context(), Key{UserID: "a"}))
			require.NoError(t, c.Reset(t.Context()))
			assert.Zero(t, c.Len())
		}
	})
}

func TestCacheSettings(t *testing.T) {
	p := start(t, func(c *Config) { c.CacheSize = 0 }, variation("50012"))
	p.gets("reco_b", "u1", gold)
	p.gets("reco_b", "u1", gold)
	p.posted(2)
	p = start(t, func(c *Config) { c.CacheSize = 1 }, variation("50012"))
	for _, user := range []string{"u1", "u1", "u2", "u1"} {
		p.gets("reco_b", user, gold)
	}
	p.posted(3)
}

func TestKeyText(t *testing.T) {
	assert.Equal(t, "2-u1-30002", Key{UserID: "u1", RuleID: "30002"}.String())
	assert.Equal(t, "2-é😀-1", Key{UserID: "é😀", RuleID: "1"}.String(), "characters, as Python counts")
	assert.Equal(t, "880022/prod:0--1", Key{Scope: "880022/prod", RuleID: "1"}.String())
}

func TestEntryAsJSON(t *testing.T) { // the members of CM-7 row 6
	e := Entry{AttributesHash: hashOf(goldList()), VariationID: "50012", UUID: "x"}
	encoded, err := json.Marshal(e)
	require.NoError(t, err)
	assert.Equal(t, `{"attributes_hash":"e81485bc0886db24ea2171fad5dddc57","variation_id":"50012","cmab_uuid":"x"}`, string(encoded))
	var back Entry
	require.NoError(t, json.Unmarshal(encoded, &back))
	assert.Equal(t, e, back)
	require.Error(t, json.Unmarshal([]byte(`{"attributes_hash":"e8"}`), &back))
	require.Error(t, json.Unmarshal([]byte(`{"attributes_hash":"x81485bc0886db24ea2171fad5dddc57"}`), &back))
}

// A store is a cache of one's own: texts to JSON, as in Redis.
type store struct {
	mu      sync.Mutex
	entries map[string]string
	err     error
	calls   []string
}

func (s *store) note(call string) error {
	s.calls = append(s.calls, call)
	return s.err
}

func (s *store) Lookup(_ context.Context, k Key) (e Entry, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.note("lookup"); err != nil {
		return e, false, err
	}
	text, ok := s.entries[k.String()]
	if ok {
		err = json.Unmarshal([]byte(text), &e)
	}
	return e, ok, err
}

func (s *store) Save(_ context.Context, k Key, e Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, err := json.Marshal(e)
	s.entries[k.String()] = string(text)
	return errors.Join(err, s.note("save"))
}

func (s *store) Remove(_ context.Context, k Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.entries, k.String())
	return s.note("remove")
}

func (s *store) Reset(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.entries)
	return s.note("reset")
}

func TestCacheOfOnesOwn(t *testing.T) {
	s := &store{entries: map[string]string{}}
	p := start(t, func(c *Config) { c.Cache, c.Scope = s, "880022/prod" }, variation("50012"))
	uuid := p.gets("reco_b", "u1", gold)
	assert.Equal(t, uuid, p.gets("reco_b", "u1", gold))
	p.posted(1)
	assert.Equal(t, map[string]string{"880022/prod:2-u1-30002": `{"attributes_hash":"e81485bc0886db24ea2171fad5dddc57","variation_id":"50012","cmab_uuid":"` + uuid + `"}`}, s.entries)
	assert.Equal(t, []string{"lookup", "save", "lookup"}, s.calls)
	s.calls = nil
	p.gets("reco_b", "u1", nil) // other attributes
	p.gets("reco_b", "u1", gold, decision.InvalidateUserCMABCache)
	p.gets("reco_b", "u1", gold, decision.ResetCMABCache)
	p.gets("reco_b", "u1", gold, decision.IgnoreCMABCache)
	assert.Equal(t, []string{"lookup", "remove", "save", "remove", "lookup", "save", "reset", "lookup", "save"}, s.calls)
	p.posted(5)
	assert.Zero(t, p.Stats().CacheErrors)

	// A cache that fails costs requests, not decisions.
	s.err = errors.New("store is away")
	p.gets("reco_b", "u1", gold)
	assert.Equal(t, uint64(2), p.Stats().CacheErrors)
}

// A cache that hangs is within the budget too.
type hanging struct{ *store }

func (hanging) Lookup(ctx context.Context, _ Key) (Entry, bool, error) {
	<-ctx.Done()
	return Entry{}, false, ctx.Err()
}

func TestCacheThatHangs(t *testing.T) {
	bubble(t, func(c *Config) { c.Cache = hanging{&store{}} }, after(0, 200), func(t *testing.T, b *bubbled) {
		began := time.Now()
		_, err := b.ask(t, "u1", gold)
		require.ErrorIs(t, err, ErrBudget)
		assert.Equal(t, 2*time.Second, time.Since(began))
	})
}

// Many callers, users, attributes and options at once, for the race detector.
func TestConcurrentUse(t *testing.T) {
	p := start(t, func(c *Config) { c.CacheSize = 4; c.Budget = time.Minute }, variation("50012"))
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := range 50 {
				var o decision.Options
				switch i % 10 {
				case 7:
					o = decision.IgnoreCMABCache
				case 8:
					o = decision.ResetCMABCache
				case 9:
					o = decision.InvalidateUserCMABCache
				}
				p.gets("reco_b", "u"+strconv.Itoa((w+i)%6), values{"age": decision.Int(int64(i / 25))}, o)
			}
		})
	}
	all.Wait()
	s := p.Stats()
	assert.Equal(t, uint64(400), s.Calls)
	assert.Equal(t, s.Calls, s.Hits+s.Shared+s.Fetched)
	assert.Empty(t, p.flights.byKey, "no flight is left in the air")
}
