package odp

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"
)

// An EventBatch is a finished batch: bytes to POST and where to. Body is never changed:
// every attempt sends the same bytes. Source: odp.md section 5.1.
type EventBatch struct {
	Host, PublicKey string
	Events          int    // elements of Body
	Body            []byte // a JSON array of 1 to 10 events
}

// An EventAPI takes a batch to ODP, or somewhere in its place: the SDKs' event API
// manager. Whether to try again says [IsTransient]; an error that isn't an [*Error] is
// held to be a [NetworkError]. It must be safe for concurrent use. Source: pages.md O-6.
type EventAPI interface {
	SendEvents(ctx context.Context, b EventBatch) error
}

// REST is the [EventAPI] that posts to ODP, once.
type REST struct{ to poster }

// NewREST makes an API whose requests take at most timeout; 0 stands for the default.
// Requests go through transport; nil: an own pool of connections.
func NewREST(timeout time.Duration, transport http.RoundTripper) *REST {
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	return &REST{newPoster(transport, timeout, 8)}
}

// Close drops idle connections.
func (r *REST) Close() { r.to.close() }

// SendEvents posts a batch. Errors are [*Error]; an answer of 3xx is none, as with the
// SDKs. Source: odp.md OD-33.
func (r *REST) SendEvents(ctx context.Context, b EventBatch) error {
	_, err := r.to.post(ctx, b.Host+"/v3/events", b.PublicKey, b.Body, 64<<10)
	var e *Error
	if errors.As(err, &e) {
		isAnswered := e.Class == DecodeError // accepted, with a longer answer than anybody reads
		if isAnswered || e.Class == HTTPError && e.Status < 400 && e.Status >= 300 {
			return nil
		}
	}
	return err
}

// The pauses between attempts. Source: odp.md section 5.4, OD-33, OD-P11.
const (
	DefaultAttempts  = 4
	firstRetry       = 200 * time.Millisecond
	maxRetry         = time.Second
	longRetry        = time.Second // after the quick attempts, doubling
	maxLongRetry     = time.Minute
	retryJitterShare = 0.1
)

// Deliver has an API try until a batch is accepted or refused for good, at most so many
// times; 0: until ctx ends. The error is that of the last attempt. Source: odp.md OD-33,
// OD-P11.
func Deliver(ctx context.Context, api EventAPI, b EventBatch, attempts int) (made int, err error) {
	for {
		made++
		err := api.SendEvents(ctx, b)
		if err == nil {
			return made, nil
		}
		var known *Error
		if !errors.As(err, &known) {
			err = &Error{Class: NetworkError, Err: err}
		}
		if ctx.Err() != nil || !IsTransient(err) || attempts > 0 && made >= attempts {
			return made, err
		}
		pause := min(firstRetry<<min(made-1, 10), maxRetry)
		if made >= DefaultAttempts {
			pause = min(longRetry<<min(made-DefaultAttempts, 10), maxLongRetry)
		}
		pause += time.Duration(rand.Float64() * retryJitterShare * float64(pause))
		if sleep(ctx, max(pause, retryAfterOf(err))) != nil {
			return made, err
		}
	}
}
