package odp

import (
	"errors"
	"log/slog"
	"net/http"
	"time"
)

// Config of a [Segments]. Begin with [DefaultConfig]: zero is a meaning of its own
// for some fields. Source: odp.md section 2.
type Config struct {
	// IsDisabled: nothing is fetched. Source: odp.md OD-4.
	IsDisabled bool
	// UserKey is the identifier of users who name none. Default fs_user_id.
	UserKey string

	// Fetcher asks. Default: [GraphQL] with the two fields that follow.
	Fetcher   Fetcher
	Transport http.RoundTripper // of requests; default: an own pool
	// RequestTimeout bounds a request; 0 stands for the default, 10 s.
	RequestTimeout time.Duration

	// Cache is one of one's own, or [Redis]; size and timeout then have no effect
	// on one's own. Default: [LRU].
	Cache        Cache
	CacheSize    int           // users; 0 or less: nothing is kept. Default 10,000
	CacheTimeout time.Duration // 0 or less: forever. Default 10 min
	// SkipEmpty fetches users without segments each time, as the Python and Go SDKs
	// do. Source: odp.md OD-16, OD-P4.
	SkipEmpty bool

	// MaxInFlight bounds the requests under way. Default 64, at most 10,000.
	MaxInFlight int
	// RefreshAhead asks again for users who are looked up within that time of the end
	// of their entry, in the background: those who come often never wait. Less than
	// the timeout. Default 0: not.
	RefreshAhead time.Duration
	// StaleFor keeps entries for so long past their time, for calls with
	// [AllowStale] when ODP fails. Default 0: not.
	StaleFor time.Duration
	// UnknownIsNone takes "ODP doesn't know this user" for "in no segment".
	// Source: odp.md OD-P5.
	UnknownIsNone bool
	// BreakerFailures in a row open the circuit breaker; 0: never. Default 10.
	BreakerFailures int

	// Logger hears of the breaker and of the cache, never of users. Default: nobody.
	Logger *slog.Logger
}

// DefaultConfig is the SDKs' behaviour, but for empty lists, which are kept too.
func DefaultConfig() Config {
	return Config{
		UserKey: FSUserID, RequestTimeout: DefaultTimeout, CacheSize: DefaultCacheSize, CacheTimeout: DefaultCacheTimeout,
		MaxInFlight: 64, BreakerFailures: 10,
	}
}

// Validate reports all faults.
func (c *Config) Validate() error {
	var faults []error
	fault := func(is bool, text string) {
		if is {
			faults = append(faults, errors.New(text))
		}
	}
	fault(!isName(c.UserKey), "the user key must be the name of an identifier, such as fs_user_id")
	fault(c.RequestTimeout < 0, "the request timeout must not be negative")
	fault(c.MaxInFlight < 1 || c.MaxInFlight > 10_000, "the requests in flight must be 1 to 10000")
	fault(c.BreakerFailures < 0, "the failures that open the breaker must not be negative")
	fault(c.RefreshAhead < 0, "the refresh ahead must not be negative")
	fault(c.RefreshAhead > 0 && c.CacheTimeout > 0 && c.RefreshAhead >= c.CacheTimeout, "the refresh ahead must be shorter than the cache timeout")
	fault(c.StaleFor < 0, "the time for stale entries must not be negative")
	return errors.Join(faults...)
}
