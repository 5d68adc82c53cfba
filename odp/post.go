package odp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A poster posts to ODP. It hands requests to the transport without a client between
// them: redirects are not followed, for the key is for one host, and there are no
// cookies. Safe for concurrent use.
type poster struct {
	transport http.RoundTripper
	timeout   time.Duration
	last      *atomic.Pointer[target] // posted to
}

// A target is what all requests to an address have in common. It is shared by them, and
// not changed.
type target struct {
	address, key string
	url          *url.URL
	header       http.Header
}

// newPoster makes a poster of requests that take at most timeout. They go through
// transport; nil: an own pool of at most so many idle connections.
func newPoster(transport http.RoundTripper, timeout time.Duration, conns int) poster {
	if transport == nil {
		transport = &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSHandshakeTimeout: timeout,
			MaxIdleConns: conns, MaxIdleConnsPerHost: conns, IdleConnTimeout: 90 * time.Second,
		}
	}
	return poster{transport, timeout, &atomic.Pointer[target]{}}
}

// close drops idle connections.
func (p *poster) close() {
	if t, ok := p.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

const maxRetryAfter = 10 * time.Second

var errTimeout = errors.New("timed out")

// post makes one request and returns the answer's body, of at most so many bytes, if its
// status is 2xx.
func (p *poster) post(ctx context.Context, address, key string, body []byte, most int64) ([]byte, error) {
	t := p.last.Load()
	if t == nil || t.address != address || t.key != key {
		var err error
		if t, err = newTarget(address, key); err != nil {
			return nil, err
		}
		p.last.Store(t)
	}
	whole := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, p.timeout, errTimeout)
	defer cancel()
	failed := func(err error) error {
		switch {
		case whole.Err() != nil:
			return cancelled(whole)
		case ctx.Err() != nil:
			err = fmt.Errorf("%w after %v", errTimeout, p.timeout)
		}
		return &Error{Class: NetworkError, Err: bare(err)}
	}
	response, err := p.transport.RoundTrip(t.request(ctx, body))
	if err != nil {
		return nil, failed(err)
	}
	defer response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode > 299 {
		// Read so that the connection can be kept, but not more than a decent answer has.
		_, _ = io.CopyN(io.Discard, response.Body, 64<<10)
		return nil, &Error{Class: HTTPError, Status: response.StatusCode, RetryAfter: parseRetryAfter(response.Header, time.Now())}
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, most+1))
	switch {
	case err != nil:
		return nil, failed(err)
	case int64(len(answer)) > most:
		return nil, &Error{Class: DecodeError, Detail: "the answer is larger than " + strconv.FormatInt(most, 10) + " bytes"}
	}
	return answer, nil
}

// newTarget refuses what can't be posted to.
func newTarget(address, key string) (*target, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, &Error{Class: InvalidHost, Err: bare(err)}
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, &Error{Class: InvalidHost, Detail: "its scheme must be http or https"}
	case u.Host == "":
		return nil, &Error{Class: InvalidHost, Detail: "it names no host"}
	}
	r := http.Request{Header: http.Header{"Content-Type": {"application/json"}, "X-Api-Key": {key}}}
	if password, ok := u.User.Password(); ok || u.User.Username() != "" {
		r.SetBasicAuth(u.User.Username(), password)
	}
	return &target{address, key, u, r.Header}, nil
}

// request makes a request of the body.
func (t *target) request(ctx context.Context, body []byte) *http.Request {
	again := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	r := &http.Request{
		Method: http.MethodPost, URL: t.url, Host: t.url.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: t.header, GetBody: again, ContentLength: int64(len(body)),
	}
	r.Body, _ = again()
	return r.WithContext(ctx)
}

// bare takes the URL off an error, which may hold a password.
func bare(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// parseRetryAfter reads the header, seconds or an HTTP date; 0 for none, for the
// past and for what is neither. More than the limit is the limit.
func parseRetryAfter(header http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(header.Get("Retry-After"))
	if text == "" {
		return 0
	}
	if strings.Trim(text, "0123456789") == "" {
		seconds, err := strconv.ParseInt(text, 10, 32)
		if err != nil { // more than fits
			return maxRetryAfter
		}
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
