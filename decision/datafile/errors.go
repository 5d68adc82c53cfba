package datafile

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

var (
	// ErrNotReady means that no datafile has been installed yet.
	ErrNotReady = errors.New("no datafile yet")
	// ErrForbidden is wrapped when the CDN answers 403. Source: config.md CF-16.
	ErrForbidden = errors.New("access to the datafile is refused: check SDK key and access token")
	// ErrTooLarge is wrapped when a datafile exceeds [Options.MaxSize].
	ErrTooLarge = errors.New("datafile exceeds the size limit")
	// ErrEmpty means that a datafile has no content at all.
	ErrEmpty = errors.New("datafile is empty")
	// ErrCorrupt is wrapped when stored content doesn't match its checksum.
	ErrCorrupt = errors.New("content does not match its checksum")
	// ErrRunning is returned by a second Run of one source.
	ErrRunning = errors.New("source is running already, or has been run")
)

// A StatusError is an HTTP answer that is no datafile. It wraps [ErrForbidden]
// if the status is 403.
type StatusError struct {
	Code          int           // HTTP status
	RetryAfter    time.Duration // as the server asked for
	HasRetryAfter bool          // it did ask
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("the server answered %d %s", e.Code, http.StatusText(e.Code))
}

func (e *StatusError) Unwrap() error {
	if e.Code == http.StatusForbidden {
		return ErrForbidden
	}
	return nil
}

// isTransient tells whether a failed request is worth repeating at once: the
// server is overloaded or restarting, or the connection failed. A timeout isn't;
// it has taken its time already. Source: config.md CF-9.
func isTransient(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		switch status.Code {
		case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		case http.StatusTooManyRequests, http.StatusRequestEntityTooLarge:
			return status.HasRetryAfter
		}
		return false
	}
	var timeout net.Error
	isTimeout := errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
	return !isTimeout && !errors.Is(err, context.Canceled) && !errors.Is(err, ErrTooLarge)
}

// redact takes the request's address, which holds the SDK key, out of an error of
// net/http, and the secrets out of what is left.
func redact(err error, secrets ...string) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	text := err.Error()
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "[redacted]")
			text = strings.ReplaceAll(text, url.PathEscape(s), "[redacted]")
		}
	}
	if text != err.Error() {
		return errors.New(text)
	}
	return err
}
