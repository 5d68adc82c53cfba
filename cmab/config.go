package cmab

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sortition/decision"
)

// DefaultEndpoint is the service's address. Source: cmab.md section 4.
const DefaultEndpoint = "https://prediction.cmab.optimizely.com/predict/{}"

// A Config says where and how to ask. Begin with [DefaultConfig]: the zero value
// of a field means what it says, not the default.
type Config struct {
	// Endpoint is an http or https address in which {} or %s stands for the rule id.
	Endpoint string
	// CacheSize is the number of predictions kept; 0 or less: none. CM-11.
	CacheSize int
	// CacheTTL is how long a prediction is given again; 0 or less: for ever. CM-11.
	CacheTTL time.Duration
	// Cache replaces the one in memory, and with it CacheSize and CacheTTL.
	Cache Cache
	// Scope sets this program's entries apart in a Cache that others use too:
	// project id and environment. CM-P3.
	Scope string
	// AttemptTimeout bounds one request, reading included. More than 0.
	AttemptTimeout time.Duration
	// MaxRetries is how often a request is repeated when the network failed, or the
	// service answered 429 or 5xx. At least 0. CM-P6.
	MaxRetries int
	// InitialBackoff is the wait before the first repetition; each further one is
	// Multiplier times as long, up to MaxBackoff. CM-P6.
	InitialBackoff, MaxBackoff time.Duration
	Multiplier                 float64 // at least 1
	// Budget bounds a whole prediction: cache of one's own, other callers' requests
	// waited for, attempts and the waits between them. 0: unbounded. CM-P7.
	Budget time.Duration
	// NewUUID makes the id sent with a request and carried by the impressions of its
	// answer; nil: random, version 4. It must be safe for concurrent use. A stream
	// that wants the same bytes from the same input derives it from what ctx says of
	// the record. CM-8.
	NewUUID func(ctx context.Context, q *decision.PredictionQuery) string
	// Client makes the requests; nil: one of the Predictor's own. Redirects are not
	// followed in any case.
	Client *http.Client
}

// DefaultConfig is what the SDKs do, with the two limits a stream needs: retries
// only where they can help, and a budget of 2 s. Source: cmab.md sections 3.1, 4, 6.
func DefaultConfig() Config {
	return Config{
		Endpoint:       DefaultEndpoint,
		CacheSize:      10_000,
		CacheTTL:       30 * time.Minute,
		AttemptTimeout: 10 * time.Second,
		MaxRetries:     1,
		InitialBackoff: 100 * time.Millisecond,
		MaxBackoff:     10 * time.Second,
		Multiplier:     2,
		Budget:         2 * time.Second,
	}
}

// Validate reports all faults.
func (c *Config) Validate() error {
	var faults []error
	if _, _, err := splitEndpoint(c.Endpoint); err != nil {
		faults = append(faults, err)
	}
	if c.AttemptTimeout <= 0 {
		faults = append(faults, errors.New("cmab: the attempt timeout must be more than 0"))
	}
	if c.MaxRetries < 0 {
		faults = append(faults, errors.New("cmab: the number of retries may not be negative"))
	}
	if c.InitialBackoff < 0 || c.MaxBackoff < 0 {
		faults = append(faults, errors.New("cmab: waits between attempts may not be negative"))
	}
	if !(c.Multiplier >= 1) { // true for NaN
		faults = append(faults, errors.New("cmab: the backoff multiplier must be at least 1"))
	}
	if c.Budget < 0 {
		faults = append(faults, errors.New("cmab: the budget may not be negative"))
	}
	return errors.Join(faults...)
}

// splitEndpoint returns what stands before and after the rule id. Python writes
// the placeholder as {}, the other SDKs as %s.
func splitEndpoint(endpoint string) (before, after string, err error) {
	endpoint = strings.ReplaceAll(endpoint, "%s", "{}")
	if strings.Count(endpoint, "{}") != 1 {
		return "", "", errors.New("cmab: the endpoint must contain {} or %s once, where the rule id belongs")
	}
	u, err := url.Parse(strings.Replace(endpoint, "{}", "0", 1))
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return "", "", errors.New("cmab: the endpoint is not an absolute http or https address")
	}
	before, after, _ = strings.Cut(endpoint, "{}")
	return before, after, nil
}
