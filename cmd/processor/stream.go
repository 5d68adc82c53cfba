package main

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"sortition/cmab"
	"sortition/decision"
	"sortition/decision/datafile"
	"sortition/odp"
	"sortition/pipeline"
	"sortition/pipeline/kafkago"
	"sortition/profiles"
)

// streamParts is all that a stream is made of.
type streamParts struct {
	handlers   []string // those that run here
	connection kafkago.Connection
	topics     pipeline.Topics
	create     *topicCreation           // nil: topics must be there
	subscriber kafkago.SubscriberConfig // without connection, logger and drain timeout; the group is that of the handler "assign"
	producer   kafkago.ProducerConfig   // without connection, topics and logger

	datafile *datafile.Config // nil: no handler needs one
	archive  string           // folder; "": none
	webhook  *datafile.WebhookProject

	assign      pipeline.Config // without topics and services
	segments    *segmentParts   // nil: not fetched
	profiles    *profileParts   // nil: none
	dedup       *dedupParts     // nil: every impression is sent
	predictions *cmab.Config    // nil: every prediction fails
	redis       *redis.Options

	deliverEvents, deliverODP deliveryParts

	listen  string        // address of metrics, health and webhook; "": none
	startup time.Duration // how long brokers, topics and datafile are waited for
	drain   time.Duration // for the whole of the shutdown
}

func (p *streamParts) runs(handler string) bool { return slices.Contains(p.handlers, handler) }

// groupOf is the consumer group of a handler: each has its own, so that a rebalance
// of one doesn't pause the others.
func (p *streamParts) groupOf(handler string) string {
	if handler == pipeline.AssignActivities {
		return p.subscriber.Group
	}
	return p.subscriber.Group + "-" + handler
}

// outputTopics are those that the handlers write to.
func (p *streamParts) outputTopics() []string {
	if !p.runs(pipeline.AssignActivities) {
		return []string{p.topics.DeadLetters}
	}
	topics := []string{p.topics.Decisions, p.topics.Events, p.topics.DeadLetters}
	if p.topics.ODPEvents != "" {
		topics = append(topics, p.topics.ODPEvents)
	}
	return topics
}

// inputOf is the topic that a handler reads.
func (p *streamParts) inputOf(handler string) string {
	switch handler {
	case pipeline.DeliverEvents:
		return p.topics.Events
	case pipeline.DeliverODP:
		return p.topics.ODPEvents
	}
	return p.topics.Activities
}

// allTopics are those that must be there.
func (p *streamParts) allTopics() []string {
	var topics []string
	for _, handler := range allHandlers {
		if p.runs(handler) {
			topics = append(topics, p.inputOf(handler))
		}
	}
	for _, t := range p.outputTopics() {
		if !slices.Contains(topics, t) {
			topics = append(topics, t)
		}
	}
	return topics
}

// stream is a pipeline between topics of one cluster, and what its stages ask. What a
// part isn't needed for is nil.
type stream struct {
	parts    streamParts
	logger   *slog.Logger
	pipeline *pipeline.Pipeline
	legs     []leg
	producer *kafkago.Producer

	source        datafile.Source
	archive       *datafile.Archive
	webhook       *datafile.Webhook
	snapshots     pipeline.Latest // empty, and not asked, before there is a datafile
	redis         *redis.Client
	segmenter     *segmenter
	predictor     *cmab.Predictor
	profiles      *pipeline.Profiles
	redisProfiles *profiles.Redis

	assign        *pipeline.Assign
	deliverEvents *pipeline.Deliver
	deliverODP    *pipeline.Deliver
	eventEndpoint *eventEndpoint
	odpEndpoint   *odpEndpoint

	metrics *streamMetrics
	closers []func() // in the order of opening
}

// leg is a stage and its subscriber.
type leg struct {
	stage      pipeline.Stage
	subscriber *kafkago.Subscriber
	watch      *fetchWatch
}

// openStream checks all parts and reports all faults. It connects to nothing and
// starts nothing.
func openStream(parts streamParts, logger *slog.Logger) (_ *stream, err error) {
	s := &stream{parts: parts, logger: logger, metrics: newStreamMetrics()}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	var f faults
	f.add(s.openSource())
	f.add(s.openServices())
	f.add(s.openProducer())
	f.add(s.openStages())
	if len(f) > 0 {
		return nil, errors.Join(f...)
	}
	legs := make([]pipeline.Leg, len(s.legs))
	for i, l := range s.legs {
		legs[i] = pipeline.Leg{Stage: l.stage, From: l.subscriber}
	}
	s.pipeline, err = pipeline.New(pipeline.Options{
		CloseTimeout: parts.drain * 8 / 10, Logger: logger, Metrics: s.metrics.pipeline,
	}, legs...)
	if err != nil {
		return nil, err
	}
	s.metrics.watch(s)
	return s, nil
}

func (s *stream) onClose(f func()) { s.closers = append(s.closers, f) }

// close ends the connections, after run has returned.
func (s *stream) close() {
	for _, l := range s.legs {
		_ = l.subscriber.Close()
	}
	for _, f := range slices.Backward(s.closers) {
		f()
	}
	s.closers = nil
}

func (s *stream) openSource() error {
	config := s.parts.datafile
	if config == nil {
		return nil
	}
	if s.parts.archive != "" {
		archive, err := datafile.OpenArchive(s.parts.archive)
		if err != nil {
			return fmt.Errorf("open the archive of datafiles: %w", err)
		}
		s.archive = archive
		s.onClose(func() { _ = archive.Close() })
	}
	c := *config
	c.Poll.Archive, c.Poll.Logger, c.Poll.OnUpdate = s.archive, s.logger, s.update
	source, err := datafile.Open(c)
	if err != nil {
		return err
	}
	s.source = source
	if s.parts.webhook == nil {
		return nil
	}
	poller, ok := source.(*datafile.Poller)
	if !ok {
		return errors.New("a webhook needs a datafile that is polled")
	}
	s.webhook, err = datafile.NewWebhook(datafile.WebhookConfig{
		Projects: []datafile.WebhookProject{*s.parts.webhook}, Refreshers: map[string]datafile.Refresher{poller.SDKKey(): poller}, Logger: s.logger,
	})
	return err
}

// openServices makes what the stages ask.
func (s *stream) openServices() error {
	p := &s.parts
	if p.redis != nil {
		s.redis = redis.NewClient(p.redis)
		s.onClose(func() { _ = s.redis.Close() })
	}
	var f faults
	env := decision.Env{}
	if p.profiles != nil {
		f.add(s.openProfiles())
	}
	if d := p.dedup; d != nil {
		dedup, err := pipeline.NewDedup(d.window, d.size)
		f.add(err)
		p.assign.Dedup = dedup
	}
	if p.topics.ODPEvents != "" {
		p.assign.ODP = odp.Sender{Name: client.Name, Version: client.Version}
	}
	if p.predictions != nil {
		config := *p.predictions
		config.NewUUID, p.assign.PredictionBudget = pipeline.PredictionID, config.Budget
		predictor, err := cmab.New(config)
		f.add(err)
		if err == nil {
			s.predictor, env.Predictor = predictor, predictor
			s.onClose(predictor.Close)
		}
	}
	if p.segments != nil {
		config := p.segments.config
		config.Logger = s.logger
		if p.segments.inRedis {
			config.Cache = odp.NewRedis(s.redis, odp.RedisOptions{})
		}
		segments, err := odp.NewSegments(config)
		f.add(err)
		if err == nil {
			s.segmenter = &segmenter{segments: segments, identifier: config.UserKey, host: p.segments.host, policy: p.segments.policy, timeout: p.segments.timeout}
			p.assign.Segments = s.segmenter
			if s.source != nil && s.source.Current() != nil { // a datafile that was given is in force already
				s.segmenter.update(s.source.Current())
			}
			s.onClose(segments.Close)
		}
	}
	p.assign.Env = &env
	return errors.Join(f...)
}

func (s *stream) openProfiles() error {
	p := s.parts.profiles
	var store pipeline.ProfileStore
	if p.inRedis {
		s.redisProfiles = profiles.NewRedis(s.redis, profiles.RedisOptions{TTL: p.ttl})
		store = s.redisProfiles
	} else {
		memory, err := profiles.NewMemory(p.size)
		if err != nil {
			return err
		}
		store = memory
	}
	s.profiles = pipeline.NewProfiles(store, p.policy)
	s.parts.assign.Profiles = s.profiles
	return nil
}

func (s *stream) openProducer() error {
	config := s.parts.producer
	config.Connection, config.Logger, config.Topics = s.parts.connection, s.logger, s.parts.outputTopics()
	producer, err := kafkago.NewProducer(config)
	if err != nil {
		return err
	}
	s.producer = producer
	s.onClose(func() { _ = producer.Close() })
	return nil
}

// openStages makes the stages that run here, and their subscribers.
func (s *stream) openStages() error {
	var f faults
	p := &s.parts
	units := pipeline.AtLeastOnce(s.producer)
	if p.runs(pipeline.AssignActivities) {
		p.assign.Topics = p.topics
		stage, err := pipeline.NewAssign(p.assign, units, &s.snapshots, s.logger)
		f.add(err)
		s.assign = stage
		f.add(s.subscribe(stage, err, p.subscriber.MaxBatchRecords))
	}
	if p.runs(pipeline.DeliverEvents) {
		endpoint, err := newEventEndpoint(p.deliverEvents)
		f.add(err)
		if err == nil {
			s.eventEndpoint = endpoint
			s.onClose(endpoint.close)
			s.deliverEvents, err = s.openDelivery(pipeline.DeliverEvents, p.topics.Events, p.deliverEvents, endpoint, units)
			f.add(err)
		}
	}
	if p.runs(pipeline.DeliverODP) {
		s.odpEndpoint = newODPEndpoint(p.deliverODP, s.integration, s.logger)
		s.onClose(s.odpEndpoint.close)
		var err error
		s.deliverODP, err = s.openDelivery(pipeline.DeliverODP, p.topics.ODPEvents, p.deliverODP, s.odpEndpoint, units)
		f.add(err)
	}
	return errors.Join(f...)
}

func (s *stream) openDelivery(name, topic string, d deliveryParts, to pipeline.Endpoint, units pipeline.Units) (*pipeline.Deliver, error) {
	stage, err := pipeline.NewDeliver(pipeline.DeliverConfig{
		Name: name, Topic: topic, DeadLetters: s.parts.topics.DeadLetters, Concurrency: d.concurrency,
	}, to, units, s.logger)
	return stage, errors.Join(err, s.subscribe(stage, err, d.maxBatchRecords))
}

// subscribe makes the subscriber of a stage, if there is one.
func (s *stream) subscribe(stage pipeline.Stage, failed error, maxBatchRecords int) error {
	config := s.parts.subscriber
	config.Connection, config.Logger, config.MaxBatchRecords = s.parts.connection, s.logger, maxBatchRecords
	config.FetchAheadBytes, config.MaxBufferedBytes = fetchAheadBytes, maxBufferedBytes
	// Of the time to shut down, most is for the batches in flight; then the router
	// may count its handlers, and the group is left.
	config.DrainTimeout = s.parts.drain * 7 / 10
	if failed == nil {
		config.Group = s.parts.groupOf(stage.Name())
	}
	subscriber, err := kafkago.NewSubscriber(config)
	if err == nil && failed == nil {
		s.legs = append(s.legs, leg{stage, subscriber, &fetchWatch{patience: s.parts.fetchPatience()}})
	}
	return err
}
