package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"sortition/decision/datafile"
	"sortition/pipeline"
	"sortition/pipeline/kafkago"
)

// run works until ctx is done: it waits for what must be there, joins, and finishes
// what is in flight at the end. nil means that ctx ended it.
func (s *stream) run(ctx context.Context) error {
	// Datafile and health outlive the wish to end: batches in flight need them.
	around, stop := context.WithCancel(context.WithoutCancel(ctx))
	group, around := errgroup.WithContext(around)
	if s.source != nil {
		group.Go(func() error { return s.source.Run(around) })
	}
	group.Go(func() error { return s.serveHTTP(around) })
	err := s.work(ctx, around)
	stop()
	if other := group.Wait(); err == nil && other != nil && !errors.Is(other, context.Canceled) {
		err = other
	}
	return err
}

func (s *stream) work(ctx, around context.Context) error {
	// What goes wrong around the stream ends it.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(around, func() { cancel(context.Cause(around)) })()
	if err := s.awaitDatafile(ctx); err != nil {
		return err
	}
	if err := s.awaitTopics(ctx); err != nil {
		return err
	}
	s.metrics.started.Store(true)
	return s.why(s.pipeline.Run(ctx))
}

// awaitDatafile waits for the first datafile, saying so when that takes a moment.
func (s *stream) awaitDatafile(ctx context.Context) error {
	if s.source == nil {
		return nil
	}
	err := datafile.WaitReady(ctx, s.source, time.Second)
	if err != nil && ctx.Err() == nil {
		s.logger.Info("waiting for the datafile", slog.Any("error", s.source.Status().Err), slog.Duration("for_at_most", s.parts.startup))
		err = datafile.WaitReady(ctx, s.source, s.parts.startup)
	}
	if err != nil {
		return err
	}
	project := s.source.Current()
	if s.parts.runs(pipeline.AssignActivities) {
		for _, key := range s.parts.assign.Decide {
			if !project.HasFlag(key) {
				s.logger.Warn("the datafile has no such flag", slog.String("decide", key))
			}
		}
	}
	return nil
}

// awaitTopics waits for everything the stream reads and writes.
func (s *stream) awaitTopics(ctx context.Context) error {
	topics := s.parts.allTopics()
	if s.parts.create != nil {
		if err := s.parts.create.ensure(ctx, s.parts.connection, topics, &s.parts.topics, s.parts.startup, s.logger); err != nil {
			return err
		}
	}
	partitions, err := s.parts.connection.Await(ctx, topics, s.parts.startup, s.logger)
	var missing *kafkago.TopicMissingError
	switch {
	case errors.As(err, &missing):
		return fmt.Errorf("%w\ncreate the topics, or say topics.create, or correct topics in the configuration", err)
	case err != nil:
		return err
	}
	var attributes []any
	for _, name := range slices.Sorted(maps.Keys(partitions)) {
		attributes = append(attributes, slog.Int(name, partitions[name]))
	}
	s.logger.Info("topics found", slog.Group("partitions", attributes...))
	return nil
}

// why adds the subscribers' reasons to an error of the pipeline; nil stays nil.
func (s *stream) why(err error) error {
	if err == nil {
		return nil
	}
	for _, l := range s.legs {
		if cause := l.subscriber.Err(); cause != nil {
			err = fmt.Errorf("%w: %w", err, cause)
		}
	}
	return err
}

// Stats are the totals of the stage that assigns; zero if it doesn't run here.
func (s *stream) Stats() pipeline.Stats {
	if s.assign == nil {
		return pipeline.Stats{}
	}
	return s.assign.Stats()
}
