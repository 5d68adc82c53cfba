package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"sortition/pipeline"
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
start from the configuration's folder. The topics must exist, unless topics.create is set.

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
	s, err := openStream(parts, logger)
	if err != nil {
		return usageError{configFault(c.Config, err)}
	}
	defer s.close()
	logger.Info("starting", slog.String("version", version), slog.String("config", c.Config), slog.Any("handlers", parts.handlers))
	started := time.Now()
	err = s.run(ctx)
	switch {
	case s.metrics.started.Load():
		s.logTotals(time.Since(started))
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		// Told to stop while it still waited: nothing was begun, and that is as wanted.
		logger.Info("stopped before it began", slog.Duration("after", time.Since(started).Round(time.Millisecond)))
		return nil
	}
	return err
}

// logTotals is the last line of each handler.
func (s *stream) logTotals(took time.Duration) {
	took = took.Round(time.Millisecond)
	if s.assign != nil {
		logTotals(s.logger, s.assign.Stats(), took)
	}
	for _, d := range []*pipeline.Deliver{s.deliverEvents, s.deliverODP} {
		if d != nil {
			t := d.Stats()
			s.logger.Info("stopped", slog.String("handler", d.Name()), slog.Duration("after", took), slog.Uint64("bodies", t.Bodies),
				slog.Uint64("delivered", t.Delivered), slog.Uint64("refused", t.Refused), slog.Uint64("dead_letters", t.DeadLetters),
				slog.Uint64("batches", t.Batches), slog.Uint64("repeats", t.Repeats))
		}
	}
}

func logTotals(logger *slog.Logger, s pipeline.Stats, took time.Duration) {
	var letters []any
	for _, reason := range pipeline.Reasons() {
		if n := s.DeadLetters[reason]; n > 0 {
			letters = append(letters, slog.Uint64(string(reason), n))
		}
	}
	logger.Info("stopped", slog.String("handler", pipeline.AssignActivities), slog.Duration("after", took),
		slog.Uint64("activities", s.Read), slog.Uint64("decided", s.Decided), slog.Uint64("dead_letters", s.Rejected()),
		slog.Group("by_reason", letters...), slog.Uint64("decision_records", s.Records), slog.Uint64("events", s.Visitors),
		slog.Uint64("event_batches", s.EventBodies), slog.Uint64("unknown_events", s.UnknownEvents),
		slog.Uint64("odp_events", s.ODPEvents), slog.Uint64("suppressed", s.Suppressed), slog.Uint64("batches", s.Batches), slog.Uint64("repeats", s.Repeats))
}
