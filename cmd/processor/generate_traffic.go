package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"sortition/internal/sample"
	"sortition/pipeline"
	"sortition/pipeline/kafkago"
)

type generateTrafficCmd struct {
	Config  string        `short:"c" placeholder:"FILE" help:"Take brokers, TLS, credentials and topic from the configuration of a stream."`
	Brokers []string      `placeholder:"HOST:PORT" help:"The brokers, instead of a configuration."`
	Topic   string        `placeholder:"TOPIC" help:"The topic. Default: activities, or that of the configuration."`
	Rate    float64       `default:"100" placeholder:"R" help:"Activities a second (${default})."`
	Count   int64         `short:"n" placeholder:"N" help:"Stop after so many. Default: go on until Ctrl-C."`
	Seed    uint64        `default:"1" placeholder:"N" help:"Another seed gives other activities (1)."`
	Bad     int           `default:"4" placeholder:"N" help:"How many of a thousand can't be used (4)."`
	Wait    time.Duration `default:"1m" placeholder:"TIME" help:"How long brokers and topic are waited for (${default})."`
}

// Help is shown by --help.
func (generateTrafficCmd) Help() string {
	return `Examples:

    processor generate traffic --brokers localhost:9092 --rate 500
    processor generate traffic -c sortition.yaml -n 10000 --rate 5000

Made-up visitors of a shop, from now on and in the order of time; the topic must exist. It runs until Ctrl-C, and ends with exit
code 0 then.
`
}

// connection says where to write to.
func (c *generateTrafficCmd) connection() (kafkago.Connection, string, error) {
	var f faults
	f.when((c.Config == "") == (len(c.Brokers) == 0), "give one of -c and --brokers")
	f.when(c.Rate <= 0 || c.Rate > 1e6, "--rate must be more than 0 and at most 1,000,000")
	f.when(c.Count < 0 || c.Bad < 0 || c.Bad > 1000, "--count must not be negative, and --bad be from 0 to 1000")
	f.when(c.Wait < time.Second, "--wait must be at least 1s")
	if len(f) > 0 {
		return kafkago.Connection{}, "", errors.Join(f...)
	}
	connection, topic := kafkago.Connection{Brokers: c.Brokers}, "activities"
	if c.Config != "" {
		cfg, err := loadStreamConfig(c.Config)
		if err != nil {
			return connection, "", err
		}
		parts, err := cfg.parts()
		if err != nil {
			return connection, "", configFault(c.Config, err)
		}
		connection, topic = parts.connection, parts.topics.Activities
	}
	if c.Topic != "" {
		topic = c.Topic
	}
	return connection, topic, connection.Validate()
}

// Run produces until it is told to stop.
func (c *generateTrafficCmd) Run(ctx context.Context, std stdio) error {
	connection, topic, err := c.connection()
	if err != nil {
		return usageError{err}
	}
	logger := slog.New(slog.NewTextHandler(std.err, nil))
	if _, err := connection.Await(ctx, []string{topic}, c.Wait, logger); err != nil {
		return endedByWish(ctx, err)
	}
	producer, err := kafkago.NewProducer(kafkago.ProducerConfig{Connection: connection, Topics: []string{topic}, Logger: logger})
	if err != nil {
		return err
	}
	defer producer.Close()
	options := sample.DefaultOptions()
	options.Bad, options.Start, options.Pause = c.Bad, time.Now(), max(time.Millisecond, time.Duration(float64(time.Second)/c.Rate))
	g := sample.NewGenerator(c.Seed, options)

	logger.Info("producing", slog.String("topic", topic), slog.Float64("rate", c.Rate))
	made, err := c.produce(ctx, func(ctx context.Context, n int64) error {
		var outputs []pipeline.Output
		for range n {
			value := g.AppendNext(nil)
			outputs = append(outputs, pipeline.Output{Topic: topic, Key: append([]byte(nil), g.Key()...), Value: value, Time: time.Now()})
		}
		return producer.Produce(ctx, outputs)
	})
	logger.Info("stopped", slog.Int64("activities", made))
	return endedByWish(ctx, err)
}

// produce stores activities as they become due, and returns how many.
func (c *generateTrafficCmd) produce(ctx context.Context, store func(ctx context.Context, n int64) error) (made int64, err error) {
	const beat, atOnce = 20 * time.Millisecond, 2000
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	start := time.Now()
	for c.Count == 0 || made < c.Count {
		select {
		case <-ctx.Done():
			return made, ctx.Err()
		case <-ticker.C:
		}
		// By the clock, not by the beat: a late beat is made up for, in bounded pieces.
		due := min(int64(time.Since(start).Seconds()*c.Rate)-made, atOnce)
		if c.Count > 0 {
			due = min(due, c.Count-made)
		}
		if due <= 0 {
			continue
		}
		// What is under way is finished.
		if err := store(context.WithoutCancel(ctx), due); err != nil {
			return made, fmt.Errorf("produce activities: %w", err)
		}
		made += due
	}
	return made, nil
}

// endedByWish is nil for the end that somebody wanted.
func endedByWish(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
