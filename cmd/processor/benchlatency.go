package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"

	"sortition/pipeline"
	"sortition/pipeline/kafkago"
)

// latencyReport is how long activities take at a fixed rate, from the moment each
// is due to be produced until its decision record has been read.
type latencyReport struct {
	Flags    int           `json:"flags"`
	Rate     int           `json:"rate"`
	Duration time.Duration `json:"duration_ns"`
	Records  int           `json:"records"`
	P50      time.Duration `json:"p50_ns"`
	P99      time.Duration `json:"p99_ns"`
	P999     time.Duration `json:"p99_9_ns"`
	Max      time.Duration `json:"max_ns"`
}

const (
	// latencyBeat is how often what has become due is produced. It is part of what is
	// measured.
	latencyBeat = time.Millisecond
	// latencyPatience is how long the last decisions are waited for.
	latencyPatience = 30 * time.Second
	// latencyMark comes before the number of an activity in its record.
	latencyMark = `"activity_id":"n`
)

// latencyRun is one measurement. The activities' own ids are their numbers, so that
// their decision records can be told apart.
type latencyRun struct {
	*bench
	turn *streamTurn
	from int // activities before it are the warm-up
	goal int

	took []time.Duration // by number
	due  func(number int) time.Time
	read atomic.Int64
}

// latency measures after a second of warm-up.
func (b *bench) latency(ctx context.Context) (*latencyReport, error) {
	var err error
	if b.activities, err = b.broker.topic(ctx, "activities"); err != nil {
		return nil, err
	}
	r := &latencyRun{bench: b, from: b.Rate, goal: b.Rate + int(b.For.Seconds()*float64(b.Rate))}
	r.took = make([]time.Duration, r.goal)
	if r.turn, err = b.openStream(ctx, b.usual(), false); err != nil {
		return nil, err
	}
	defer r.turn.close()
	if err := r.run(ctx); err != nil {
		return nil, fmt.Errorf("latency: %w", err)
	}
	if n := r.read.Load(); n < int64(r.goal) {
		return nil, fmt.Errorf("latency: only %d of %d decisions came", n, r.goal)
	}
	measured := slices.Sorted(slices.Values(r.took[r.from:]))
	at := func(share float64) time.Duration { return measured[int(share*float64(len(measured)-1))] }
	return &latencyReport{
		Flags: b.usual(), Rate: b.Rate, Duration: b.For, Records: len(measured), P50: at(0.5), P99: at(0.99), P999: at(0.999), Max: at(1),
	}, nil
}

// run lets stream, readers and generator work until every decision has been read.
func (r *latencyRun) run(ctx context.Context) error {
	working, stop := context.WithCancel(ctx)
	defer stop()
	streaming := make(chan error, 1) // capacity 1: written once
	go func() { streaming <- r.turn.run(working) }()
	if err := r.awaitStream(working, streaming); err != nil {
		return err
	}
	start := time.Now()
	r.due = func(number int) time.Time {
		return start.Add(time.Duration(number) * time.Second / time.Duration(r.Rate))
	}
	reading, ctx2 := errgroup.WithContext(working)
	for p := range r.Partitions {
		reading.Go(func() error { return r.readDecisions(ctx2, p) })
	}
	reading.Go(func() error { return r.produce(ctx2) })
	reading.Go(func() error { return r.watch(ctx2, start) })
	err := reading.Wait()
	if errors.Is(err, errAllRead) {
		err = nil
	}
	stop()
	return errors.Join(err, unlessCanceled(<-streaming))
}

// awaitStream waits until the stream has joined its group.
func (r *latencyRun) awaitStream(ctx context.Context, streaming chan error) error {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !r.turn.hasBegun() {
		select {
		case <-ticker.C:
		case err := <-streaming:
			streaming <- err
			return errors.Join(err, ctx.Err())
		}
	}
	return nil
}

var errAllRead = errors.New("all decisions are read")

// watch ends the run when all is read, or nothing comes any more.
func (r *latencyRun) watch(ctx context.Context, start time.Time) error {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	end := r.due(r.goal).Add(latencyPatience)
	for time.Now().Before(end) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		n := int(r.read.Load())
		if n >= r.goal {
			return errAllRead
		}
		r.progress.show("latency at %s a second: %s of %s, %s decisions read", thousands(r.Rate),
			time.Since(start).Round(time.Second), time.Duration(r.goal)*time.Second/time.Duration(r.Rate), thousands(n))
	}
	return errAllRead // the caller counts them
}

// produce makes every activity when it is due. It does not wait for the broker's
// answers: a slow one must not slow down what follows.
func (r *latencyRun) produce(ctx context.Context) error {
	producer, err := kafkago.NewProducer(kafkago.ProducerConfig{
		Connection: kafkago.Connection{Brokers: r.broker.addrs}, Topics: []string{r.activities}, Compression: r.Codec,
	})
	if err != nil {
		return err
	}
	var sending sync.WaitGroup
	defer func() {
		sending.Wait()
		_ = producer.Close()
	}()
	failed := make(chan error, 1) // capacity 1: the first failure is enough
	g := benchGenerator()
	ticker := time.NewTicker(latencyBeat)
	defer ticker.Stop()
	for made := 0; made < r.goal; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			return err
		case <-ticker.C:
		}
		var outputs []pipeline.Output
		for now := time.Now(); made < r.goal && !r.due(made).After(now); made++ {
			// The id becomes the first field.
			value := strconv.AppendInt([]byte(`{"id":"n`), int64(made), 10)
			at := len(value)
			value = g.AppendNext(append(value, '"'))
			value[at+1] = ','
			value = dropOwnID(value, at+2)
			outputs = append(outputs, pipeline.Output{Topic: r.activities, Key: slices.Clone(g.Key()), Value: value})
		}
		if len(outputs) == 0 {
			continue
		}
		sending.Go(func() {
			if err := producer.Produce(ctx, outputs); err != nil {
				select {
				case failed <- fmt.Errorf("make activities: %w", err):
				default:
				}
			}
		})
	}
	return nil
}

// dropOwnID takes the id that the sample gave an activity out of it, if there is
// one after from.
func dropOwnID(value []byte, from int) []byte {
	const field = `,"id":"a-`
	i := bytes.Index(value[from:], []byte(field))
	if i < 0 {
		return value
	}
	i += from
	end := i + len(field) + bytes.IndexByte(value[i+len(field):], '"') + 1
	return slices.Delete(value, i, end)
}

// readDecisions notes when the decision records of one partition come.
func (r *latencyRun) readDecisions(ctx context.Context, partition int) error {
	transport := &kafka.Transport{MetadataTopics: []string{r.turn.topics.Decisions}}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(r.broker.addrs...), Transport: transport, Timeout: 10 * time.Second}
	for at := int64(0); ; {
		res, err := client.Fetch(ctx, &kafka.FetchRequest{
			Topic: r.turn.topics.Decisions, Partition: partition, Offset: at, MinBytes: 1, MaxBytes: 4 << 20, MaxWait: 500 * time.Millisecond,
		})
		now := time.Now()
		if err == nil {
			err = res.Error
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("read decisions: %w", err)
		}
		for {
			record, err := res.Records.ReadRecord()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return fmt.Errorf("read decisions: %w", err)
			}
			if record.Offset < at {
				closeRecord(record)
				continue
			}
			at = record.Offset + 1
			value, err := kafka.ReadAll(record.Value)
			closeRecord(record)
			if err != nil {
				return fmt.Errorf("read decisions: %w", err)
			}
			if err := r.seen(value, now); err != nil {
				return err
			}
		}
	}
}

// seen notes a decision record.
func (r *latencyRun) seen(value []byte, now time.Time) error {
	_, rest, _ := bytes.Cut(value, []byte(latencyMark))
	digits, _, _ := bytes.Cut(rest, []byte{'"'})
	number, err := strconv.Atoi(string(digits))
	if err != nil || number < 0 || number >= r.goal {
		return errors.New("BUG: a decision record of an activity that was not made")
	}
	if r.took[number] == 0 { // a repeat after a rebalance counts once
		r.took[number] = now.Sub(r.due(number))
		r.read.Add(1)
	}
	return nil
}

func (l *latencyReport) write(w io.Writer) {
	fmt.Fprintf(w, "\nlatency at %s activities a second for %s, %d flags: p50 %s, p99 %s, p99.9 %s, highest %s\n", thousands(l.Rate), l.Duration, l.Flags,
		inMilliseconds(l.P50), inMilliseconds(l.P99), inMilliseconds(l.P999), inMilliseconds(l.Max))
	fmt.Fprintln(w, "from the moment an activity is due to be produced until its decision record has been read")
}
