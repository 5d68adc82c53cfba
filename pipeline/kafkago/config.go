package kafkago

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// SubscriberConfig configures a [Subscriber].
type SubscriberConfig struct {
	Connection Connection
	// Group is the consumer group. Required.
	Group string
	// MaxBatchRecords bounds a micro-batch. Default 1000; from 1 to 100,000.
	MaxBatchRecords int
	// PlainMessages hands out one message per record, with the value as payload
	// and the headers as metadata, still in order and one at a time. For handlers
	// that know nothing of batches; slow.
	PlainMessages bool
	// StartAt is where a group begins that has no offsets: Earliest (default) or
	// Latest.
	StartAt OffsetPolicy
	// OnOutOfRange is what happens when the log no longer has the group's offset
	// (retention), or not any more (data loss, topic made anew): Earliest
	// (default), Latest or Fail. Every move is counted and logged.
	OnOutOfRange OffsetPolicy
	// MaxWait is how long a broker may hold an idle fetch. Default 500 ms.
	MaxWait time.Duration
	// MaxFetchBytes bounds one answer, as stored. Default 16 MiB.
	MaxFetchBytes int
	// FetchAheadBytes is how much of a partition may wait or be worked on before
	// fetching it pauses, and bounds what one answer brings of it, as stored. So a
	// partition holds at most FetchAheadBytes plus one answer, which compression
	// may make larger in memory; and a single larger record batch is let through.
	// Default 1 MiB.
	FetchAheadBytes int
	// MaxBufferedBytes is the same bound for all partitions of a subscription
	// together; a partition that has nothing is fetched regardless. Default 64 MiB.
	MaxBufferedBytes int
	// CommitInterval is how long finished work may stay uncommitted, and so the
	// work a crash repeats. Default 250 ms.
	CommitInterval time.Duration
	// NackBackoff is the pause before a nacked batch is handed out again; it
	// doubles up to MaxNackBackoff. Defaults 100 ms and 5 s.
	NackBackoff    time.Duration
	MaxNackBackoff time.Duration
	// StallAfter is when an unfinished batch is logged as stuck. Default 1 min.
	StallAfter time.Duration
	// DrainTimeout is how long closing waits for what is in flight. Less than
	// the router's CloseTimeout. Default 15 s.
	DrainTimeout time.Duration
	// SessionTimeout, RebalanceTimeout and HeartbeatInterval are the group
	// protocol's. Defaults 30 s, 30 s and 3 s.
	SessionTimeout    time.Duration
	RebalanceTimeout  time.Duration
	HeartbeatInterval time.Duration
	// RevokeBudget is how long a rebalance waits for what is in flight. There are
	// no heartbeats meanwhile: at most three quarters of SessionTimeout and of
	// RebalanceTimeout. Default two thirds of the shorter one.
	RevokeBudget time.Duration
	// TopicTimeout is how long Subscribe waits for a topic that does not exist.
	// Default 30 s.
	TopicTimeout time.Duration
	// Logger receives changes of state, never a line per record. Default: discards.
	Logger *slog.Logger
}

func (c *SubscriberConfig) setDefaults() {
	setDefault(&c.MaxBatchRecords, 1000)
	setDefault(&c.StartAt, Earliest)
	setDefault(&c.OnOutOfRange, Earliest)
	setDefault(&c.MaxWait, 500*time.Millisecond)
	setDefault(&c.MaxFetchBytes, 16<<20)
	setDefault(&c.FetchAheadBytes, 1<<20)
	setDefault(&c.MaxBufferedBytes, 64<<20)
	setDefault(&c.CommitInterval, 250*time.Millisecond)
	setDefault(&c.NackBackoff, 100*time.Millisecond)
	setDefault(&c.MaxNackBackoff, 5*time.Second)
	setDefault(&c.StallAfter, time.Minute)
	setDefault(&c.DrainTimeout, 15*time.Second)
	setDefault(&c.SessionTimeout, 30*time.Second)
	setDefault(&c.RebalanceTimeout, 30*time.Second)
	setDefault(&c.HeartbeatInterval, 3*time.Second)
	setDefault(&c.RevokeBudget, min(c.SessionTimeout, c.RebalanceTimeout)*2/3)
	setDefault(&c.TopicTimeout, 30*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validate reports all faults.
func (c *SubscriberConfig) validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(c.Group == "", "Group is required")
	fault(c.MaxBatchRecords < 1 || c.MaxBatchRecords > 100_000, "MaxBatchRecords %d is outside 1 to 100,000", c.MaxBatchRecords)
	fault(c.StartAt != Earliest && c.StartAt != Latest, "StartAt %q: want earliest or latest", c.StartAt)
	fault(c.OnOutOfRange != Earliest && c.OnOutOfRange != Latest && c.OnOutOfRange != Fail,
		"OnOutOfRange %q: want earliest, latest or fail", c.OnOutOfRange)
	for _, b := range []struct {
		name  string
		value int
	}{{"MaxFetchBytes", c.MaxFetchBytes}, {"FetchAheadBytes", c.FetchAheadBytes}, {"MaxBufferedBytes", c.MaxBufferedBytes}} {
		fault(b.value < 1024 || b.value > 1<<30, "%s %d is outside 1 KiB to 1 GiB", b.name, b.value)
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"MaxWait", c.MaxWait}, {"CommitInterval", c.CommitInterval}, {"NackBackoff", c.NackBackoff}, {"MaxNackBackoff", c.MaxNackBackoff},
		{"StallAfter", c.StallAfter}, {"DrainTimeout", c.DrainTimeout}, {"SessionTimeout", c.SessionTimeout},
		{"RebalanceTimeout", c.RebalanceTimeout}, {"HeartbeatInterval", c.HeartbeatInterval}, {"RevokeBudget", c.RevokeBudget}, {"TopicTimeout", c.TopicTimeout},
	} {
		fault(d.value < 0, "%s cannot be negative", d.name)
	}
	fault(c.HeartbeatInterval > c.SessionTimeout/3, "HeartbeatInterval %s is more than a third of SessionTimeout %s", c.HeartbeatInterval, c.SessionTimeout)
	fault(c.RevokeBudget > min(c.SessionTimeout, c.RebalanceTimeout)*3/4,
		"RevokeBudget %s is more than three quarters of SessionTimeout %s or RebalanceTimeout %s", c.RevokeBudget, c.SessionTimeout, c.RebalanceTimeout)
	if _, err := c.Connection.open([]string{}, 0); err != nil {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}
