package sinks

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The quick retries. Source: event-batching.md EB-P3.
const (
	maxAttempts    = 4
	firstDelay     = 200 * time.Millisecond
	maxDelay       = time.Second
	maxRetryAfter  = 10 * time.Second
	delayJitter    = 0.1 // up to a tenth is added, so that clients fall out of step
	maxPause       = 60 * time.Second
	firstPause     = time.Second
	pauseJitter    = 0.1
	maxAnswer      = 1 << 10  // kept of an answer's body
	maxDrain       = 64 << 10 // read of an answer's body so that the connection can be kept
	defaultTimeout = 10 * time.Second
)

// retryDelay is the pause after the n-th failed attempt (from 1): 200, 400, 800
// ms and a little, at most 1 s, or as long as the server asked for if that is
// longer.
func retryDelay(n int, retryAfter time.Duration) time.Duration {
	return max(min(jittered(firstDelay<<min(n-1, 10), delayJitter), maxDelay), jittered(retryAfter, delayJitter/10))
}

// breakerPause is the pause after an endpoint has failed n times in a row, each
// time after its last quick retry (from 1): 1, 2, 4, … 60 s.
func breakerPause(n int, retryAfter time.Duration) time.Duration {
	pause := min(firstPause<<min(n-1, 10), maxPause)
	// Taken off, not added: 60 s is the most.
	pause -= time.Duration(rand.Float64() * pauseJitter * float64(pause))
	return max(pause, retryAfter)
}

// jittered adds up to a share of d. It never waits shorter than d, which a
// server may have asked for.
func jittered(d time.Duration, share float64) time.Duration {
	return d + time.Duration(rand.Float64()*share*float64(d))
}

// parseRetryAfter reads the Retry-After header, seconds or an HTTP date; 0 for
// none, for the past and for what is neither. More than the limit is the limit.
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

// sleep waits, or returns why it didn't.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
