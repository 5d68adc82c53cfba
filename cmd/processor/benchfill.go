package main

import (
	"context"
	"fmt"

	"github.com/segmentio/kafka-go"

	"sortition/decision"
	"sortition/internal/sample"
	"sortition/pipeline"
	"sortition/pipeline/kafkago"
	"sortition/schemas"
)

const (
	// benchFillBatch is how many activities are produced by one call. Divided by
	// the partitions it is the size of the record batches in the topic.
	benchFillBatch = 4000
	// benchReady is how many different ready-made records a loop writes by turns:
	// enough for more than a request of them.
	benchReady = 4096
)

// benchGenerator makes the activities: all name no flags and no conversions, so
// that the settings say what is decided.
func benchGenerator() *sample.Generator { return sample.NewGenerator(benchSeed, sample.Options{}) }

// fill makes the topic of activities.
func (b *bench) fill(ctx context.Context) (err error) {
	if b.activities, err = b.broker.topic(ctx, "activities", "retention.ms", "-1"); err != nil {
		return err
	}
	producer, err := kafkago.NewProducer(kafkago.ProducerConfig{
		Connection: kafkago.Connection{Brokers: b.broker.addrs}, Topics: []string{b.activities}, Compression: b.Codec,
	})
	if err != nil {
		return err
	}
	defer func() { _ = producer.Close() }()
	g := benchGenerator()
	var outputs []pipeline.Output
	var text []byte
	b.bytes = 0
	for made := 0; made < b.Activities; made += len(outputs) {
		outputs, text = outputs[:0], text[:0]
		for range min(benchFillBatch, b.Activities-made) {
			outputs = append(outputs, pipeline.Output{Topic: b.activities})
			o := &outputs[len(outputs)-1]
			text, o.Value = appended(text, g.AppendNext)
			text, o.Key = appended(text, func(dst []byte) []byte { return append(dst, g.Key()...) })
			b.bytes += int64(len(o.Key) + len(o.Value))
		}
		if err := producer.Produce(ctx, outputs); err != nil {
			return fmt.Errorf("make activities: %w", err)
		}
		b.progress.show("filling the topic: %s of %s activities", thousands(made+len(outputs)), thousands(b.Activities))
	}
	b.ends, err = b.broker.ends(ctx, b.activities)
	return err
}

// appended appends by way of f and returns also what f appended.
func appended(dst []byte, f func([]byte) []byte) (all, added []byte) {
	start := len(dst)
	all = f(dst)
	return all, all[start:len(all):len(all)]
}

// activityBytes is the mean size of an activity, key included.
func (b *bench) activityBytes() float64 { return float64(b.bytes) / float64(b.Activities) }

// readyRecord is a decision record made beforehand, as kafka-go takes it.
type readyRecord struct {
	key, value []byte
	headers    []kafka.Header
}

// readyMade is what the pipeline makes of the first activities.
type readyMade struct {
	records []readyRecord
	// The means of one activity: of its decision record, key included, of the
	// bodies of its events, and how many events there are.
	bytes, eventBytes, events float64
}

// ready makes decision records, with the key and the headers that the pipeline
// gives them.
func (b *bench) ready(flags int) *readyMade {
	if m := b.readyMade[flags]; m != nil {
		return m
	}
	m := &readyMade{}
	b.readyMade[flags] = m
	settings := b.settings(flags, true)
	g := benchGenerator()
	assigner := pipeline.NewAssigner(settings)
	assigner.Use(b.snapshot)
	batcher := pipeline.NewEventBatcher(0, 0)
	var decoder schemas.Decoder
	var activity schemas.Activity
	for i := range benchReady {
		now := g.Time()
		if err := decoder.Decode(g.AppendNext(nil), &activity); err != nil {
			panic("BUG: the sample made a bad activity: " + err.Error())
		}
		source := schemas.Source{Topic: b.broker.prefix + "activities", Partition: int32(i % b.Partitions), Offset: int64(i)}
		assigner.Assign(context.Background(), &activity, &source, now.UnixMilli())
		r := readyRecord{key: append([]byte(nil), g.Key()...), value: assigner.AppendRecord(nil)}
		r.headers = []kafka.Header{
			{Key: schemas.HeaderID, Value: []byte(assigner.Record().ID)},
			{Key: schemas.HeaderRevision, Value: []byte(b.project.Revision())},
		}
		assigner.AddEvents(batcher, nil)
		m.records = append(m.records, r)
		m.bytes += float64(len(r.key)+len(r.value)) / benchReady
	}
	m.events = float64(batcher.Added()) / benchReady
	for _, body := range batcher.Flush() {
		m.eventBytes += float64(len(body.Body)) / benchReady
	}
	return m
}

// settings are how a row's activities are decided: by flags spread over the
// datafile, with or without impressions.
func (b *bench) settings(flags int, withEvents bool) pipeline.Settings {
	s := pipeline.Settings{Stream: "bench", Client: client}
	if flags == b.project.NumFlags() {
		s.DecideAll = true
	} else {
		s.Decide = b.flagKeys(flags)
	}
	if !withEvents {
		s.Options = decision.DisableDecisionEvent
	}
	return s
}

func (b *bench) flagKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = b.project.FlagKey(i * b.project.NumFlags() / n)
	}
	return keys
}
