package pipeline_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/internal/kafkatest"
	"sortition/pipeline"
	"sortition/pipeline/kafkago"
)

// gate holds up who passes until it is opened.
type gate chan struct{}

func (g gate) pass(ctx context.Context) error {
	select {
	case <-g:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type slowProducer struct {
	pipeline.Producer
	gate
}

func (p slowProducer) Produce(ctx context.Context, outputs []pipeline.Output) error {
	if err := p.pass(ctx); err != nil {
		return err
	}
	return p.Producer.Produce(ctx, outputs)
}

type slowSegments struct{ gate }

func (slowSegments) Identifier() string { return "fs_user_id" }

func (s slowSegments) AppendSegments(ctx context.Context, dst []pipeline.SegmentAnswer, users []string) ([]pipeline.SegmentAnswer, error) {
	for range users {
		dst = append(dst, pipeline.SegmentAnswer{IsKnown: true})
	}
	return dst, s.pass(ctx)
}

type slowEndpoint struct{ gate }

func (e slowEndpoint) Deliver(ctx context.Context, _ *pipeline.Record) (pipeline.Delivery, error) {
	return pipeline.Delivery{Accepted: 1}, e.pass(ctx)
}

// Whatever is slow behind a stage, a topic, ODP or an endpoint: fetching stops, what is
// held stays within its bounds, and when it is quick again everything is done.
func TestBackpressure(t *testing.T) {
	const n, bad, fetchAhead = 20_000, 10, 32 << 10
	r := newRig(t, kafkatest.Fake(t, nil).Addrs())
	r.requestBytes = fetchAhead // a record batch is fetched as a whole
	r.seed(t, n, bad)
	for name, stage := range map[string]func(t *testing.T, closed gate) (_ pipeline.Stage, done func() uint64){
		"topic": func(t *testing.T, closed gate) (pipeline.Stage, func() uint64) {
			s, err := pipeline.NewAssign(r.config(), pipeline.AtLeastOnce(slowProducer{r.producer(t), closed}), testSnapshots(t), nil)
			require.NoError(t, err)
			return s, func() uint64 { return s.Stats().Read }
		},
		"segments": func(t *testing.T, closed gate) (pipeline.Stage, func() uint64) {
			cfg := r.config()
			cfg.Segments = slowSegments{closed}
			s, err := pipeline.NewAssign(cfg, pipeline.AtLeastOnce(r.producer(t)), testSnapshots(t), nil)
			require.NoError(t, err)
			return s, func() uint64 { return s.Stats().Read }
		},
		"endpoint": func(t *testing.T, closed gate) (pipeline.Stage, func() uint64) {
			s, err := pipeline.NewDeliver(pipeline.DeliverConfig{
				Name: pipeline.DeliverEvents, Topic: r.topics.Activities, DeadLetters: r.topics.DeadLetters, Concurrency: 16,
			}, slowEndpoint{closed}, pipeline.AtLeastOnce(r.producer(t)), nil)
			require.NoError(t, err)
			return s, func() uint64 { return s.Stats().Bodies }
		},
	} {
		t.Run(name, func(t *testing.T) {
			closed := make(gate)
			s, done := stage(t, closed)
			subscriber, err := kafkago.NewSubscriber(kafkago.SubscriberConfig{
				Connection: kafkago.Connection{Brokers: r.addrs}, Group: r.group + name, MaxWait: 20 * time.Millisecond, FetchAheadBytes: fetchAhead,
				MaxBatchRecords: 50, CommitInterval: 10 * time.Millisecond,
			})
			require.NoError(t, err)
			p, err := pipeline.New(pipeline.Options{}, pipeline.Leg{Stage: s, From: subscriber})
			require.NoError(t, err)
			ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
			ended := make(chan error, 1) // capacity 1: written once
			go func() { ended <- p.Run(ctx) }()
			t.Cleanup(stop)

			// Everybody works on a batch, and what is held doesn't change any more.
			var state kafkago.SubscriberState
			last, since := int64(-1), time.Now()
			require.Eventually(t, func() bool {
				if state = subscriber.State(); state.Buffered != last {
					last, since = state.Buffered, time.Now()
				}
				return state.InFlight == r.partitions && time.Since(since) > 200*time.Millisecond
			}, patience, 10*time.Millisecond)
			// A partition holds its bound and one answer, which is bounded as it is stored,
			// compressed; in memory a record takes its fields beside its bytes.
			assert.LessOrEqual(t, state.Buffered, int64(1<<20), "of some 6 MB")
			assert.Zero(t, done())

			close(closed)
			require.Eventually(t, func() bool { return done() == n }, patience, 10*time.Millisecond)
			stop()
			require.NoError(t, <-ended)
			require.NoError(t, subscriber.Close())
		})
	}
}
