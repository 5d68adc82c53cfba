package sinks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// PosterOptions configure a [Poster]. Zero values stand for the defaults.
type PosterOptions struct {
	// Timeout of one attempt, from connecting to the end of the answer. Default
	// 10 s. Source: event-batching.md EB-18.
	Timeout time.Duration
	// Concurrency bounds the requests under way at once. Default 4.
	Concurrency int
	// Transport sends the requests; default: an own pool of kept-alive
	// connections, with the proxy settings of the environment.
	Transport http.RoundTripper
	// UserAgent of the requests. Default "sortition".
	UserAgent string
}

// Validate reports all faults.
func (o PosterOptions) Validate() error {
	var faults []error
	if o.Timeout < 0 {
		faults = append(faults, errors.New("the timeout must not be negative"))
	}
	if o.Concurrency < 0 || o.Concurrency > 1000 {
		faults = append(faults, errors.New("the concurrency must be 1 to 1000"))
	}
	return errors.Join(faults...)
}

// A Poster posts event batches over HTTP. It holds no batches: what it cannot
// deliver it hands back. Safe for concurrent use; it starts no goroutines.
//
// Source: events.md section 1, event-batching.md section 6.
type Poster struct {
	client    *http.Client
	timeout   time.Duration
	userAgent string
	slots     chan struct{} // capacity: requests under way at once
	counters  counters

	mu       sync.Mutex          // guards breakers
	breakers map[string]*breaker // by endpoint; there are as many as projects have endpoints
}

// NewPoster makes a poster.
func NewPoster(o PosterOptions) (*Poster, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("configure event delivery: %w", err)
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.Concurrency == 0 {
		o.Concurrency = 4
	}
	if o.UserAgent == "" {
		o.UserAgent = "sortition"
	}
	if o.Transport == nil {
		o.Transport = &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			ForceAttemptHTTP2:   true,
			TLSHandshakeTimeout: o.Timeout,
			MaxIdleConnsPerHost: o.Concurrency,
			IdleConnTimeout:     90 * time.Second,
			DisableCompression:  true,
		}
	}
	return &Poster{
		client: &http.Client{
			Transport:     o.Transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		timeout: o.Timeout, userAgent: o.UserAgent,
		slots:    make(chan struct{}, o.Concurrency),
		breakers: map[string]*breaker{},
	}, nil
}

// Close drops the idle connections. Calls under way are not disturbed.
func (p *Poster) Close() { p.client.CloseIdleConnections() }

// Deliver posts a batch with the quick retries, and hands back what then is
// neither accepted nor refused: for those who have no durable queue behind them.
// A batch that is too large for the server (413) is halved, down to one visitor.
//
// The error is nil exactly when nothing is unsent, and a [*DeliveryError]
// otherwise; refusals are in the Result and are no error.
//
// Source: event-batching.md EB-P3, EB-P4, EB-P5.
func (p *Poster) Deliver(ctx context.Context, b Batch) (Result, error) {
	return p.deliver(ctx, b, nil)
}

// DeliverDurably is Deliver for those who have a durable queue: it goes on until
// all of the batch is accepted or refused, or ctx ends. After the quick retries
// the endpoint's circuit breaker opens, which holds all batches for it, unless it
// has answered others meanwhile; the batch is tried again after growing pauses of up
// to 60 s.
//
// Source: event-batching.md EB-P4.
func (p *Poster) DeliverDurably(ctx context.Context, b Batch) (Result, error) {
	return p.deliver(ctx, b, p.breakerOf(b.Endpoint))
}

func (p *Poster) breakerOf(endpoint string) *breaker {
	p.mu.Lock()
	defer p.mu.Unlock()
	br := p.breakers[endpoint]
	if br == nil {
		br = newBreaker()
		p.breakers[endpoint] = br
	}
	return br
}

// deliver takes a batch piece by piece. Without a breaker a piece that fails is
// unsent, and the others are still tried.
func (p *Poster) deliver(ctx context.Context, b Batch, br *breaker) (Result, error) {
	var result Result
	var failure error
	u, err := parseEndpoint(b.Endpoint)
	if err != nil {
		p.counters.refusedVisitors.Add(uint64(b.Visitors))
		result.Refused = []Refusal{refusalOf(b, err)}
		return result, nil
	}
	pieces := []Batch{b}
	for len(pieces) > 0 {
		piece := pieces[0]
		attempts, err := p.postPiece(ctx, u, piece.Body, br)
		result.Attempts += attempts
		switch {
		case err == nil:
			result.Delivered += piece.Visitors
			p.counters.batches.Add(1)
			p.counters.visitors.Add(uint64(piece.Visitors))
		case IsPermanent(err):
			if left, right, ok := piece.Split(); ok && isTooLarge(err) {
				p.counters.splits.Add(1)
				pieces[0] = right
				pieces = append([]Batch{left}, pieces...)
				continue
			}
			p.counters.refusedVisitors.Add(uint64(piece.Visitors))
			result.Refused = append(result.Refused, refusalOf(piece, err))
		case ctx.Err() != nil:
			result.Unsent = append(result.Unsent, pieces...)
			return result, &DeliveryError{Host: u.Host, Attempts: result.Attempts, Err: err}
		default: // only without a breaker
			failure = err
			result.Unsent = append(result.Unsent, piece)
		}
		pieces = pieces[1:]
	}
	if failure != nil {
		return result, &DeliveryError{Host: u.Host, Attempts: result.Attempts, Err: failure}
	}
	return result, nil
}

func isTooLarge(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Status == http.StatusRequestEntityTooLarge
}

// postPiece posts a body until it is accepted or refused: without a breaker until
// the quick retries are used up, with one until ctx ends.
func (p *Poster) postPiece(ctx context.Context, u *url.URL, body []byte, br *breaker) (attempts int, err error) {
	if br == nil {
		return p.tryQuickly(ctx, u, body, maxAttempts, nil)
	}
	var last error
	for pauses := 0; ; {
		isProbe, err := br.enter(ctx)
		if err != nil {
			return attempts, endedAfter(err, last)
		}
		began, most := time.Now(), maxAttempts
		if isProbe {
			most = 1
		}
		made, err := p.tryQuickly(ctx, u, body, most, br)
		attempts += made
		switch {
		case err == nil || IsPermanent(err):
			br.leave(isProbe, began, answered, 0)
			return attempts, err
		case ctx.Err() != nil:
			br.leave(isProbe, began, unknown, 0)
			return attempts, err
		}
		last = err
		opened, isAlone := br.leave(isProbe, began, failed, retryAfterOf(err))
		if opened {
			p.counters.breakerOpened.Add(1)
		}
		if !isAlone {
			continue
		}
		pauses++
		if ended := sleep(ctx, breakerPause(pauses, retryAfterOf(err))); ended != nil {
			return attempts, endedAfter(ended, last)
		}
	}
}

// tryQuickly makes up to most attempts, fewer if the breaker opens meanwhile.
func (p *Poster) tryQuickly(ctx context.Context, u *url.URL, body []byte, most int, br *breaker) (attempts int, err error) {
	for attempts < most {
		if attempts > 0 {
			if ended := sleep(ctx, retryDelay(attempts, retryAfterOf(err))); ended != nil {
				return attempts, endedAfter(ended, err)
			}
			if br != nil && br.isOpen() {
				return attempts, err
			}
			p.counters.retries.Add(1)
		}
		attempts++
		if err = p.attempt(ctx, u, body); err == nil || IsPermanent(err) || ctx.Err() != nil {
			return attempts, err
		}
	}
	return attempts, err
}

// endedAfter says that there was no time for another attempt, and how the last
// one failed, if there was one.
func endedAfter(ended, last error) error {
	if last == nil {
		return ended
	}
	return fmt.Errorf("%w; before that: %w", ended, last)
}

func retryAfterOf(err error) time.Duration {
	var status *StatusError
	if errors.As(err, &status) {
		return status.RetryAfter
	}
	return 0
}

var errTimeout = errors.New("timed out")

// attempt makes one request.
func (p *Poster) attempt(ctx context.Context, u *url.URL, body []byte) error {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	whole := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, p.timeout, errTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: not a URL", ErrEndpoint)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", p.userAgent)
	p.counters.attempts.Add(1)
	response, err := p.client.Do(request)
	if err != nil {
		switch {
		case whole.Err() != nil:
			return context.Cause(whole)
		case ctx.Err() != nil:
			return fmt.Errorf("%w after %v", errTimeout, p.timeout)
		}
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // its text would repeat the whole URL
		}
		return err
	}
	// The status decides, however the rest of the answer fares. It is read so that
	// the connection can be kept, but not more than a decent answer holds.
	defer response.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	_, _ = io.CopyN(io.Discard, response.Body, maxDrain-maxAnswer)
	if response.StatusCode >= 200 && response.StatusCode <= 299 {
		return nil
	}
	return &StatusError{
		Status: response.StatusCode, Answer: answer,
		RetryAfter: parseRetryAfter(response.Header, time.Now()),
	}
}

// counters count what a Poster did.
type counters struct {
	attempts, retries, batches, visitors, refusedVisitors, splits, breakerOpened atomic.Uint64
}

// PosterStats are a Poster's counters since it was made.
type PosterStats struct {
	Attempts        uint64 // requests
	Retries         uint64 // of those: quick repetitions
	Batches         uint64 // batches accepted, halves counted apart
	Visitors        uint64 // visitors accepted
	RefusedVisitors uint64 // visitors refused for good
	Splits          uint64 // batches halved
	BreakerOpened   uint64 // times an endpoint was found to be down
	BreakersOpen    int    // endpoints held to be down now
}

// Stats reads the counters. Each is exact; they aren't read in one instant.
func (p *Poster) Stats() PosterStats {
	s := PosterStats{
		Attempts: p.counters.attempts.Load(), Retries: p.counters.retries.Load(),
		Batches: p.counters.batches.Load(), Visitors: p.counters.visitors.Load(),
		RefusedVisitors: p.counters.refusedVisitors.Load(), Splits: p.counters.splits.Load(),
		BreakerOpened: p.counters.breakerOpened.Load(),
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, br := range p.breakers {
		if br.isOpen() {
			s.BreakersOpen++
		}
	}
	return s
}
