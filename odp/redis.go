package odp

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisOptions configure a [Redis]. Zero values stand for the defaults.
type RedisOptions struct {
	// Prefix of all keys. Default "sortition:segments:".
	Prefix string
	// Timeout of one command. Default 250 ms: a cache that is slower than that is
	// worse than none.
	Timeout time.Duration
	// Pause is how long Redis isn't used after it failed. Default 1 s.
	Pause time.Duration
}

// Redis is a cache that several processors share. It never fails: while Redis can't
// be reached, every lookup is a miss and nothing is kept, and for a pause it isn't
// even tried.
//
// Entries stand under a fingerprint of host, key and set of segments, so that
// projects don't meet, nor do processors with an older and a newer datafile; a change
// of the integration empties nothing. A reset raises a generation, which entries bear:
// one command, whatever the number of users, and seen by all processors with their next
// lookup. Redis drops entries when they are past their time.
//
// It belongs to one [Segments] of each process. Close the client yourself, after it.
type Redis struct {
	client  redis.UniversalClient
	options RedisOptions
	timeout time.Duration // of entries; 0: forever
	stale   time.Duration
	log     *slog.Logger
	resting atomic.Int64 // ns since the epoch; until then Redis isn't used
	errors  atomic.Uint64
	// isOwed: a reset didn't reach Redis, so nothing there is to be believed yet.
	isOwed atomic.Bool

	mu         sync.Mutex // guards what follows
	scope      string     // prefix and fingerprint
	generation int64      // last seen
}

// NewRedis makes a cache for [Config.Cache].
func NewRedis(client redis.UniversalClient, o RedisOptions) *Redis {
	if o.Prefix == "" {
		o.Prefix = "sortition:segments:"
	}
	if o.Timeout <= 0 {
		o.Timeout = 250 * time.Millisecond
	}
	if o.Pause <= 0 {
		o.Pause = time.Second
	}
	return &Redis{client: client, options: o, timeout: DefaultCacheTimeout, log: slog.New(slog.DiscardHandler), scope: o.Prefix + "none:"}
}

func (r *Redis) configure(timeout, stale time.Duration, log *slog.Logger) {
	r.timeout, r.stale, r.log = max(timeout, 0), stale, log
}

// Errors counts the commands that failed.
func (r *Redis) Errors() uint64 { return r.errors.Load() }

// Save keeps a user's segments. Source: pages.md O-5.
func (r *Redis) Save(key string, segments []string) {
	r.keep(context.Background(), keyOf(key), segments)
}

// Lookup returns a user's segments if they are young enough.
func (r *Redis) Lookup(key string) ([]string, bool) {
	e, ok := r.find(context.Background(), keyOf(key))
	if !ok || r.timeout > 0 && e.age >= r.timeout {
		return nil, false
	}
	return e.segments, true
}

// Reset makes all entries of the integration invalid, for all processors.
func (r *Redis) Reset() { r.reset(context.Background()) }

// redisEntry is a value in Redis.
type redisEntry struct {
	Generation int64    `json:"g"`
	Saved      int64    `json:"t"` // ms since the epoch
	Segments   []string `json:"s"`
}

func (r *Redis) use(_ context.Context, i *Integration) {
	h := sha256.New()
	for _, part := range append([]string{i.Host, i.PublicKey}, sortedSet(i.Segments)...) {
		_, _ = fmt.Fprintf(h, "%d:%s", len(part), part) // a hash takes everything
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.scope = r.options.Prefix + hex.EncodeToString(h.Sum(nil)[:12]) + ":"
	r.generation = 0
}

func (r *Redis) now() (scope string, generation int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.scope, r.generation
}

// saw remembers a generation that Redis told.
func (r *Redis) saw(scope string, generation int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.scope == scope {
		r.generation = generation
	}
}

func (r *Redis) find(ctx context.Context, k key) (e entry, ok bool) {
	r.findMany(ctx, []key{k}, func(_ int, found entry) { e, ok = found, true })
	return e, ok
}

// chunk is how many keys one command asks for.
const chunk = 500

func (r *Redis) findMany(ctx context.Context, keys []key, found func(int, entry)) {
	for from := 0; from < len(keys); from += chunk {
		r.findChunk(ctx, keys, from, min(from+chunk, len(keys)), found)
	}
}

func (r *Redis) findChunk(ctx context.Context, keys []key, from, to int, found func(int, entry)) {
	if r.isOwed.Load() && !r.raise(ctx) {
		return
	}
	scope, _ := r.now()
	names := make([]string, 0, to-from+1)
	names = append(names, scope+"generation")
	for _, k := range keys[from:to] {
		names = append(names, scope+k.String())
	}
	// A cluster has no MGET over several slots, but pipelines.
	values := make([]*redis.StringCmd, len(names))
	ok := r.do(ctx, "look up", func(ctx context.Context) error {
		_, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, name := range names {
				values[i] = p.Get(ctx, name)
			}
			return nil
		})
		if errors.Is(err, redis.Nil) {
			return nil
		}
		return err
	})
	if !ok {
		return
	}
	var generation int64
	if text, err := values[0].Result(); err == nil {
		if generation, err = strconv.ParseInt(text, 10, 64); err != nil {
			return
		}
	} else if !errors.Is(err, redis.Nil) {
		return
	}
	r.saw(scope, generation)
	for i := range to - from {
		text, err := values[i+1].Bytes()
		var e redisEntry
		if err != nil || json.Unmarshal(text, &e) != nil || e.Generation != generation {
			continue
		}
		age := max(time.Since(time.UnixMilli(e.Saved)), 0)
		if r.timeout > 0 && age >= r.timeout+r.stale {
			continue
		}
		if e.Segments == nil {
			e.Segments = noSegments
		}
		found(from+i, entry{e.Segments, age})
	}
}

func (r *Redis) keep(ctx context.Context, k key, segments []string) {
	if r.isOwed.Load() {
		return
	}
	scope, generation := r.now()
	text, err := json.Marshal(redisEntry{generation, time.Now().UnixMilli(), segments})
	if err != nil {
		return
	}
	var expiry time.Duration // 0: none
	if r.timeout > 0 {
		expiry = r.timeout + r.stale
	}
	r.do(ctx, "save", func(ctx context.Context) error {
		return r.client.Set(ctx, scope+k.String(), text, expiry).Err()
	})
}

func (r *Redis) reset(ctx context.Context) {
	r.isOwed.Store(true)
	r.resting.Store(0)
	r.raise(ctx)
}

// raise raises the generation; what it can't is done before the next lookup.
func (r *Redis) raise(ctx context.Context) bool {
	scope, _ := r.now()
	return r.do(ctx, "reset", func(ctx context.Context) error {
		generation, err := r.client.Incr(ctx, scope+"generation").Result()
		if err == nil {
			r.saw(scope, generation)
			r.isOwed.Store(false)
		}
		return err
	})
}

// do runs a command in its time, unless Redis rests.
func (r *Redis) do(ctx context.Context, what string, command func(context.Context) error) bool {
	if until := r.resting.Load(); until != 0 && time.Now().UnixNano() < until {
		return false
	}
	whole := ctx
	ctx, cancel := context.WithTimeout(ctx, r.options.Timeout)
	defer cancel()
	err := command(ctx)
	if err == nil {
		return true
	}
	if whole.Err() != nil {
		return false // the caller's haste is not Redis' fault
	}
	r.errors.Add(1)
	until := time.Now().Add(r.options.Pause).UnixNano()
	if before := r.resting.Swap(until); before < time.Now().Add(-10*r.options.Pause).UnixNano() {
		r.log.Warn("the cache of segments in Redis fails; going on without", "command", what, "error", redisText(err))
	}
	return false
}

// redisText is an error's text without a key, which holds a user id: Redis' own errors
// quote what they were sent.
func redisText(err error) string {
	var own redis.Error
	if errors.As(err, &own) {
		word, _, _ := strings.Cut(own.Error(), " ")
		return word
	}
	return err.Error()
}
