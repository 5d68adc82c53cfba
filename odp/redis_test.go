package odp

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// newRedis is a Redis server for a test: the one SORTITION_REDIS names, such as
// redis://localhost:6379/0, or one in this process, which is then returned too.
func newRedis(t *testing.T) (func() *redis.Client, *miniredis.Miniredis, string) {
	t.Helper()
	prefix := fmt.Sprintf("sortition:test:%d:", time.Now().UnixNano())
	o := &redis.Options{}
	var mini *miniredis.Miniredis
	if address := os.Getenv("SORTITION_REDIS"); address != "" {
		var err error
		o, err = redis.ParseURL(address)
		require.NoError(t, err)
	} else {
		mini = miniredis.RunT(t)
		o.Addr = mini.Addr()
	}
	o.MaxRetries = -1
	return func() *redis.Client {
		c := redis.NewClient(o)
		t.Cleanup(func() { require.NoError(t, c.Close()) })
		return c
	}, mini, prefix
}

func newShared(t *testing.T, f *fake, c *redis.Client, prefix string, change func(*Config)) (*Segments, *Redis) {
	t.Helper()
	r := NewRedis(c, RedisOptions{Prefix: prefix, Timeout: 10 * time.Second})
	s := newFaked(t, f, func(cfg *Config) {
		cfg.Cache = r
		if change != nil {
			change(cfg)
		}
	})
	t.Cleanup(s.Close)
	return s, r
}

// TestRedisShared: what one processor fetched, the other has; a reset is for both.
func TestRedisShared(t *testing.T) {
	connect, _, prefix := newRedis(t)
	f := &fake{users: map[string][]string{"u": {"vip"}}}
	a, _ := newShared(t, f, connect(), prefix, nil)
	b, rb := newShared(t, f, connect(), prefix, nil)
	require.Equal(t, FromODP, fetch(t, a, "u", 0).Source)
	require.Equal(t, Result{Segments: []string{"vip"}, Source: FromCache}, fetch(t, b, "u", 0))
	require.Equal(t, FromODP, fetch(t, b, "none", 0).Source)
	require.Equal(t, Result{Segments: []string{}, Source: FromCache}, fetch(t, a, "none", 0), "empty lists too")
	list, ok := rb.Lookup("fs_user_id-$-u")
	require.True(t, ok)
	require.Equal(t, []string{"vip"}, list)

	f.users["u"] = []string{"b2"}
	require.Equal(t, []string{"b2"}, fetch(t, a, "u", ResetCache).Segments)
	require.Equal(t, Result{Segments: []string{"b2"}, Source: FromCache}, fetch(t, b, "u", 0))
	require.Equal(t, FromODP, fetch(t, b, "none", 0).Source)
	require.Equal(t, 4, f.requests())

	users := make([]User, 1200)
	for i := range users {
		users[i].Value = fmt.Sprint("m", i)
		f.users[users[i].Value] = []string{[]string{"vip", "b2"}[i%2]}
	}
	a.FetchMany(t.Context(), users, 0)
	before := f.requests()
	for i, r := range b.FetchMany(t.Context(), users, 0) {
		require.Equal(t, Result{Segments: f.users[users[i].Value], Source: FromCache}, r)
	}
	require.Equal(t, before, f.requests())
}

// TestRedisScopes: projects, and datafiles with other segments, don't meet.
func TestRedisScopes(t *testing.T) {
	connect, _, prefix := newRedis(t)
	f := &fake{users: map[string][]string{"u": {"vip"}}}
	a, _ := newShared(t, f, connect(), prefix, nil)
	b, _ := newShared(t, f, connect(), prefix, nil)
	fetch(t, a, "u", 0)
	b.Update(t.Context(), Integration{Host: "http://odp.test", PublicKey: "k", Segments: []string{"vip"}})
	require.Equal(t, FromODP, fetch(t, b, "u", 0).Source)
	require.Equal(t, FromCache, fetch(t, a, "u", 0).Source, "a's entries are still there")
	fetch(t, b, "u", ResetCache)
	require.Equal(t, FromCache, fetch(t, a, "u", 0).Source)
	b.Update(t.Context(), Integration{Host: "http://odp.test", PublicKey: "k", Segments: []string{"b2", "vip"}})
	require.Equal(t, FromCache, fetch(t, b, "u", 0).Source, "the order doesn't matter")
}

// TestRedisExpiry: entries go by themselves, later when old ones are allowed.
func TestRedisExpiry(t *testing.T) {
	connect, mini, prefix := newRedis(t)
	if mini == nil {
		t.Skip("needs a clock of its own")
	}
	f := &fake{users: map[string][]string{"u": {"vip"}}}
	s, _ := newShared(t, f, connect(), prefix, func(c *Config) { c.CacheTimeout, c.StaleFor = time.Minute, time.Minute })
	fetch(t, s, "u", 0)
	mini.FastForward(2*time.Minute - time.Second)
	require.Equal(t, FromCache, fetch(t, s, "u", 0).Source)
	mini.FastForward(2 * time.Second)
	require.Equal(t, FromODP, fetch(t, s, "u", 0).Source)
	forever, _ := newShared(t, f, connect(), prefix+"forever:", func(c *Config) { c.CacheTimeout = 0 })
	fetch(t, forever, "u", 0)
	mini.FastForward(1000 * time.Hour)
	require.Equal(t, FromCache, fetch(t, forever, "u", 0).Source)
}

// TestRedisDown: a cache that fails is a cache that misses, and costs no time; a reset
// that didn't get through is made up for before anything is believed again.
func TestRedisDown(t *testing.T) {
	connect, mini, prefix := newRedis(t)
	if mini == nil {
		t.Skip("stops its server")
	}
	var logged bytes.Buffer
	f := &fake{users: map[string][]string{"user-17": {"vip"}}}
	s, r := newShared(t, f, connect(), prefix, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
	r.options.Pause = time.Hour
	fetch(t, s, "user-17", 0)
	mini.SetError("LOADING user-17 is loading")
	require.Equal(t, FromODP, fetch(t, s, "user-17", 0).Source)
	require.EqualValues(t, 1, r.Errors())
	for range 100 {
		require.Equal(t, FromODP, fetch(t, s, "user-17", 0).Source)
	}
	require.EqualValues(t, 1, r.Errors(), "it rests")
	require.Equal(t, 1, strings.Count(logged.String(), "Redis"))
	require.NotContains(t, logged.String(), "user-17")

	s.Reset(t.Context()) // doesn't get through
	require.EqualValues(t, 2, r.Errors())
	mini.SetError("")
	r.resting.Store(0)
	f.users["user-17"] = []string{"b2"}
	require.Equal(t, []string{"b2"}, fetch(t, s, "user-17", 0).Segments)
	require.Equal(t, FromCache, fetch(t, s, "user-17", 0).Source)

	// Rubbish under a key is a miss.
	for _, key := range mini.Keys() {
		if strings.Contains(key, "user-17") {
			require.NoError(t, mini.Set(key, "{"))
		}
	}
	require.Equal(t, FromODP, fetch(t, s, "user-17", 0).Source)
}
