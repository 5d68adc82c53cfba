package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"sortition/internal/sample"
	"sortition/pipeline"
	"sortition/pipeline/kafkago"
)

// traffic makes activities at an even rate.
type traffic struct {
	producer  *kafkago.Producer
	generator *sample.Generator
	topic     string
	goal      int
	over      time.Duration

	made, bad int // of the goroutine that runs it
	stored    atomic.Int64
}

func newTraffic(addrs []string, topic string, seed uint64, goal int, over time.Duration) (*traffic, error) {
	options := sample.DefaultOptions()
	options.Bad, options.Visitors = 20, 50_000
	producer, err := kafkago.NewProducer(kafkago.ProducerConfig{
		Connection: kafkago.Connection{Brokers: addrs}, Topics: []string{topic}, RetryTimeout: 5 * time.Minute, // a restart takes its time
	})
	if err != nil {
		return nil, err
	}
	return &traffic{producer: producer, generator: sample.NewGenerator(seed, options), topic: topic, goal: goal, over: over}, nil
}

// run makes all of them; late ones, when the broker was away, as fast as it can. A
// request whose answer was lost is repeated, so the topic may hold some of them twice:
// those are activities like others.
func (t *traffic) run(ctx context.Context) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	start := time.Now()
	for t.made < t.goal {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		share := min(1, time.Since(start).Seconds()/t.over.Seconds())
		for due := int(share*float64(t.goal)) - t.made; due > 0 && ctx.Err() == nil; {
			const atOnce = 2000
			n := min(due, atOnce)
			if err := t.produce(ctx, n); err != nil {
				return err
			}
			due -= n
		}
	}
	return nil
}

func (t *traffic) produce(ctx context.Context, n int) error {
	outputs := make([]pipeline.Output, n)
	for i := range outputs {
		value := t.generator.AppendNext(nil)
		outputs[i] = pipeline.Output{Topic: t.topic, Key: append([]byte{}, t.generator.Key()...), Value: value, Time: t.generator.Time()}
		if t.generator.Reject() != "" {
			t.bad++
		}
	}
	if err := t.producer.Produce(ctx, outputs); err != nil {
		return fmt.Errorf("make activities: %w", err)
	}
	t.made += n
	t.stored.Store(int64(t.made))
	return nil
}
