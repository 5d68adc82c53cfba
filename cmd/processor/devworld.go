package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"sortition/cmab"
	"sortition/decision/datafile"
	"sortition/examples"
	"sortition/internal/fileio"
	"sortition/internal/kafkatest"
	"sortition/internal/sample"
	"sortition/odp"
	"sortition/pipeline"
	"sortition/pipeline/kafkago"
)

// devWorld is all that `processor dev` runs: a broker, a cloud, the stream between
// them, and who watches it. The stream is that of `processor run`; the rest only stands
// where a company's Kafka and Optimizely would.
type devWorld struct {
	broker   *kafkatest.Cluster
	cloud    *devCloud
	datafile *devDatafile
	stream   *stream
	traffic  *traffic
	begin    devPlace            // where this run begins in the topics
	truth    map[string][]string // segments of the sample's visitors
	tap      *devTap             // nil: nobody watches
	page     *devPage            // nil: none

	raw     []byte // the datafile given
	around  *errgroup.Group
	stop    context.CancelFunc
	closers []func() error
}

// The topics of `processor dev`.
var devTopics = pipeline.Topics{
	Activities: "activities", Decisions: "decisions", Events: "events", ODPEvents: "odp-events", DeadLetters: "dead-letters",
}

var devTopicNames = []string{devTopics.Activities, devTopics.Decisions, devTopics.Events, devTopics.ODPEvents, devTopics.DeadLetters}

const (
	devGroup = "sortition"
	// devPolling is how soon a datafile that somebody sets in the emulator is fetched;
	// those that dev sets itself are fetched at once.
	devPolling = 500 * time.Millisecond
	devDrain   = 20 * time.Second
	devCommit  = 100 * time.Millisecond
	// devEventVisitors is more than the default: the emulator looks at each body, and
	// shares the processors with the stream.
	devEventVisitors = 100
)

// openDevWorld makes everything. The cloud and whoever watches run when it returns;
// the stream doesn't yet.
func openDevWorld(ctx context.Context, c *devCmd, std stdio) (w *devWorld, err error) {
	w = &devWorld{truth: map[string][]string{}, raw: examples.Datafile()}
	running, stop := context.WithCancel(context.WithoutCancel(ctx)) // the account is taken after the wish to end
	w.stop = stop
	w.around, running = errgroup.WithContext(running)
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if c.Datafile != "" {
		if w.raw, err = fileio.ReadFile(c.Datafile, maxDatafile); err != nil {
			return w, err
		}
	}
	for id, segments := range sample.Truth(c.Seed, sample.DefaultVisitors) {
		w.truth[id] = segments
	}
	// The broker first: it keeps a second process out of the folder.
	if err := w.openBroker(c); err != nil {
		return w, err
	}
	if w.cloud, err = openDevCloud(w.raw, c.Seed, c.Data); err != nil {
		return w, err
	}
	w.around.Go(func() error { return w.cloud.Run(running) })
	if _, err := w.cloud.served(); err != nil {
		return w, usageError{err}
	}
	w.datafile = &devDatafile{cloud: w.cloud, path: c.Datafile}
	if err := w.openStream(std); err != nil {
		return w, err
	}
	if err := w.findBegin(ctx); err != nil {
		return w, err
	}
	if err := w.openTraffic(c); err != nil {
		return w, err
	}
	w.around.Go(func() error { return w.datafile.watch(running, w.raw) })
	if c.isWatched(std) {
		w.tap = newDevTap()
		w.around.Go(func() error { return w.tap.run(running, w.broker.Addrs(), len(w.begin.ends[devTopics.Activities])) })
	}
	if c.hasPage() {
		if w.page, err = openDevPage(w, c.Page); err != nil {
			return w, err
		}
		w.around.Go(func() error { return w.page.run(running) })
	}
	return w, nil
}

func (w *devWorld) onClose(f func() error) { w.closers = append(w.closers, f) }

// close ends everything and waits for it. The stream must not be running.
func (w *devWorld) close() error {
	w.stop()
	err := unlessCanceled(w.around.Wait())
	for _, f := range slices.Backward(w.closers) {
		err = errors.Join(err, f())
	}
	return err
}

func (w *devWorld) openBroker(c *devCmd) (err error) {
	var topics []kafkatest.Topic
	for _, name := range devTopicNames {
		topics = append(topics, kafkatest.Topic{Name: name, Partitions: c.Partitions})
	}
	if c.Data == "" {
		w.broker, err = kafkatest.Start(topics)
	} else {
		w.broker, err = kafkatest.StartIn(filepath.Join(c.Data, "kafka"), topics)
	}
	if err == nil {
		w.onClose(func() error { w.broker.Close(); return nil })
	}
	return err
}

func (w *devWorld) openStream(std stdio) (err error) {
	urls := w.cloud.URLs()
	segments, predictions := odp.DefaultConfig(), cmab.DefaultConfig()
	predictions.Endpoint = urls.Predict
	p, err := w.cloud.served()
	if err != nil {
		return err
	}
	_, odpKey := p.ODP()
	if odpKey == "" {
		odpKey = "none" // as good as any to the emulator then; a run that is to end can't wait for a datafile with one
	}
	logger := slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: slog.LevelError}))
	w.stream, err = openStream(streamParts{
		handlers:    allHandlers,
		assign:      pipeline.Config{EventVisitors: devEventVisitors, Settings: pipeline.Settings{Stream: "dev", DecideAll: true, Client: client}},
		topics:      devTopics,
		datafile:    &datafile.Config{Poll: datafile.PollConfig{SDKKey: w.cloud.key, URLTemplate: urls.Datafile, Interval: devPolling}},
		segments:    &segmentParts{config: segments, host: urls.ODP, policy: odp.Unknown},
		predictions: &predictions,
		// Never where the datafile says: nothing of a demonstration goes out.
		deliverEvents: deliveryParts{endpoint: urls.Events, timeout: 10 * time.Second, concurrency: 4, maxBatchRecords: 100},
		deliverODP:    deliveryParts{endpoint: urls.ODP, key: odpKey, timeout: 10 * time.Second, concurrency: 4, maxBatchRecords: 100},
		startup:       10 * time.Second,
		subscriber:    kafkago.SubscriberConfig{Group: devGroup, MaxWait: 100 * time.Millisecond, CommitInterval: devCommit},
		producer:      kafkago.ProducerConfig{Compression: "lz4"},
		connection:    kafkago.Connection{Brokers: w.broker.Addrs()},
		drain:         devDrain,
	}, logger)
	if err != nil {
		return err
	}
	w.onClose(func() error { w.stream.close(); return nil })
	stop, err := w.datafile.follow(w.stream.source)
	if err == nil {
		w.onClose(func() error { stop(); return nil })
	}
	return err
}

// openTraffic makes the generator, and has it go on after what is in the topic.
func (w *devWorld) openTraffic(c *devCmd) error {
	producer, err := kafkago.NewProducer(kafkago.ProducerConfig{
		Connection: kafkago.Connection{Brokers: w.broker.Addrs()}, Topics: []string{devTopics.Activities}, Compression: "lz4",
	})
	if err != nil {
		return err
	}
	options := sample.DefaultOptions()
	options.Bad = int(c.Bad*1000 + 0.5)
	w.traffic = &traffic{producer: producer, generator: sample.NewGenerator(c.Seed, options)}
	w.onClose(func() error { w.traffic.close(); return nil })
	if c.Data == "" {
		return nil
	}
	return w.traffic.keep(filepath.Join(c.Data, "made"), int(sumOf(w.begin.ends[devTopics.Activities])))
}

// devPlace is a moment in the topics: where they end, and how far their groups are.
type devPlace struct{ ends, committed map[string][]int64 }

// isAfter tells whether a record of a topic came after that moment.
func (p *devPlace) isAfter(topic string, r *kafkatest.Record) bool {
	return r.Offset >= p.ends[topic][r.Partition]
}

// behind is how many records of a topic its group has not committed.
func (p *devPlace) behind(topic string) (n int64) {
	return sumOf(p.ends[topic]) - sumOf(p.committed[topic])
}

func sumOf(list []int64) (sum int64) {
	for _, n := range list {
		sum += n
	}
	return sum
}

// place looks up where the topics are now. The groups come first: what is committed is
// never beyond the end.
func (w *devWorld) place(ctx context.Context, r *kafkatest.Reader) (*devPlace, error) {
	p := &devPlace{ends: map[string][]int64{}, committed: map[string][]int64{}}
	partitions := len(w.begin.ends[devTopics.Activities])
	for _, s := range []struct{ handler, topic string }{
		{pipeline.AssignActivities, devTopics.Activities}, {pipeline.DeliverEvents, devTopics.Events}, {pipeline.DeliverODP, devTopics.ODPEvents},
	} {
		committed, err := r.Committed(ctx, w.stream.parts.groupOf(s.handler), s.topic, partitions)
		if err != nil {
			return nil, err
		}
		p.committed[s.topic] = committed
	}
	for _, topic := range devTopicNames {
		ends, err := r.Ends(ctx, topic)
		if err != nil {
			return nil, err
		}
		p.ends[topic] = ends
	}
	return p, nil
}

func (w *devWorld) findBegin(ctx context.Context) error {
	r := kafkatest.NewReader(w.broker.Addrs())
	defer r.Close()
	ends, err := r.Ends(ctx, devTopics.Activities) // how many partitions there are
	if err != nil {
		return err
	}
	w.begin.ends = map[string][]int64{devTopics.Activities: ends}
	begin, err := w.place(ctx, r)
	if err != nil {
		return fmt.Errorf("find out where to begin: %w", err)
	}
	w.begin = *begin
	return nil
}

// isThrough tells whether nothing is left to do for any of the handlers.
func (w *devWorld) isThrough(ctx context.Context, r *kafkatest.Reader) (bool, error) {
	p, err := w.place(ctx, r)
	if err != nil {
		return false, err
	}
	// A group's place is looked up before the ends. So if the first has nothing left, the
	// ends of the others are final, if nobody makes activities any more.
	return p.behind(devTopics.Activities) == 0 && p.behind(devTopics.Events) == 0 && p.behind(devTopics.ODPEvents) == 0, nil
}
