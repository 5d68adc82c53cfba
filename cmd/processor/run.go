package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"sortition/pipeline"
	"sortition/pipeline/kafkago"
)

// runCmd is the stream against a Kafka that exists.
type runCmd struct {
	Config string `short:"c" required:"" placeholder:"FILE" help:"The configuration, a YAML file."`
}

// Help is shown by --help.
func (runCmd) Help() string {
	return `Examples:

    processor run -c sortition.yaml
    KAFKA_PASSWORD=... processor run -c sortition.yaml

Reads activities from a topic, decides them, and stores decision records, event batches and dead letters in topics. Offsets are
committed when everything made of a batch is stored: a crash repeats work, under the same ids, and loses none.

examples/sortition.yaml explains every key. ${NAME} and ${NAME:-default} in values are taken from the environment. Relative paths
start from the configuration's folder. The topics must exist.

Ctrl-C or SIGTERM finishes the batches in flight, commits and leaves the group, within drain_timeout; a second one ends at once.
`
}

// Run works until it is told to stop.
func (c *runCmd) Run(ctx context.Context, std stdio) error {
	cfg, err := loadStreamConfig(c.Config)
	if err != nil {
		return usageError{err}
	}
	parts, err := cfg.parts()
	if err != nil {
		return usageError{configFault(c.Config, err)}
	}
	logger := cfg.logger(std)
	project, err := readProject(cfg.path(cfg.Datafile.Path), cfg.Datafile.SkipValidation)
	if err != nil {
		return err
	}
	for _, key := range cfg.Decide.keys {
		if !project.HasFlag(key) {
			logger.Warn("the datafile has no such flag", slog.String("decide", key))
		}
	}
	s, err := openStream(parts, pipeline.NewLatest(pipeline.NewSnapshot(project)), logger)
	if err != nil {
		return usageError{configFault(c.Config, err)}
	}
	defer s.close()

	logger.Info("starting", slog.String("version", version), slog.String("config", c.Config),
		slog.String("revision", project.Revision()), slog.Int("flags", project.NumFlags()), slog.String("datafile", project.Digest()))
	if err := awaitTopics(ctx, parts, time.Duration(cfg.StartupTimeout), logger); err != nil {
		return err
	}
	started := time.Now()
	err = s.why(s.Run(ctx))
	logTotals(logger, s.Stats(), time.Since(started))
	return err
}

// awaitTopics waits for everything the stream reads and writes.
func awaitTopics(ctx context.Context, parts streamParts, timeout time.Duration, logger *slog.Logger) error {
	t := parts.pipeline.Topics
	partitions, err := parts.connection.Await(ctx, []string{t.Activities, t.Decisions, t.Events, t.DeadLetters}, timeout, logger)
	var missing *kafkago.TopicMissingError
	switch {
	case errors.As(err, &missing):
		return fmt.Errorf("%w\ncreate the topics, or correct topics in the configuration", err)
	case err != nil:
		return err
	}
	var attributes []any
	for _, name := range slices.Sorted(maps.Keys(partitions)) {
		attributes = append(attributes, slog.Int(name, partitions[name]))
	}
	logger.Info("topics found", slog.Group("partitions", attributes...))
	return nil
}

// logTotals is the last line of a stream.
func logTotals(logger *slog.Logger, s pipeline.Stats, took time.Duration) {
	var letters []any
	for _, reason := range pipeline.Reasons() {
		if n := s.DeadLetters[reason]; n > 0 {
			letters = append(letters, slog.Uint64(string(reason), n))
		}
	}
	logger.Info("stopped", slog.Duration("after", took.Round(time.Millisecond)),
		slog.Uint64("activities", s.Read), slog.Uint64("decided", s.Decided), slog.Uint64("dead_letters", s.Rejected()),
		slog.Group("by_reason", letters...), slog.Uint64("decision_records", s.Records), slog.Uint64("events", s.Visitors),
		slog.Uint64("event_batches", s.EventBodies), slog.Uint64("unknown_events", s.UnknownEvents),
		slog.Uint64("odp_events_left_out", s.ODPEvents), slog.Uint64("batches", s.Batches), slog.Uint64("repeats", s.Repeats))
}
