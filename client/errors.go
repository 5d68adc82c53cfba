package client

import (
	"errors"
	"fmt"

	"sortition/odp"
	"sortition/sinks"
)

// The errors callers tell apart with errors.Is.
var (
	// ErrNoSource: neither a datafile nor an SDK key nor a source of one's own was
	// given. Source: pages.md I-1.
	ErrNoSource = errors.New("a datafile, an SDK key or a datafile source is needed")
	// ErrNotReady: there is no datafile yet. Its text is the reason a decision then
	// carries. Source: decide.md DC-38.
	ErrNotReady = errors.New("Optimizely SDK not configured properly yet.") //nolint:staticcheck // the SDKs' own words, the same in all of them
	// ErrClosed: the client has been closed. Source: event-batching.md EB-P7.
	ErrClosed = sinks.ErrClosed
	// ErrFull: there is no room for an event now, and the client doesn't wait for it
	// unless [BlockWhenFull] says so.
	ErrFull = sinks.ErrFull

	// ErrFlagNotFound: the datafile has no flag of that key.
	ErrFlagNotFound = errors.New("no flag of that key")
	// ErrPrediction: a contextual bandit's variation could not be had.
	ErrPrediction = errors.New("prediction could not be had")
	// ErrEventNotFound: the datafile has no event of that key. Source: pages.md U-4.
	ErrEventNotFound = errors.New("no event of that key")
	// ErrExperimentNotFound: the datafile has no experiment of that key.
	ErrExperimentNotFound = errors.New("no experiment of that key")
	// ErrVariationNotFound: the experiment has no variation of that key.
	ErrVariationNotFound = errors.New("no variation of that key")
	// ErrVariableNotFound: the flag has no variable of that key.
	ErrVariableNotFound = errors.New("no variable of that key")
	// ErrVariableType: the variable is of another type than was asked for.
	ErrVariableType = errors.New("variable is of another type")
	// ErrVariableInvalid: the variable's text is no value of its type.
	ErrVariableInvalid = errors.New("variable value is invalid")
	// ErrEmptyKey: a key that must not be empty is. Source: legacy-api.md LG-2.
	ErrEmptyKey = errors.New("key is empty")

	// ErrODPDisabled: ODP is switched off. Source: pages.md O-1.
	ErrODPDisabled error = odp.ErrDisabled
	// ErrODPNotIntegrated: the datafile names no host or no public key of ODP.
	// Source: pages.md O-1, odp.md section 1.
	ErrODPNotIntegrated error = odp.ErrNotIntegrated
)

// An EventError hands back events that were not delivered, in one batch, and says
// why. Without an outbox they are the receiver's from then on: nobody sends them
// again. Its text holds no user id; its Event does.
// Source: event-batching.md EB-P4, EB-P5.
type EventError struct {
	Event    LogEvent
	Visitors int // events in it
	Status   int // of the last answer; 0: there was none
	Attempts int // requests made for the batch
	// IsPermanent: it was refused for good, and sending it again is useless.
	IsPermanent bool
	Err         error
}

func (e *EventError) Error() string {
	what := "not delivered"
	if e.IsPermanent {
		what = "refused"
	}
	return fmt.Sprintf("batch of %d events %s: %v", e.Visitors, what, e.Err)
}

func (e *EventError) Unwrap() error { return e.Err }

// A CloseError says what was still undelivered when the time of [Client.Close] was
// over. Source: event-batching.md EB-P7.
type CloseError struct {
	Undelivered []LogEvent // oldest first; one that was under way may have arrived
	Visitors    int        // events in them
	Err         error      // what ended the wait
}

func (e *CloseError) Error() string {
	return fmt.Sprintf("close client: %d events not delivered: %v", e.Visitors, e.Err)
}

func (e *CloseError) Unwrap() error { return e.Err }
