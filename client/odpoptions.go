package client

import (
	"context"
	"time"

	"sortition/odp"
)

// odpSettings are the settings of config.md section 6 that are about ODP.
type odpSettings struct {
	isDisabled         bool
	fetcher            SegmentFetcher
	sender             ODPEventSender
	segmentAPI         odp.Fetcher
	eventAPI           odp.EventAPI
	cache              SegmentsCache
	cacheSize          int
	cacheTimeout       time.Duration
	segmentTimeout     time.Duration
	eventTimeout       time.Duration
	eventFlushInterval time.Duration
}

// The defaults of the ODP settings. Source: config.md section 6.
const (
	DefaultSegmentsCacheSize    = 10_000
	DefaultSegmentsCacheTimeout = 10 * time.Minute
	DefaultODPRequestTimeout    = 10 * time.Second
	DefaultODPFlushInterval     = time.Second
)

func defaultODPSettings() odpSettings {
	return odpSettings{
		cacheSize: DefaultSegmentsCacheSize, cacheTimeout: DefaultSegmentsCacheTimeout,
		segmentTimeout: DefaultODPRequestTimeout, eventTimeout: DefaultODPRequestTimeout, eventFlushInterval: DefaultODPFlushInterval,
	}
}

// A SegmentsCache keeps the segments of users, in place of the client's own cache.
// It must be safe for concurrent use. Source: pages.md O-5.
type SegmentsCache interface {
	Save(key string, segments []string)
	Lookup(key string) (segments []string, ok bool)
	Reset()
}

// An ODPEvent is an event for ODP.
type ODPEvent struct {
	Type        string
	Action      string
	Identifiers map[string]string
	Data        map[string]any
}

// An ODPEventSender takes ODP events to their destination, in place of the client's
// own: the SDKs' ODP event manager. It must be safe for concurrent use.
// Source: pages.md O-6.
type ODPEventSender interface {
	SendODPEvent(ctx context.Context, e ODPEvent) error
}

// WithoutODP switches everything off that has to do with ODP; asking for segments
// is then [ErrODPDisabled]. Source: pages.md O-1.
func WithoutODP() Option { return func(s *settings) { s.odp.isDisabled = true } }

// WithSegmentFetcher sets what fetches qualified segments: the SDKs' ODP segment
// manager. The settings of cache and timeout are its own affair then. Default:
// the client's own, [odp.Segments].
// Source: pages.md O-6.
func WithSegmentFetcher(f SegmentFetcher) Option { return func(s *settings) { s.odp.fetcher = f } }

// WithODPEventSender sets what sends ODP events, once they were checked. Default: the
// client's own, [odp.Events].
// Source: pages.md O-6.
func WithODPEventSender(sender ODPEventSender) Option {
	return func(s *settings) { s.odp.sender = sender }
}

// WithSegmentAPI sets what asks ODP below the client's own cache, limits and circuit
// breaker: the SDKs' ODP segment API manager. It is closed by whoever made it. Default:
// [odp.GraphQL]. [WithSegmentFetcher] replaces both. Source: pages.md O-6.
func WithSegmentAPI(api odp.Fetcher) Option { return func(s *settings) { s.odp.segmentAPI = api } }

// WithODPEventAPI sets what posts batches of ODP events below the client's own checks,
// batches and repetitions: the SDKs' ODP event API manager. It is closed by whoever made
// it. Default: [odp.REST]. [WithODPEventSender] replaces both. Source: pages.md O-6.
func WithODPEventAPI(api odp.EventAPI) Option { return func(s *settings) { s.odp.eventAPI = api } }

// WithSegmentsCache sets the cache of segments; size and timeout are ignored then.
// Source: pages.md O-5.
func WithSegmentsCache(cache SegmentsCache) Option { return func(s *settings) { s.odp.cache = cache } }

// WithSegmentsCacheSize sets how many users' segments are kept. Default 10,000; 0
// disables the cache. Source: pages.md O-2.
func WithSegmentsCacheSize(users int) Option { return func(s *settings) { s.odp.cacheSize = users } }

// WithSegmentsCacheTimeout sets how long a user's segments are good. Default 10
// minutes; 0 is forever. Source: pages.md O-3.
func WithSegmentsCacheTimeout(timeout time.Duration) Option {
	return func(s *settings) { s.odp.cacheTimeout = timeout }
}

// WithSegmentRequestTimeout bounds one request for segments. 0 stands for the
// default, 10 s. Source: pages.md O-7.
func WithSegmentRequestTimeout(timeout time.Duration) Option {
	return func(s *settings) { s.odp.segmentTimeout = orDefault(timeout, DefaultODPRequestTimeout) }
}

// WithODPEventRequestTimeout bounds one request that sends ODP events. 0 stands for
// the default, 10 s. Source: pages.md O-7.
func WithODPEventRequestTimeout(timeout time.Duration) Option {
	return func(s *settings) { s.odp.eventTimeout = orDefault(timeout, DefaultODPRequestTimeout) }
}

// WithODPEventFlushInterval sets how long ODP events wait for a batch. Default 1 s;
// 0 sends batches of one. Source: pages.md O-7, O-8.
func WithODPEventFlushInterval(interval time.Duration) Option {
	return func(s *settings) { s.odp.eventFlushInterval = interval }
}

func orDefault(d, standard time.Duration) time.Duration {
	if d <= 0 {
		return standard
	}
	return d
}
