package sinks

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// The errors callers tell apart with errors.Is.
var (
	// ErrEndpoint: the address isn't one that can be posted to.
	ErrEndpoint = errors.New("unusable event endpoint")
	// ErrClosed: closing has begun, so nothing new is taken. Source: event-batching.md EB-P7.
	ErrClosed = errors.New("closed")
	// ErrFull: there is no room now, and the caller chose not to wait.
	ErrFull = errors.New("full")
	// ErrTooLarge: it would not fit even if there was nothing else.
	ErrTooLarge = errors.New("larger than the whole capacity")
	// ErrLocked: another process uses the outbox.
	ErrLocked = errors.New("outbox is in use by another process")
	// ErrDamaged: what was once safely written doesn't read back.
	ErrDamaged = errors.New("outbox is damaged")
)

// IsPermanent is the one question that decides what becomes of a batch: true, it
// was refused for good and sending it again is useless; false, the same bytes may
// be accepted another time. Everything is transient (network errors, timeouts, an
// ended context, 408, 425, 429, 5xx) but an answer of 3xx or of another 4xx, and
// an address that cannot be posted to.
//
// Source: event-batching.md EB-P3, EB-P5.
func IsPermanent(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return !status.isTransient()
	}
	return errors.Is(err, ErrEndpoint)
}

// A StatusError is an answer other than 2xx. Its text doesn't hold the answer's
// body, which may repeat the user ids that were sent.
type StatusError struct {
	Status int
	// RetryAfter is how long the server asked to wait, bounded by the Poster's
	// limit; 0: it didn't ask.
	RetryAfter time.Duration
	// Answer is the beginning of the answer's body, at most maxAnswer bytes. It
	// belongs into the refused batches, and into no log.
	Answer []byte
}

func (e *StatusError) Error() string {
	if text := http.StatusText(e.Status); text != "" {
		return fmt.Sprintf("status %d %s", e.Status, text)
	}
	return fmt.Sprintf("status %d", e.Status)
}

func (e *StatusError) isTransient() bool {
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return e.Status >= 500
}

// A DeliveryError says why a batch isn't delivered. It names the host only, so
// it may be logged.
type DeliveryError struct {
	Host     string
	Attempts int // requests made for the batch in this call
	Err      error
}

func (e *DeliveryError) Error() string {
	return fmt.Sprintf("deliver event batch to %s: %v (attempts: %d)", e.Host, e.Err, e.Attempts)
}

func (e *DeliveryError) Unwrap() error { return e.Err }

// A Result says what became of a batch. Delivered, the visitors of Refused and
// those of Unsent are all its visitors.
type Result struct {
	Delivered int       // visitors accepted
	Refused   []Refusal // parts refused for good
	Unsent    []Batch   // parts neither accepted nor refused, in order; only beside an error
	Attempts  int       // requests made
}

// A Refusal is a batch, or what was left of it after splitting, that will never
// be accepted.
type Refusal struct {
	Batch  Batch
	Status int    // HTTP status; 0: there was no answer
	Reason string // what a log may hold
	Answer string // the beginning of the server's answer; may hold what was sent
}

func refusalOf(b Batch, err error) Refusal {
	r := Refusal{Batch: b, Reason: err.Error()}
	var status *StatusError
	if errors.As(err, &status) {
		r.Status, r.Answer = status.Status, string(status.Answer)
	}
	return r
}

// visitorsOf counts the visitors of refusals.
func visitorsOf(refused []Refusal) int {
	n := 0
	for i := range refused {
		n += refused[i].Batch.Visitors
	}
	return n
}
