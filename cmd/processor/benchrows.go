package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"

	"sortition/decision"
	"sortition/decision/datafile"
	"sortition/pipeline"
)

// bench is one run of the command. It is used by one goroutine.
type bench struct {
	*benchCmd
	project  *decision.Project
	snapshot *pipeline.Snapshot
	broker   *benchBroker
	progress *benchProgress

	activities string  // their topic
	ends       []int64 // of its partitions
	bytes      int64   // keys and values in it
	readyMade  map[int]*readyMade
}

// benchRow is a row of the table.
type benchRow struct {
	name  string
	flags int     // decided per activity; 0: copy
	share float64 // of the activities it works through: where much is written, fewer will do
	// open prepares a turn on the first n activities, which are those before ends.
	open func(ctx context.Context, ends []int64) (contender, error)
}

// contender is one turn of a row.
type contender interface {
	// run works until all is done, or, where it would go on for ever, until ctx is.
	run(ctx context.Context) error
	// hasBegun tells whether it is at work: it may have had to wait for something. Safe
	// to call while run runs, like progress.
	hasBegun() bool
	// progress is how many activities are dealt with.
	progress() int
	// close gives up connections and returns the topics that were written to, the one
	// with a record per activity first.
	close() (topics []string)
}

// rows are all rows in the order of the table.
func (b *bench) rows() []*benchRow {
	b.readyMade = map[int]*readyMade{}
	rows := []*benchRow{{name: "copy", share: 1, open: func(ctx context.Context, ends []int64) (contender, error) {
		return b.openLoop(ctx, ends, nil)
	}}}
	add := func(kind string, flags int, share float64, open func(ctx context.Context, ends []int64) (contender, error)) {
		rows = append(rows, &benchRow{name: kind + "/" + strconv.Itoa(flags), flags: flags, share: share, open: open})
	}
	for _, flags := range b.Flags {
		share := min(1, 10/float64(flags))
		add("io", flags, share, func(ctx context.Context, ends []int64) (contender, error) {
			return b.openLoop(ctx, ends, b.ready(flags).records)
		})
		add("pipeline", flags, share, func(ctx context.Context, _ []int64) (contender, error) {
			return b.openStream(ctx, flags, false)
		})
	}
	flags := b.usual()
	add("events", flags, min(1, 2.5/float64(flags)), func(ctx context.Context, _ []int64) (contender, error) {
		return b.openStream(ctx, flags, true)
	})
	add("delivered", flags, min(1, 2.5/float64(flags)), func(ctx context.Context, ends []int64) (contender, error) {
		return b.openDelivered(ctx, flags, ends)
	})
	return rows
}

// usual is the number of flags nearest to ten, for all that is measured once.
func (c *benchCmd) usual() int {
	return slices.MinFunc(c.Flags, func(x, y int) int { return max(x-10, 10-x) - max(y-10, 10-y) })
}

// loopTurn is a turn of a bare loop.
type loopTurn struct {
	*loop
	transport *kafka.Transport
}

func (b *bench) openLoop(ctx context.Context, ends []int64, ready []readyRecord) (contender, error) {
	to, err := b.broker.topic(ctx, "loop")
	if err != nil {
		return nil, err
	}
	l := &loop{from: b.activities, to: to, ends: ends, ready: ready}
	if b.Codec != "none" {
		if err := l.codec.UnmarshalText([]byte(b.Codec)); err != nil {
			return nil, err
		}
	}
	transport := &kafka.Transport{MetadataTopics: []string{l.from, l.to}}
	l.client = &kafka.Client{Addr: kafka.TCP(b.broker.addrs...), Transport: transport, Timeout: 30 * time.Second}
	return &loopTurn{loop: l, transport: transport}, nil
}

func (*loopTurn) hasBegun() bool { return true }

func (t *loopTurn) progress() int { return int(t.done.Load()) }

func (t *loopTurn) close() []string {
	t.transport.CloseIdleConnections()
	return []string{t.to}
}

// streamTurn is a turn of the pipeline.
type streamTurn struct {
	*stream
	topics pipeline.Topics
}

// openStream makes the stream as `processor run` would, with its defaults.
func (b *bench) openStream(ctx context.Context, flags int, withEvents bool, change ...func(*streamParts)) (*streamTurn, error) {
	cfg := defaultStreamConfig()
	cfg.Kafka.Brokers, cfg.Kafka.Group = b.broker.addrs, b.broker.group("group")
	cfg.Producer.Compression = b.Codec
	cfg.Datafile.Path = "(given below)"
	cfg.Handlers, cfg.Topics.ODPEvents = []string{pipeline.AssignActivities}, ""
	cfg.Topics.Activities = b.activities
	for topic, what := range map[*string]string{
		&cfg.Topics.Decisions: "decisions", &cfg.Topics.Events: "events", &cfg.Topics.DeadLetters: "dead-letters",
	} {
		var err error
		if *topic, err = b.broker.topic(ctx, what); err != nil {
			return nil, err
		}
	}
	parts, err := cfg.parts()
	if err != nil {
		return nil, err
	}
	parts.datafile = &datafile.Config{Poll: datafile.PollConfig{Datafile: b.snapshot.Project.Datafile()}}
	parts.assign.Settings = b.settings(flags, withEvents)
	for _, f := range change {
		f(&parts)
	}
	s, err := openStream(parts, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	return &streamTurn{stream: s, topics: parts.topics}, nil
}

func (t *streamTurn) hasBegun() bool { return t.legs[0].subscriber.Stats().Generations > 0 }

func (t *streamTurn) progress() int { return int(t.Stats().Read) }

func (t *streamTurn) close() []string {
	t.stream.close()
	return []string{t.topics.Decisions, t.topics.Events, t.topics.DeadLetters}
}

// rounds measures the rows by turns.
func (b *bench) rounds(ctx context.Context, rows []*benchRow) ([]*rowReport, error) {
	if err := b.warmUp(ctx, rows); err != nil {
		return nil, err
	}
	reports := make([]*rowReport, len(rows))
	for i, row := range rows {
		reports[i] = &rowReport{Name: row.name, Flags: row.flags}
	}
	for round := range b.Rounds {
		for i, row := range rows {
			b.progress.show("round %d of %d: %s", round+1, b.Rounds, row.name)
			t, err := b.turn(ctx, row, row.share)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", row.name, err)
			}
			reports[i].turns = append(reports[i].turns, t)
			b.progress.note("round %d of %d: %-12s %9s records/s", round+1, b.Rounds, row.name, thousands(int(t.rate)))
		}
	}
	b.conclude(reports)
	return reports, nil
}

// warmUp lets the broker and this process grow to their size: the first turn would
// pay for the others.
func (b *bench) warmUp(ctx context.Context, rows []*benchRow) error {
	for _, row := range rows {
		b.progress.show("warming up: %s", row.name)
		if _, err := b.turn(ctx, row, row.share/4); err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
	}
	return nil
}

// turn lets a row work through a share of the activities.
func (b *bench) turn(ctx context.Context, row *benchRow, share float64) (turnReport, error) {
	n := 0
	ends := make([]int64, len(b.ends))
	for p, end := range b.ends {
		ends[p] = int64(float64(end) * share)
		n += int(ends[p])
	}
	c, err := row.open(ctx, ends)
	if err != nil {
		return turnReport{}, err
	}
	t, err := timed(ctx, c, n)
	topics := c.close()
	if err == nil {
		// What a row says of itself is held against the topic.
		var stored int
		if stored, err = b.broker.stored(ctx, topics[0]); err == nil && stored < n {
			err = fmt.Errorf("BUG: %d records stored instead of %d", stored, n)
		}
	}
	if s, ok := c.(interface{ rejected() uint64 }); ok && err == nil && s.rejected() > 0 {
		err = errors.New("BUG: the sample, or an event of it, was refused")
	}
	return t, errors.Join(err, b.broker.drop(context.WithoutCancel(ctx), topics...))
}

func (t *streamTurn) rejected() uint64 {
	s := t.Stats()
	return s.Rejected()
}
