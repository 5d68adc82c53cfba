package datafile

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
)

// maxDrained is how much of a refusal's body is read to keep its connection.
const maxDrained = 64 << 10

// An answer is what the server said: a datafile, or that there is no newer one.
type answer struct {
	status     int
	body       []byte
	validators validators
}

// fetch asks for the datafile, up to 1 + Retries times. The answer of an error
// carries the last status, 0 if there was none. Source: config.md CF-9.
func (p *Poller) fetch(ctx context.Context) (answer, error) {
	for failures := 1; ; failures++ {
		a, err := p.get(ctx)
		if err == nil || failures > p.config.Retries || !isTransient(err) {
			return a, err
		}
		if !sleep(ctx, p.quickRetryDelay(failures, err)) {
			return a, err
		}
	}
}

// quickRetryDelay is what the server asked for, otherwise 0, 0.2, 0.4, 0.8 … s. A
// server that asks for more than the interval, for days even, gets the interval: so
// often it would be asked anyway, and nothing else ends the wait.
func (p *Poller) quickRetryDelay(failures int, err error) time.Duration {
	var status *StatusError
	if errors.As(err, &status) && status.RetryAfter > 0 {
		return min(status.RetryAfter, p.config.Interval)
	}
	if failures <= 1 {
		return 0
	}
	return min(100*time.Millisecond<<min(failures-1, 16), 2*time.Minute)
}

// sleep returns false if ctx ended it.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// get makes one request. Statuses from 400 are errors. Source: config.md sections
// 2 and 4.
func (p *Poller) get(ctx context.Context) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, p.config.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.address, http.NoBody)
	if err != nil {
		return answer{}, p.redact(err)
	}
	request.Header.Set("User-Agent", "sortition")
	if p.config.AccessToken != "" {
		request.Header.Set("Authorization", "Bearer "+string(p.config.AccessToken))
	}
	p.accepting.Lock()
	known := p.validators
	p.accepting.Unlock()
	if known.lastModified != "" {
		request.Header.Set("If-Modified-Since", known.lastModified)
	}
	if known.etag != "" {
		request.Header.Set("If-None-Match", known.etag)
	}
	// The transport asks for gzip and unpacks it, as long as nobody else sets the header.
	response, err := p.client.Do(request)
	if err != nil {
		return answer{}, p.redact(err)
	}
	defer response.Body.Close()
	a := answer{status: response.StatusCode}
	if a.status == http.StatusNotModified || a.status >= http.StatusBadRequest {
		_, _ = io.CopyN(io.Discard, response.Body, maxDrained) // for the connection's sake only
		if a.status == http.StatusNotModified {
			return a, nil
		}
		refusal := &StatusError{Code: a.status}
		refusal.RetryAfter, refusal.HasRetryAfter = retryAfter(response.Header.Get("Retry-After"))
		return a, refusal
	}
	a.validators = validators{response.Header.Get("Last-Modified"), response.Header.Get("ETag")}
	if a.body, err = readLimited(response.Body, p.config.MaxSize); err != nil {
		return a, p.redact(err)
	}
	return a, nil
}

func (p *Poller) redact(err error) error {
	return redact(err, p.address, string(p.config.AccessToken), p.config.SDKKey)
}

// retryAfter reads the header's two forms: seconds, and a date.
func retryAfter(header string) (wait time.Duration, ok bool) {
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second, true
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(time.Until(at), 0), true
	}
	return 0, false
}
