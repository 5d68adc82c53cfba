package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"sortition/decision/datafile"
	"sortition/internal/kafkatest"
	"sortition/internal/sample"
	"sortition/pipeline"
	"sortition/pipeline/kafkago"
)

// devCmd shows the stream without anything installed: broker, datafile and
// traffic are all in the process.
type devCmd struct {
	Activities int      `placeholder:"N" default:"10000" help:"Activities to begin with (${default})."`
	Exit       bool     `help:"Stop when they are worked through, instead of going on until Ctrl-C."`
	Rate       *float64 `placeholder:"R" help:"Activities a second. Without it: the first ones at once; then 200 a second, unless --exit."`
	Seed       uint64   `placeholder:"S" default:"1" help:"Seed of the sample activities (${default}): same seed, same activities."`
	Partitions int      `placeholder:"P" default:"4" help:"Partitions of the topics (${default})."`
	Bad        float64  `placeholder:"SHARE" default:"0.004" help:"Share of unusable records, 0 to 1 (${default})."`
}

// Help is shown by --help.
func (devCmd) Help() string {
	return `An in-process Kafka broker, the emulator of the Optimizely cloud with the datafile of examples/, and
made-up shop visitors: the stream of "processor run" over them, then the account (everything that
was read is a decision or a dead letter, every event was delivered to the emulator) and who got
what. A datafile set in the emulator comes into force within a second. Nothing is written to disk.

Examples:

    processor dev --activities 10000 --exit
    processor dev --rate 500               # until Ctrl-C
    processor dev --exit --bad 0.2         # a topic in a bad state
`
}

// The topics of `processor dev`.
var devTopics = pipeline.Topics{
	Activities: "activities", Decisions: "decisions", Events: "events", DeadLetters: "dead-letters",
}

const (
	devGroup = "sortition"
	// devIdleRate is how many activities a second are made when the first ones are
	// through and nobody has said how many.
	devIdleRate = 200
)

func (c *devCmd) validate() error {
	var faults []error
	if c.Activities < 0 || c.Activities == 0 && c.Exit {
		faults = append(faults, errors.New("--activities must be at least 1 with --exit, and never negative"))
	}
	if c.Rate != nil && (*c.Rate <= 0 || *c.Rate > 1e6) {
		faults = append(faults, errors.New("--rate must be more than 0 and at most 1,000,000"))
	}
	if c.Partitions < 1 || c.Partitions > 1000 {
		faults = append(faults, errors.New("--partitions must be from 1 to 1,000"))
	}
	if c.Bad < 0 || c.Bad > 1 {
		faults = append(faults, errors.New("--bad must be from 0 to 1"))
	}
	if len(faults) > 0 {
		return usageError{errors.Join(faults...)}
	}
	return nil
}

// Run starts everything, waits for the end, and gives the account.
func (c *devCmd) Run(ctx context.Context, std stdio) (err error) {
	if err := c.validate(); err != nil {
		return err
	}
	cloud, err := openDevCloud(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cloud.close()) }()
	project := cloud.Snapshot().Project
	var topics []kafkatest.Topic
	for _, name := range []string{devTopics.Activities, devTopics.Decisions, devTopics.Events, devTopics.DeadLetters} {
		topics = append(topics, kafkatest.Topic{Name: name, Partitions: c.Partitions})
	}
	broker, err := kafkatest.Start(topics)
	if err != nil {
		return err
	}
	defer broker.Close()

	logger := slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: slog.LevelError}))
	s, err := openStream(streamParts{
		handlers: []string{pipeline.AssignActivities},
		assign:   pipeline.Config{Settings: pipeline.Settings{Stream: "dev", DecideAll: true, Client: client}},
		topics:   devTopics,
		datafile: &datafile.Config{Poll: cloud.polling},
		startup:  10 * time.Second,
		subscriber: kafkago.SubscriberConfig{
			Group: devGroup, MaxWait: 100 * time.Millisecond, CommitInterval: 100 * time.Millisecond,
		},
		producer:   kafkago.ProducerConfig{Compression: "lz4"},
		connection: kafkago.Connection{Brokers: broker.Addrs()},
		drain:      20 * time.Second,
	}, logger)
	if err != nil {
		return err
	}
	defer s.close()

	traffic, err := c.traffic(broker.Addrs())
	if err != nil {
		return err
	}
	defer traffic.close()

	out := newSummary(std.out)
	out.opening(project, broker.Addrs(), cloud.server.URL(), c)
	took, err := c.work(ctx, std, s, traffic)
	if err != nil {
		return err
	}
	// The account is given after Ctrl-C too; the second one ends that.
	a, err := takeAccount(context.WithoutCancel(ctx), broker.Addrs(), s.Stats(), cloud.deliver)
	if err != nil {
		return fmt.Errorf("read the topics back: %w", err)
	}
	a.received = cloud.server.Counts()
	out.result(project, a, traffic.made, took)
	switch {
	case !a.adds():
		return errShown
	case c.Exit && a.consumed < c.Activities:
		return ctx.Err() // interrupted before it was through
	}
	return nil
}

// traffic makes the generator of the activities.
func (c *devCmd) traffic(addrs []string) (*traffic, error) {
	producer, err := kafkago.NewProducer(kafkago.ProducerConfig{
		Connection: kafkago.Connection{Brokers: addrs}, Topics: []string{devTopics.Activities}, Compression: "lz4",
	})
	if err != nil {
		return nil, err
	}
	options := sample.DefaultOptions()
	options.Bad = int(c.Bad*1000 + 0.5)
	return &traffic{producer: producer, generator: sample.NewGenerator(c.Seed, options)}, nil
}

// work runs the stream until all activities are through (with Exit) or ctx is done,
// and returns how long the stream has worked.
func (c *devCmd) work(ctx context.Context, std stdio, s *stream, t *traffic) (time.Duration, error) {
	// Without a rate the backlog is there before the stream begins, so that the
	// stream's speed is not the generator's.
	if c.Rate == nil {
		if err := t.produce(ctx, c.Activities); err != nil {
			return 0, err
		}
	}
	working, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1) // capacity 1: written once, and maybe never read
	start := time.Now()
	go func() { ended <- s.run(working) }()

	making := make(chan error, 1) // capacity 1: as above
	goal, rate := c.Activities, float64(devIdleRate)
	if c.Rate != nil {
		rate = *c.Rate
	}
	if !c.Exit {
		goal = -1
	}
	go func() { making <- t.run(working, goal, rate) }()

	progress := newDevProgress(std, c.Exit)
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for isDone := false; !isDone; {
		select {
		case <-look.C:
			read := s.Stats().Read
			progress.show(s.Stats(), t.madeSoFar())
			isDone = c.Exit && read >= uint64(goal)
		case <-ctx.Done():
			isDone = true
		case err := <-ended:
			if ctx.Err() == nil {
				stop()
				return 0, errors.Join(err, unlessCanceled(<-making))
			}
			ended <- err
			isDone = true
		}
	}
	took := time.Since(start)
	progress.end()
	stop()
	if err := errors.Join(unlessCanceled(<-making), <-ended); err != nil {
		return 0, err
	}
	return took, nil
}

// unlessCanceled is an error, except when the end was wanted.
func unlessCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
