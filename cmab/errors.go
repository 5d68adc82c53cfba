package cmab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

var (
	// ErrBudget is wrapped when a prediction took longer than [Config.Budget].
	ErrBudget = errors.New("the time for a prediction is up")
	// ErrInvalidReply is wrapped when the service answered something else than a
	// prediction. Source: cmab.md CM-16, CM-P5.
	ErrInvalidReply = errors.New("the reply is no prediction")
)

// A StatusError is an HTTP answer other than 2xx.
type StatusError struct{ Code int }

func (e *StatusError) Error() string {
	return fmt.Sprintf("the service answered %d %s", e.Code, http.StatusText(e.Code))
}

// isTransient tells whether a failed attempt is worth repeating: the network
// failed, or the service is overloaded or broken. Source: cmab.md CM-P6.
func isTransient(err error) bool {
	if status := (*StatusError)(nil); errors.As(err, &status) {
		return status.Code == http.StatusTooManyRequests || status.Code >= http.StatusInternalServerError
	}
	return !errors.Is(err, ErrInvalidReply)
}

// withoutURL drops the address that net/http puts into its errors: an endpoint of
// one's own may hold a password.
func withoutURL(err error) error {
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// endOf says why a context is done: the budget, or the caller's own reason.
func endOf(ctx context.Context) error { return context.Cause(ctx) }
