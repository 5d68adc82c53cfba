package schemas

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"strconv"
	"time"
)

// Headers of a dead letter, beside the record's own headers, key and value,
// which stay as they were.
const (
	HeaderDLReason    = "dl-reason"    // a code: a RejectCode, or one of a deliverer's
	HeaderDLDetail    = "dl-detail"    // for people; field paths, never values
	HeaderDLTopic     = "dl-topic"     // where the record was read
	HeaderDLPartition = "dl-partition" // decimal
	HeaderDLOffset    = "dl-offset"    // decimal
	HeaderDLAttempts  = "dl-attempts"  // decimal, from 1
	HeaderDLTime      = "dl-time"      // RFC 3339 in UTC with milliseconds
)

// deadLetterHeaders is the order in which headers are written.
var deadLetterHeaders = [...]string{
	HeaderDLReason, HeaderDLDetail, HeaderDLTopic, HeaderDLPartition, HeaderDLOffset, HeaderDLAttempts, HeaderDLTime,
}

const deadLetterTime = "2006-01-02T15:04:05.000Z"

// DeadLetter is why a record could not be used, and where it was read.
type DeadLetter struct {
	Reason, Detail string
	Topic          string
	Partition      int32
	Offset         int64
	// Attempts counts the tries there have been: 1 for a record that cannot be
	// used at all, more for one that kept being refused.
	Attempts int
	// Time is the record's own in its topic, to the millisecond: when a letter is made
	// again it is the same bytes. When it was stored the broker knows.
	Time time.Time
}

// DeadLetterOf fills in reason and detail from a *Reject.
func DeadLetterOf(reject *Reject) DeadLetter {
	return DeadLetter{Reason: string(reject.Code), Detail: reject.Detail, Attempts: 1}
}

// Headers yields the letter's headers in a fixed order. An empty detail has
// none. The values are the caller's to keep.
func (l DeadLetter) Headers() iter.Seq2[string, []byte] {
	values := [len(deadLetterHeaders)]string{
		l.Reason, l.Detail, l.Topic, strconv.FormatInt(int64(l.Partition), 10), strconv.FormatInt(l.Offset, 10),
		strconv.Itoa(l.Attempts), l.Time.UTC().Format(deadLetterTime),
	}
	return func(yield func(string, []byte) bool) {
		for i, key := range deadLetterHeaders {
			if key == HeaderDLDetail && l.Detail == "" {
				continue
			}
			if !yield(key, []byte(values[i])) {
				return
			}
		}
	}
}

// IsDeadLetterHeader reports whether a header is one of a dead letter's, which
// is taken off a record that is sent round again.
func IsDeadLetterHeader(key string) bool {
	for _, name := range deadLetterHeaders {
		if key == name {
			return true
		}
	}
	return false
}

// ParseDeadLetter reads a letter from a record's headers. Of a key given more
// than once the last counts, for that is the newest. The error names every
// header, except dl-detail, that is missing or unreadable.
func ParseDeadLetter(headers iter.Seq2[string, []byte]) (DeadLetter, error) {
	values := make(map[string]string, len(deadLetterHeaders))
	for key, value := range headers {
		if IsDeadLetterHeader(key) {
			values[key] = string(value)
		}
	}
	l := DeadLetter{Reason: values[HeaderDLReason], Detail: values[HeaderDLDetail], Topic: values[HeaderDLTopic]}
	var faults []error
	for _, key := range []string{HeaderDLReason, HeaderDLTopic} {
		if values[key] == "" {
			faults = append(faults, fmt.Errorf("header %s is missing or empty", key))
		}
	}
	number := func(key string, lowest, highest int64) int64 {
		n, err := strconv.ParseInt(values[key], 10, 64)
		if err != nil || n < lowest || n > highest {
			faults = append(faults, fmt.Errorf("header %s is not an integer from %d to %d", key, lowest, highest))
		}
		return n
	}
	l.Partition = int32(number(HeaderDLPartition, 0, math.MaxInt32))
	l.Offset = number(HeaderDLOffset, 0, math.MaxInt64)
	l.Attempts = int(number(HeaderDLAttempts, 1, math.MaxInt32))
	if ms, ok := parseTime(values[HeaderDLTime]); ok {
		l.Time = time.UnixMilli(ms).UTC()
	} else {
		faults = append(faults, fmt.Errorf("header %s is not an RFC 3339 time", HeaderDLTime))
	}
	if len(faults) > 0 {
		return DeadLetter{}, fmt.Errorf("read dead letter: %w", errors.Join(faults...))
	}
	return l, nil
}
