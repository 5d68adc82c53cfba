package odp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// A Class says in one word why something could not be had or sent.
// Source: odp.md OD-P5.
type Class uint8

// The classes.
const (
	ClassNone Class = iota // no failure

	NotReady          // there is no datafile yet
	NotEnabled        // ODP is switched off
	NotIntegrated     // the datafile names no host or no public key
	InvalidIdentifier // ODP doesn't know the user, or the id can't be sent
	DecodeError       // the answer is JSON, but not what was asked for
	JSONError         // the answer isn't JSON
	HTTPError         // a status other than 2xx
	NetworkError      // no answer: refused, cut, timed out
	ServerError       // ODP names another error, see Error.Classification
	InvalidHost       // the integration's host is no address
	CircuitOpen       // not asked: ODP failed too often just now
	Cancelled         // the caller's context ended first
	Closed            // after Close
	InvalidEvent      // an event that can't be sent, whatever ODP says
	Full              // there is no room for another event

	numClasses
)

var classNames = [numClasses]string{
	"none", "not_ready", "not_enabled", "not_integrated", "invalid_identifier", "decode_error", "json_error", "http_error",
	"network_error", "server_error", "invalid_host", "circuit_open", "cancelled", "closed", "invalid_event", "full",
}

// String is the class's name in records and metrics: lowercase, with underscores.
func (c Class) String() string {
	if c < numClasses {
		return classNames[c]
	}
	return "class(" + strconv.Itoa(int(c)) + ")"
}

// Classes lists all classes of failures.
func Classes() []Class {
	all := make([]Class, 0, numClasses-1)
	for c := NotReady; c < numClasses; c++ {
		all = append(all, c)
	}
	return all
}

// The errors callers tell apart with errors.Is; each stands for its class, whatever
// else the error says. Source: pages.md O-1, odp.md OD-P5.
var (
	ErrNotReady          = &Error{Class: NotReady}
	ErrDisabled          = &Error{Class: NotEnabled}
	ErrNotIntegrated     = &Error{Class: NotIntegrated}
	ErrInvalidIdentifier = &Error{Class: InvalidIdentifier}
	ErrDecode            = &Error{Class: DecodeError}
	ErrJSON              = &Error{Class: JSONError}
	ErrHTTP              = &Error{Class: HTTPError}
	ErrNetwork           = &Error{Class: NetworkError}
	ErrServer            = &Error{Class: ServerError}
	ErrInvalidHost       = &Error{Class: InvalidHost}
	ErrCircuitOpen       = &Error{Class: CircuitOpen}
	ErrClosed            = &Error{Class: Closed}
	ErrInvalidEvent      = &Error{Class: InvalidEvent}
	ErrFull              = &Error{Class: Full}
)

// An Error is a failure of this package. Its text holds no user id, no identifier
// and nothing of what the server wrote but its classification.
type Error struct {
	Class          Class
	Status         int           // of HTTPError
	Classification string        // of ServerError, as ODP names it
	RetryAfter     time.Duration // the server asked to wait so long; 0: it didn't
	Detail         string        // what exactly; may be ""
	Err            error         // the cause, may be nil
}

func (e *Error) Error() string {
	text := sentences[e.Class%numClasses]
	switch e.Class {
	case HTTPError:
		text = "ODP answered status " + strconv.Itoa(e.Status)
		if name := http.StatusText(e.Status); name != "" {
			text += " " + name
		}
	case ServerError:
		text += ": " + e.Classification
	default:
	}
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

var sentences = [numClasses]string{
	"no failure", "there is no datafile yet", "ODP is not enabled", "project is not integrated with ODP",
	"invalid identifier", "decode error", "JSON decode error", "HTTP error", "network error", "ODP answered an error",
	"unusable ODP host", "ODP is not asked for a while: it failed too often", "given up", "closed", "invalid ODP event", "no room for another ODP event",
}

func (e *Error) Unwrap() error { return e.Err }

// Is makes every error equal to the one that stands for its class.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Class == e.Class && t.Status == 0 && t.Classification == "" && t.Detail == "" && t.Err == nil
}

// ClassOf is the class of an error; ClassNone for nil, and NetworkError for an error
// that isn't of this package: a fetcher of one's own failed to reach something.
func ClassOf(err error) Class {
	if err == nil {
		return ClassNone
	}
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Class
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Cancelled
	}
	return NetworkError
}

// IsTransient is the one question that decides whether asking or sending again may
// help: network errors, 408, 425, 429 and 5xx (as for the event endpoint), a breaker
// that is open, a datafile that is to come, a queue that is full, a call that was given
// up or came after Close. All else stays as it is.
// Source: odp.md OD-33, OD-P5, OD-P11; event-batching.md EB-P3.
func IsTransient(err error) bool {
	switch ClassOf(err) {
	case NetworkError, CircuitOpen, NotReady, Cancelled, Full, Closed:
		return true
	case HTTPError:
		var e *Error
		return errors.As(err, &e) && isTransientStatus(e.Status)
	default:
		return false
	}
}

// isTransientStatus is for statuses that are no success. 408 and 425 say what a server or
// a proxy thinks of the connection, not of the request.
func isTransientStatus(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return status >= 500
}

// isOutage tells whether a failure speaks against ODP as a whole, not against one
// request. Bytes that aren't JSON come from something in ODP's place.
func isOutage(err error) bool {
	switch ClassOf(err) {
	case NetworkError, JSONError:
		return true
	case HTTPError:
		return IsTransient(err)
	default:
		return false
	}
}

func retryAfterOf(err error) time.Duration {
	var e *Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}

// cancelled says that ctx ended before there was an answer.
func cancelled(ctx context.Context) error {
	return &Error{Class: Cancelled, Err: context.Cause(ctx)}
}

func fetchError(err error) error { return fmt.Errorf("fetch segments: %w", err) }
