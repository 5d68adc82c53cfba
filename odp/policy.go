package odp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// A Policy says what becomes of an activity whose user's segments can't be had.
type Policy uint8

// The policies.
const (
	// Unknown decides with segments unknown, and the record says why.
	Unknown Policy = iota
	// Stale decides with an old answer if there is one no older than allowed, see
	// Config.StaleFor; else as Unknown.
	Stale
	// Hold asks again until there is an answer, and holds up the stream meanwhile.
	// What asking again can't help ([IsTransient]) is decided as Unknown.
	Hold
	// DeadLetter doesn't decide: the activity becomes a dead letter.
	DeadLetter
)

var policyNames = [...]string{"unknown", "stale", "hold", "dead_letter"}

// String is the policy's name in configurations.
func (p Policy) String() string {
	if int(p) < len(policyNames) {
		return policyNames[p]
	}
	return fmt.Sprintf("policy(%d)", int(p))
}

// ParsePolicy reads a policy's name.
func ParsePolicy(name string) (Policy, error) {
	if i := slices.Index(policyNames[:], name); i >= 0 {
		return Policy(i), nil
	}
	return 0, errors.New(`the policy must be "unknown", "stale", "hold" or "dead_letter"`)
}

// UnmarshalText is [ParsePolicy].
func (p *Policy) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePolicy(string(text))
	return err
}

// MarshalText is the name.
func (p Policy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// A Verdict says what to do with an activity.
type Verdict uint8

// The verdicts.
const (
	DecideKnown   Verdict = iota // Segments are known
	DecideUnknown                // they aren't; Err says why
	Refuse                       // as a dead letter; Err says why, and its class is the reason
)

// A Resolution is a result with what it means for the activity.
type Resolution struct {
	Result
	Verdict Verdict
}

// Code is what a record says of segments that aren't known, or are old: a class, or
// "stale"; "" if there is nothing to say.
func (r *Resolution) Code() string {
	switch {
	case r.Err != nil:
		return ClassOf(r.Err).String()
	case r.Source == FromStale:
		return "stale"
	}
	return ""
}

// The pauses of Hold.
const (
	firstHold = 200 * time.Millisecond
	maxHold   = 5 * time.Second
)

// Resolve finds out the segments of the users of a micro-batch, one resolution each
// in their order. timeout bounds the wait for answers, of each round under [Hold];
// who has none by then has a [NetworkError]. 0: none but the requests' own.
//
// The error is not nil only if ctx has ended: then nothing is known of the batch, and
// it is to be repeated.
func (s *Segments) Resolve(ctx context.Context, users []User, p Policy, timeout time.Duration) ([]Resolution, error) {
	out, err := s.AppendResolved(ctx, make([]Resolution, 0, len(users)), users, p, timeout)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// resultsPool has room for the results of a round.
var resultsPool = sync.Pool{New: func() any { return new([]Result) }}

// AppendResolved is Resolve that appends to dst; with an error, nothing.
func (s *Segments) AppendResolved(ctx context.Context, dst []Resolution, users []User, p Policy, timeout time.Duration) ([]Resolution, error) {
	var o Options
	if p == Stale {
		o = AllowStale
	}
	room, _ := resultsPool.Get().(*[]Result)
	defer func() {
		clear((*room)[:cap(*room)])
		resultsPool.Put(room)
	}()
	from := len(dst)
	asked := users
	var at []int // where those asked stand among users; nil: in the same place
	for round := 1; ; round++ {
		results := s.round(ctx, (*room)[:0], asked, o, timeout)
		*room = results
		if ctx.Err() != nil {
			return dst[:from], fmt.Errorf("fetch segments of %d users: %w", len(users), context.Cause(ctx))
		}
		if round == 1 {
			dst = slices.Grow(dst, len(users))[:from+len(users)]
		}
		var pause time.Duration
		var open []int // of users without an answer
		for i := range results {
			r := &results[i]
			place := i
			if at != nil {
				place = at[i]
			}
			dst[from+place] = Resolution{*r, verdictOf(r.Err, p)}
			if p == Hold && r.Err != nil && ClassOf(r.Err) != NotReady && IsTransient(r.Err) {
				open = append(open, place)
				pause = max(pause, retryAfterOf(r.Err))
			}
		}
		if len(open) == 0 {
			return dst, nil
		}
		at, asked = open, make([]User, len(open))
		for i, place := range open {
			asked[i] = users[place]
		}
		pause = max(pause, min(firstHold<<min(round-1, 10), maxHold))
		pause += time.Duration(rand.Float64() * 0.1 * float64(pause))
		if sleep(ctx, pause) != nil {
			return dst[:from], fmt.Errorf("fetch segments, held for %d of %d users: %w", len(open), len(users), context.Cause(ctx))
		}
	}
}

// round is FetchMany within a time.
func (s *Segments) round(ctx context.Context, dst []Result, users []User, o Options, timeout time.Duration) []Result {
	if timeout <= 0 {
		return s.AppendMany(ctx, dst, users, o)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errTimeout)
	defer cancel()
	dst = s.AppendMany(ctx, dst, users, o)
	for i := range dst {
		if ClassOf(dst[i].Err) == Cancelled {
			dst[i].Err = fetchError(&Error{Class: NetworkError, Err: fmt.Errorf("%w after %v", errTimeout, timeout)})
		}
	}
	return dst
}

func verdictOf(err error, p Policy) Verdict {
	switch {
	case err == nil:
		return DecideKnown
	case p == DeadLetter:
		return Refuse
	}
	return DecideUnknown
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
