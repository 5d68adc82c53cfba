package main

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"sortition/pipeline"
	"sortition/pipeline/kafkago"
)

// streamParts is all that a stream is made of.
type streamParts struct {
	pipeline   pipeline.Config
	subscriber kafkago.SubscriberConfig // without connection, logger and drain timeout
	producer   kafkago.ProducerConfig   // without connection, topics and logger
	connection kafkago.Connection
	drain      time.Duration // for the whole of the shutdown
}

// stream is a pipeline between topics of one cluster.
type stream struct {
	*pipeline.Pipeline
	assign     *pipeline.Assign
	subscriber *kafkago.Subscriber
	producer   *kafkago.Producer
}

// openStream checks all parts and reports all faults. It connects to nothing.
func openStream(parts streamParts, snapshots pipeline.SnapshotSource, logger *slog.Logger) (*stream, error) {
	topics := parts.pipeline.Topics
	parts.subscriber.Connection, parts.subscriber.Logger = parts.connection, logger
	parts.producer.Connection, parts.producer.Logger = parts.connection, logger
	parts.producer.Topics = []string{topics.Decisions, topics.Events, topics.DeadLetters}
	// Of the time to shut down, most is for the batches in flight; then the router
	// may count its handlers, and the group is left.
	parts.subscriber.DrainTimeout = parts.drain * 7 / 10

	subscriber, subscriberErr := kafkago.NewSubscriber(parts.subscriber)
	producer, producerErr := kafkago.NewProducer(parts.producer)
	if err := errors.Join(parts.pipeline.Validate(), subscriberErr, producerErr); err != nil {
		if producer != nil {
			_ = producer.Close()
		}
		return nil, err
	}
	assign, err := pipeline.NewAssign(parts.pipeline, pipeline.AtLeastOnce(producer), snapshots, logger)
	if err != nil {
		_ = producer.Close()
		return nil, err
	}
	p, err := pipeline.New(pipeline.Options{CloseTimeout: parts.drain * 8 / 10, Logger: logger}, pipeline.Leg{Stage: assign, From: subscriber})
	if err != nil {
		_ = producer.Close()
		return nil, err
	}
	return &stream{Pipeline: p, assign: assign, subscriber: subscriber, producer: producer}, nil
}

// Stats are the totals of the stage that assigns.
func (s *stream) Stats() pipeline.Stats { return s.assign.Stats() }

// close ends the connections, after Run has returned.
func (s *stream) close() {
	_ = s.subscriber.Close()
	_ = s.producer.Close()
}

// why adds the subscriber's reason to an error of Run; nil stays nil.
func (s *stream) why(err error) error {
	if err == nil {
		return nil
	}
	if cause := s.subscriber.Err(); cause != nil {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}
