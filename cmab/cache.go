package cmab

import (
	"context"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// A Cache keeps predictions. Its methods must be safe for concurrent use and
// respect ctx, which carries the budget. An error counts as a miss, or as an entry
// not kept; it fails no prediction. Source: cmab.md section 3.1.
type Cache interface {
	Lookup(ctx context.Context, k Key) (e Entry, ok bool, err error)
	// Save keeps e for k. The strings of both are the cache's to keep.
	Save(ctx context.Context, k Key, e Entry) error
	Remove(ctx context.Context, k Key) error
	Reset(ctx context.Context) error // removes every entry
}

// A Key names the prediction of one user and rule. Its strings are valid during
// the call only, except in Save.
type Key struct {
	Scope, UserID, RuleID string
}

// String is the key's text for a store outside: that of the Python SDK,
// "2-u1-30002" with the length of the user id in characters, after the scope and a
// colon if there is one.
func (k Key) String() string {
	text := strconv.Itoa(utf8.RuneCountInString(k.UserID)) + "-" + k.UserID + "-" + k.RuleID
	if k.Scope != "" {
		return k.Scope + ":" + text
	}
	return text
}

func (k Key) clone() Key {
	return Key{k.Scope, strings.Clone(k.UserID), strings.Clone(k.RuleID)}
}

// An Entry is a prediction and the attributes it was made for.
type Entry struct {
	AttributesHash Hash   `json:"attributes_hash"`
	VariationID    string `json:"variation_id"`
	UUID           string `json:"cmab_uuid"`
}

// A Hash is the MD5 of the attributes a prediction was made for: of their JSON as
// Python prints it, with sorted keys. It tells attributes apart and protects
// nothing. Source: cmab.md CM-12.
type Hash [16]byte

// String is the hash in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText is the hash in hexadecimal.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText reads what MarshalText wrote.
func (h *Hash) UnmarshalText(text []byte) error {
	if hex.DecodedLen(len(text)) != len(h) {
		return errors.New("attributes hash: 32 hexadecimal digits expected")
	}
	_, err := hex.Decode(h[:], text)
	return err
}

// An LRU is the cache in memory: bounded by size, and by age if it has a TTL. An
// entry that is too old is a miss and makes room when it is met; until then the
// size bounds it. (The library's own cache with expiry would do that with a
// goroutine that can't be stopped, and would take a size of 0 for no bound.)
//
// Source: cmab.md CM-11, odp.md OD-15.
type LRU struct {
	ttl time.Duration

	mu      sync.Mutex                      // guards entries: even a lookup changes their order
	entries *simplelru.LRU[Key, timedEntry] // nil: nothing is kept
}

type timedEntry struct {
	Entry
	at time.Time
}

var _ Cache = (*LRU)(nil)

// NewLRU returns a cache of at most size entries, none if that is 0 or less, which
// are given for less than ttl, or for ever if that is 0 or less.
func NewLRU(size int, ttl time.Duration) *LRU {
	c := &LRU{ttl: ttl}
	if size > 0 {
		var err error
		if c.entries, err = simplelru.NewLRU[Key, timedEntry](size, nil); err != nil {
			panic("BUG: make LRU: " + err.Error()) // it refuses sizes below 1 only
		}
	}
	return c
}

// Lookup returns an entry and makes it the most recent. The error is nil.
func (c *LRU) Lookup(_ context.Context, k Key) (Entry, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		return Entry{}, false, nil
	}
	e, ok := c.entries.Get(k)
	if ok && c.ttl > 0 && time.Since(e.at) >= c.ttl {
		c.entries.Remove(k)
		ok = false
	}
	if !ok {
		return Entry{}, false, nil
	}
	return e.Entry, true, nil
}

// Save keeps an entry, in place of the least recent if there is no room. The error
// is nil.
func (c *LRU) Save(_ context.Context, k Key, e Entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries != nil {
		c.entries.Add(k, timedEntry{e, time.Now()})
	}
	return nil
}

// Remove drops one entry. The error is nil.
func (c *LRU) Remove(_ context.Context, k Key) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries != nil {
		c.entries.Remove(k)
	}
	return nil
}

// Reset drops all entries. The error is nil.
func (c *LRU) Reset(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries != nil {
		c.entries.Purge()
	}
	return nil
}

// Len is the number of entries, old ones included.
func (c *LRU) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		return 0
	}
	return c.entries.Len()
}
