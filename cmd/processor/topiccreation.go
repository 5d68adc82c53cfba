package main

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"sortition/pipeline"
	"sortition/pipeline/kafkago"
)

// topicCreation says how topics that are missing at the start are made. Topics that are
// there are never altered.
type topicCreation struct {
	partitions, replicas int           // 0: the brokers' default
	retention            time.Duration // 0: the brokers' default; less: for ever
	letterRetention      time.Duration // of dead letters, who wait for a person
	compactDecisions     bool          // keep the last decision record of every user
}

// spec is how one of the stream's topics is to be.
func (t *topicCreation) spec(name string, topics *pipeline.Topics) kafkago.TopicSpec {
	spec := kafkago.TopicSpec{Name: name, Partitions: t.partitions, ReplicationFactor: t.replicas, Retention: t.retention}
	switch name {
	case topics.DeadLetters:
		if t.letterRetention != 0 {
			spec.Retention = t.letterRetention
		}
		// It must take whatever the activities topic takes, and a few headers more.
		spec.Config = map[string]string{"max.message.bytes": "2097152"}
	case topics.Decisions:
		spec.Compact = t.compactDecisions
	}
	return spec
}

func (t *topicCreation) ensure(ctx context.Context, c kafkago.Connection, names []string, topics *pipeline.Topics, timeout time.Duration, logger *slog.Logger) error {
	var specs []kafkago.TopicSpec
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		specs = append(specs, t.spec(name, topics))
	}
	_, err := c.EnsureTopics(ctx, specs, timeout, logger)
	return err
}
