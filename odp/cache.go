package odp

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"
	"unique"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// The cache's defaults. Source: odp.md section 2.
const (
	DefaultCacheSize    = 10_000
	DefaultCacheTimeout = 10 * time.Minute
)

// A Cache keeps the segments of users, in place of the built-in one. Keys are
// <identifier>-$-<value>, such as "fs_user_id-$-user-1". Lists may be empty; they must
// not be changed by either side. It must be safe for concurrent use, is to answer
// soon, and belongs to one project. Source: pages.md O-5, odp.md OD-14.
type Cache interface {
	Save(key string, segments []string)
	Lookup(key string) (segments []string, ok bool)
	Reset()
}

// separator stands between the parts of a key. Source: odp.md OD-14.
const separator = "-$-"

// A key is a cache key in its parts, so that looking up needs no new string. Its
// strings are the caller's; whoever keeps it clones it.
type key struct{ name, value string }

func (k key) String() string { return k.name + separator + k.value }

// clone is a key of its own. Names are few and shared by all keys: comparing them then
// reads what is in the processor's cache.
func (k key) clone() key { return key{unique.Make(k.name).Value(), strings.Clone(k.value)} }

// keyOf splits a key's text at the first separator: no identifier's name has one.
func keyOf(text string) key {
	name, value, _ := strings.Cut(text, separator)
	return key{name, value}
}

// An entry is what a store knows of a user.
type entry struct {
	segments []string
	age      time.Duration
}

// A store is a cache as Segments needs it: with the age of entries, which it returns
// also when they are past their time, while old answers are allowed.
type store interface {
	find(ctx context.Context, k key) (entry, bool)
	findMany(ctx context.Context, keys []key, found func(i int, e entry))
	keep(ctx context.Context, k key, segments []string)
	reset(ctx context.Context)
	// use is told of an integration before entries of it are kept.
	use(ctx context.Context, i *Integration)
}

// LRU is the cache in memory: at most size users, each for at most timeout. The one
// not used for the longest time makes room. Safe for concurrent use; it starts no
// goroutine, and what is past its time goes when it is looked up or pushed out.
// Source: odp.md OD-15.
type LRU struct {
	size     int
	timeout  time.Duration
	staleFor time.Duration // kept beyond timeout, for when ODP fails

	mu    sync.Mutex // guards users
	users *simplelru.LRU[key, saved]
}

type saved struct {
	segments []string
	at       time.Time
}

// NewLRU makes a cache. A size of 0 or less disables it: nothing is kept. A timeout
// of 0 or less is forever. Source: odp.md section 2.
func NewLRU(size int, timeout time.Duration) *LRU {
	c := &LRU{size: size, timeout: max(timeout, 0)}
	if size > 0 {
		users, err := simplelru.NewLRU[key, saved](size, nil)
		if err != nil {
			panic("BUG: an LRU of positive size: " + err.Error())
		}
		c.users = users
	}
	return c
}

// Save keeps a copy of a user's segments, anew if there are some already: with a new
// time, as the most recently used.
func (c *LRU) Save(key string, segments []string) { c.save(keyOf(key), slices.Clone(segments)) }

// Lookup returns a user's segments if they are younger than the timeout. The slice is
// shared. It becomes the most recently used.
func (c *LRU) Lookup(key string) (segments []string, ok bool) {
	e, ok := c.get(keyOf(key), 0)
	return e.segments, ok
}

// Peek is Lookup that changes nothing.
func (c *LRU) Peek(key string) (segments []string, ok bool) {
	if c.users == nil {
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.users.Peek(keyOf(key))
	if !ok || c.timeout > 0 && time.Since(s.at) >= c.timeout {
		return nil, false
	}
	return s.segments, true
}

// Reset forgets everybody.
func (c *LRU) Reset() {
	if c.users == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.users.Purge()
}

// Len counts the users kept, those past their time included.
func (c *LRU) Len() int {
	if c.users == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.users.Len()
}

// get looks a user up whose segments are no older than timeout and extra.
func (c *LRU) get(k key, extra time.Duration) (entry, bool) {
	if c.users == nil {
		return entry{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.getAt(k, extra, time.Now())
}

// getAt is get at a time, for who holds mu.
func (c *LRU) getAt(k key, extra time.Duration, now time.Time) (entry, bool) {
	s, ok := c.users.Get(k)
	if !ok {
		return entry{}, false
	}
	age := now.Sub(s.at)
	if c.timeout > 0 && age >= c.timeout+extra {
		if age >= c.timeout+c.staleFor {
			c.users.Remove(k)
		}
		return entry{}, false
	}
	return entry{s.segments, age}, true
}

// each is find for n keys, in one go: told is called for each of them, and must not come
// back to the cache.
func (c *LRU) each(n int, keyOf func(i int) key, told func(i int, e entry, ok bool)) {
	if c.users == nil {
		for i := range n {
			told(i, entry{}, false)
		}
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for i := range n {
		e, ok := c.getAt(keyOf(i), c.staleFor, now)
		told(i, e, ok)
	}
}

func (c *LRU) save(k key, segments []string) {
	if c.users == nil {
		return
	}
	k = k.clone()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.users.Add(k, saved{segments, time.Now()})
}

func (c *LRU) find(_ context.Context, k key) (entry, bool) { return c.get(k, c.staleFor) }

func (c *LRU) findMany(_ context.Context, keys []key, found func(int, entry)) {
	c.each(len(keys), func(i int) key { return keys[i] }, func(i int, e entry, ok bool) {
		if ok {
			found(i, e)
		}
	})
}

func (c *LRU) keep(_ context.Context, k key, segments []string) { c.save(k, segments) }
func (c *LRU) reset(context.Context)                            { c.Reset() }
func (c *LRU) use(context.Context, *Integration)                { c.Reset() }

// foreign is a Cache of somebody's own: what it returns is young enough.
type foreign struct{ Cache }

func (f foreign) find(_ context.Context, k key) (entry, bool) {
	segments, ok := f.Lookup(k.String())
	return entry{segments: segments}, ok
}

func (f foreign) findMany(ctx context.Context, keys []key, found func(int, entry)) {
	for i := range keys {
		if e, ok := f.find(ctx, keys[i]); ok {
			found(i, e)
		}
	}
}

func (f foreign) keep(_ context.Context, k key, segments []string) { f.Save(k.String(), segments) }
func (f foreign) reset(context.Context)                            { f.Reset() }
func (f foreign) use(context.Context, *Integration)                { f.Reset() }
