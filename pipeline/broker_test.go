package pipeline_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"sortition/decision"
	"sortition/examples"
	"sortition/internal/kafkatest"
	"sortition/internal/sample"
	"sortition/pipeline"
	"sortition/pipeline/kafkago"
	"sortition/schemas"
)

// patience is how long tests wait for what must happen.
const patience = 60 * time.Second

// rig is a cluster with a stream's topics on it.
type rig struct {
	addrs      []string
	topics     pipeline.Topics
	group      string
	partitions int
	// requestBytes bounds the record batches that are written; 0: the default.
	requestBytes int
	inputs       map[coordinates]pipeline.Output // what was produced, by where it lies
}

type coordinates struct {
	partition int
	offset    int64
}

// onBrokers runs the test on an in-process broker, and on a real Kafka where
// there is one.
func onBrokers(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Run("kfake", func(t *testing.T) {
		test(t, newRig(t, kafkatest.Fake(t, nil, kfake.GroupMinSessionTimeout(time.Second)).Addrs()))
	})
	t.Run("kafka", func(t *testing.T) { test(t, newRig(t, kafkatest.Real(t))) })
}

var names atomic.Int64

func newRig(t *testing.T, addrs []string) *rig {
	t.Helper()
	unique := fmt.Sprintf("%s-%d-%d", strings.ReplaceAll(t.Name(), "/", "-"), time.Now().UnixNano(), names.Add(1))
	r := &rig{addrs: addrs, partitions: 3, group: unique}
	r.newOutputs(t, unique)
	r.topics.Activities = unique + "-activities"
	require.NoError(t, kafkatest.CreateTopic(t.Context(), addrs, kafkatest.Topic{Name: r.topics.Activities, Partitions: r.partitions}))
	return r
}

// newOutputs makes fresh topics to write to.
func (r *rig) newOutputs(t *testing.T, unique string) {
	t.Helper()
	r.topics.Decisions, r.topics.Events, r.topics.DeadLetters = unique+"-decisions", unique+"-events", unique+"-dead-letters"
	for _, name := range []string{r.topics.Decisions, r.topics.Events, r.topics.DeadLetters} {
		require.NoError(t, kafkatest.CreateTopic(t.Context(), r.addrs, kafkatest.Topic{Name: name, Partitions: r.partitions}))
	}
}

func (r *rig) producer(t *testing.T) *kafkago.Producer {
	t.Helper()
	p, err := kafkago.NewProducer(kafkago.ProducerConfig{
		Connection: kafkago.Connection{Brokers: r.addrs}, Logger: testLogger(t), MaxRequestBytes: r.requestBytes,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// seed produces n sample activities, bad of a thousand of them unusable, and notes
// where each lies.
func (r *rig) seed(t *testing.T, n, bad int) {
	t.Helper()
	options := sample.DefaultOptions()
	options.Bad, options.Visitors = bad, 50
	g := sample.NewGenerator(3, options)
	var outputs []pipeline.Output
	for range n {
		value := g.AppendNext(nil)
		outputs = append(outputs, pipeline.Output{
			Topic: r.topics.Activities, Key: append([]byte{}, g.Key()...), Value: value, Time: g.Time(),
			Headers: []pipeline.Header{{Key: "origin", Value: []byte("shop")}, {Key: "origin", Value: nil}},
		})
	}
	require.NoError(t, r.producer(t).Produce(t.Context(), outputs))
	r.inputs = map[coordinates]pipeline.Output{}
	for _, rec := range r.read(t, r.topics.Activities) {
		r.inputs[coordinates{rec.partition, rec.offset}] = rec.Output
	}
	require.Len(t, r.inputs, n)
}

// stream is a running pipeline.
type stream struct {
	*pipeline.Assign
	stop  context.CancelFunc
	ended chan error
}

var testClient = decision.Client{Name: "sortition", Version: "test"}

func testSnapshots(t *testing.T) *pipeline.Latest {
	t.Helper()
	project, err := decision.Compile(examples.Datafile())
	require.NoError(t, err)
	return pipeline.NewLatest(pipeline.NewSnapshot(project))
}

// options change how start builds a stream.
type options struct {
	subscriber func(*kafkago.SubscriberConfig)
	units      func(pipeline.Units) pipeline.Units
	producer   func(pipeline.Producer) pipeline.Producer
}

// config is that of the stage that assigns.
func (r *rig) config() pipeline.Config {
	return pipeline.Config{Settings: pipeline.Settings{Stream: "test", DecideAll: true, Client: testClient}, Topics: r.topics}
}

// start runs a stream over the rig's topics. The test stops it.
func (r *rig) start(t *testing.T, o options) *stream {
	t.Helper()
	cfg := kafkago.SubscriberConfig{
		Connection: kafkago.Connection{Brokers: r.addrs}, Group: r.group, Logger: testLogger(t), MaxBatchRecords: 100,
		MaxWait: 50 * time.Millisecond, CommitInterval: 10 * time.Millisecond, NackBackoff: 5 * time.Millisecond, MaxNackBackoff: 50 * time.Millisecond,
		HeartbeatInterval: 50 * time.Millisecond, SessionTimeout: 6 * time.Second, RebalanceTimeout: 6 * time.Second,
	}
	if o.subscriber != nil {
		o.subscriber(&cfg)
	}
	subscriber, err := kafkago.NewSubscriber(cfg)
	require.NoError(t, err)
	var producer pipeline.Producer = r.producer(t)
	if o.producer != nil {
		producer = o.producer(producer)
	}
	units := pipeline.AtLeastOnce(producer)
	if o.units != nil {
		units = o.units(units)
	}
	assign, err := pipeline.NewAssign(r.config(), units, testSnapshots(t), testLogger(t))
	require.NoError(t, err)
	p, err := pipeline.New(pipeline.Options{Logger: testLogger(t)}, pipeline.Leg{Stage: assign, From: subscriber})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	s := &stream{Assign: assign, stop: stop, ended: make(chan error, 1)} // capacity 1: written once
	go func() {
		s.ended <- p.Run(ctx)
		_ = subscriber.Close()
	}()
	t.Cleanup(stop)
	return s
}

// finish waits until n records are through, and stops the stream in good order.
func (s *stream) finish(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return s.Stats().Read >= uint64(n) }, patience, 5*time.Millisecond)
	s.stop()
	select {
	case err := <-s.ended:
		require.NoError(t, err)
	case <-time.After(patience):
		require.FailNow(t, "the stream did not end")
	}
}

func testLogger(t testing.TB) *slog.Logger {
	if os.Getenv("SORTITION_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// stored is a record read back from a topic.
type stored struct {
	coordinates
	pipeline.Output
}

// read returns all records of a topic, partition by partition in order.
func (r *rig) read(t *testing.T, topic string) []stored {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	transport := &kafka.Transport{MetadataTopics: []string{topic}}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(r.addrs...), Transport: transport, Timeout: patience}
	var ask []kafka.OffsetRequest
	for p := range r.partitions {
		ask = append(ask, kafka.LastOffsetOf(p))
	}
	ends, err := client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: ask}})
	require.NoError(t, err)
	var all []stored
	for _, end := range ends.Topics[topic] {
		require.NoError(t, end.Error)
		for at := int64(0); at < end.LastOffset; {
			res, err := client.Fetch(ctx, &kafka.FetchRequest{
				Topic: topic, Partition: end.Partition, Offset: at, MinBytes: 1, MaxBytes: 4 << 20, MaxWait: time.Second})
			require.NoError(t, err)
			require.NoError(t, res.Error)
			for {
				rec, err := res.Records.ReadRecord()
				if errors.Is(err, io.EOF) {
					break
				}
				require.NoError(t, err)
				s := stored{coordinates: coordinates{end.Partition, rec.Offset}, Output: pipeline.Output{Topic: topic, Time: rec.Time.UTC()}}
				s.Key, err = kafka.ReadAll(rec.Key)
				require.NoError(t, err)
				s.Value, err = kafka.ReadAll(rec.Value)
				require.NoError(t, err)
				for _, h := range rec.Headers {
					s.Headers = append(s.Headers, pipeline.Header{Key: h.Key, Value: h.Value})
				}
				if rec.Offset >= at {
					all = append(all, s)
					at = rec.Offset + 1
				}
			}
		}
	}
	return all
}

// sourceOf says where the activity of a decision record or dead letter lies.
func sourceOf(t *testing.T, s *stored) coordinates {
	t.Helper()
	var record struct{ Source *schemas.Source }
	if json.Unmarshal(s.Value, &record) == nil && record.Source != nil {
		return coordinates{int(record.Source.Partition), record.Source.Offset}
	}
	letter, err := schemas.ParseDeadLetter(func(yield func(string, []byte) bool) {
		for _, h := range s.Headers {
			if !yield(h.Key, h.Value) {
				return
			}
		}
	})
	require.NoError(t, err)
	return coordinates{int(letter.Partition), letter.Offset}
}

// outcome is what the output topics hold, repeats folded: it fails if two records
// of one id, or two events of one uuid, are not the same bytes.
type outcome struct {
	decisions map[coordinates]stored
	letters   map[coordinates]stored
	events    map[string]string // by uuid
	repeats   int
}

func (r *rig) outcome(t *testing.T) *outcome {
	t.Helper()
	o := &outcome{decisions: map[coordinates]stored{}, letters: map[coordinates]stored{}, events: map[string]string{}}
	for _, set := range []struct {
		topic string
		into  map[coordinates]stored
	}{{r.topics.Decisions, o.decisions}, {r.topics.DeadLetters, o.letters}} {
		for _, s := range r.read(t, set.topic) {
			from := sourceOf(t, &s)
			before, isRepeat := set.into[from]
			if isRepeat {
				o.repeats++
				require.Equal(t, before.Output, s.Output, "a repeat is the same record, key, headers and time included")
			}
			set.into[from] = s
		}
	}
	for _, s := range r.read(t, r.topics.Events) {
		for uuid, visitor := range visitorsOf(t, s.Value) {
			if before, isRepeat := o.events[uuid]; isRepeat {
				o.repeats++
				require.Equal(t, before, visitor, "a repeated event is the same event")
			}
			o.events[uuid] = visitor
		}
	}
	return o
}

func visitorsOf(t *testing.T, body []byte) map[string]string {
	t.Helper()
	var batch struct{ Visitors []json.RawMessage }
	require.NoError(t, json.Unmarshal(body, &batch))
	all := map[string]string{}
	for _, raw := range batch.Visitors {
		var v struct {
			Snapshots []struct{ Events []struct{ UUID string } }
		}
		require.NoError(t, json.Unmarshal(raw, &v))
		all[v.Snapshots[0].Events[0].UUID] = string(raw)
	}
	return all
}

// requireComplete checks that every input has its decision record or its dead
// letter, that the right ones have which, and that dead letters are the originals.
func (r *rig) requireComplete(t *testing.T, o *outcome) {
	t.Helper()
	var d schemas.Decoder
	var a schemas.Activity
	for at, in := range r.inputs {
		letter, isLetter := o.letters[at]
		_, isDecided := o.decisions[at]
		require.NotEqual(t, isLetter, isDecided, "input %v: dead letter %v, decided %v", at, isLetter, isDecided)
		require.Equal(t, d.Decode(in.Value, &a) == nil, isDecided)
		if isLetter {
			require.Equal(t, in.Key, letter.Key)
			require.Equal(t, in.Value, letter.Value)
			require.Equal(t, in.Headers, letter.Headers[:len(in.Headers)])
		}
	}
	require.Len(t, r.inputs, len(o.letters)+len(o.decisions))
}
