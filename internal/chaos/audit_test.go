package main

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"sortition/examples"
	"sortition/internal/emulator"
	"sortition/internal/kafkatest"
	"sortition/internal/sample"
	"sortition/pipeline"
	"sortition/pipeline/kafkago"
	"sortition/schemas"
)

// A scene is what a calm run leaves behind, made by the stream's own stage, in which a
// test can change something before the auditor comes.
type scene struct {
	auditor  *auditor
	producer *kafkago.Producer
	outputs  []pipeline.Output
}

// Produce keeps what the stage stores, for lay to store it.
func (s *scene) Produce(_ context.Context, outputs []pipeline.Output) error {
	for _, o := range outputs { // the stage uses its buffers again
		o.Key, o.Value, o.Headers = slices.Clone(o.Key), slices.Clone(o.Value), slices.Clone(o.Headers)
		for i := range o.Headers {
			o.Headers[i].Value = slices.Clone(o.Headers[i].Value)
		}
		s.outputs = append(s.outputs, o)
	}
	return nil
}

func newScene(t *testing.T) *scene {
	t.Helper()
	topics := pipeline.Topics{Activities: "a", Decisions: "d", Events: "e", ODPEvents: "o", DeadLetters: "l"}
	var all []kafkatest.Topic
	for _, name := range []string{"a", "d", "e", "o", "l"} {
		all = append(all, kafkatest.Topic{Name: name, Partitions: 2})
	}
	cluster := kafkatest.Fake(t, all)
	producer, err := kafkago.NewProducer(kafkago.ProducerConfig{Connection: kafkago.Connection{Brokers: cluster.Addrs()}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = producer.Close() })
	options := sample.DefaultOptions()
	options.Bad = 50
	g := sample.NewGenerator(3, options)
	var activities []pipeline.Output
	for range 300 {
		value := g.AppendNext(nil)
		activities = append(activities, pipeline.Output{Topic: "a", Key: slices.Clone(g.Key()), Value: value, Time: g.Time()})
	}
	require.NoError(t, producer.Produce(t.Context(), activities))

	rules, err := newRules(examples.Datafile(), "1")
	require.NoError(t, err)
	reader := kafkatest.NewReader(cluster.Addrs())
	t.Cleanup(reader.Close)
	s := &scene{producer: producer, auditor: &auditor{hasher: newHasher(), rules: rules, topics: topics, reader: reader}}
	batches := []*pipeline.Batch{{Topic: "a"}, {Topic: "a", Partition: 1}}
	require.NoError(t, reader.Each(t.Context(), "a", func(r *kafkatest.Record) error {
		b := batches[r.Partition] // nobody else's: a partition is read in order
		b.Records = append(b.Records, pipeline.Record{Key: r.Key, Value: r.Value, Offset: r.Offset, Time: r.Time})
		return nil
	}))
	stage, err := pipeline.NewAssign(pipeline.Config{Settings: rules.settings, Topics: topics, EventVisitors: 7, ODP: rules.sender},
		pipeline.AtLeastOnce(s), pipeline.NewLatest(rules.snapshot), nil)
	require.NoError(t, err)
	for _, b := range batches {
		msg := message.NewMessage("", nil)
		msg.SetContext(pipeline.WithBatch(t.Context(), b))
		require.NoError(t, stage.Handle(msg))
	}
	return s
}

// lay stores the outputs, lets the bodies arrive, and takes the account.
func (s *scene) lay(t *testing.T) *account {
	t.Helper()
	require.NoError(t, s.producer.Produce(t.Context(), s.outputs))
	for _, o := range s.outputs {
		switch o.Topic {
		case "e":
			s.auditor.recorded(&emulator.Attempt{Route: emulator.RouteEvents, Accepted: true, Body: o.Value})
		case "o":
			s.auditor.recorded(&emulator.Attempt{Route: emulator.RouteODPEvents, Accepted: true, Body: o.Value})
		}
	}
	require.NoError(t, s.auditor.audit(t.Context()))
	return &s.auditor.account
}

// first is the first output to a topic.
func (s *scene) first(topic string) *pipeline.Output {
	return &s.outputs[slices.IndexFunc(s.outputs, func(o pipeline.Output) bool { return o.Topic == topic })]
}

// off is all that an account finds wrong.
func (a *account) off() map[string]int {
	off := map[string]int{}
	for name, n := range map[string]int{
		"refused": len(a.refused), "missing": a.missing, "altered": a.altered, "foreign": a.foreign,
		"unmade": a.events.unmade, "strange": a.events.strange, "undelivered": a.events.undelivered, "strangeArrived": a.events.strangeArrived,
		"ODP unmade": a.odpEvents.unmade, "ODP strange": a.odpEvents.strange, "ODP undelivered": a.odpEvents.undelivered, "ODP strangeArrived": a.odpEvents.strangeArrived,
	} {
		if n > 0 {
			off[name] = n
		}
	}
	return off
}

func TestCalmRunAddsUp(t *testing.T) {
	s := newScene(t)
	a := s.lay(t)
	require.Empty(t, a.off())
	require.Zero(t, a.repeats)
	require.Equal(t, 300, a.activities)
	require.Equal(t, 300, a.decided+a.rejected)
	require.Positive(t, a.rejected)
	require.NotEmpty(t, a.events.want)
	require.NotEmpty(t, a.odpEvents.want)
}

func TestRepeatsAreCounted(t *testing.T) {
	s := newScene(t)
	s.outputs = append(s.outputs, *s.first("d"), *s.first("l"), *s.first("e"))
	a := s.lay(t)
	require.Empty(t, a.off())
	require.Equal(t, 2, a.repeats)
	require.Equal(t, 7, a.events.storedTwice)
	require.Equal(t, 7, a.events.arrivedTwice)
}

// An auditor who finds nothing wrong with these finds nothing wrong with anything.
func TestWhatIsOffIsFound(t *testing.T) {
	drop := func(topic string) func(*scene) {
		return func(s *scene) {
			i := slices.IndexFunc(s.outputs, func(o pipeline.Output) bool { return o.Topic == topic })
			s.outputs = slices.Delete(s.outputs, i, i+1)
		}
	}
	replace := func(topic, old, other string) func(*scene) {
		return func(s *scene) {
			o := s.first(topic)
			o.Value = bytes.Replace(o.Value, []byte(old), []byte(other), 1)
		}
	}
	for name, c := range map[string]struct {
		change func(*scene)
		want   map[string]int
	}{
		"lost decision":      {drop("d"), map[string]int{"missing": 1}},
		"lost dead letter":   {drop("l"), map[string]int{"missing": 1}},
		"lost events":        {drop("e"), map[string]int{"unmade": 7}},
		"altered decision":   {replace("d", `"enabled":`, `"enabled" :`), map[string]int{"altered": 1, "missing": 1}},
		"altered letter":     {func(s *scene) { s.first("l").Value[0] ^= 1 }, map[string]int{"altered": 1, "missing": 1}},
		"altered key":        {func(s *scene) { s.first("d").Key = []byte("nobody") }, map[string]int{"altered": 1, "missing": 1}},
		"null for empty":     {func(s *scene) { s.first("l").Key = nil }, map[string]int{"altered": 1, "missing": 1}},
		"altered header":     {func(s *scene) { s.first("d").Headers[0].Value[0] ^= 1 }, map[string]int{"altered": 1, "missing": 1}},
		"altered time":       {func(s *scene) { s.first("d").Time = s.first("d").Time.Add(time.Millisecond) }, map[string]int{"altered": 1, "missing": 1}},
		"decision of nobody": {replace("d", `"partition":0,"offset":`, `"partition":0,"offset":9999`), map[string]int{"foreign": 1, "missing": 1}},
		"altered event":      {replace("e", `"uuid":"`, `"uuid":"x`), map[string]int{"unmade": 1, "strange": 1}},
		"altered ODP event":  {replace("o", `"idempotence_id":"`, `"idempotence_id":"x`), map[string]int{"ODP unmade": 1, "ODP strange": 1}},
		"altered repeat": {func(s *scene) {
			again := *s.first("d")
			again.Value = bytes.Replace(again.Value, []byte(`"segments":`), []byte(`"segments" :`), 1)
			s.outputs = append(s.outputs, again)
		}, map[string]int{"altered": 1}},
		"letter of a deliverer": {func(s *scene) {
			letter := *s.first("l")
			letter.Headers = slices.Clone(letter.Headers)
			i := slices.IndexFunc(letter.Headers, func(h pipeline.Header) bool { return h.Key == schemas.HeaderDLTopic })
			letter.Headers[i].Value = []byte("e")
			s.outputs = append(s.outputs, letter)
		}, map[string]int{"refused": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			c.change(s)
			require.Equal(t, c.want, s.lay(t).off())
		})
	}
}

func TestUndeliveredEventsAreFound(t *testing.T) {
	s := newScene(t)
	require.NoError(t, s.producer.Produce(t.Context(), s.outputs))
	body := s.first("e").Value
	s.auditor.recorded(&emulator.Attempt{Route: emulator.RouteEvents, Body: body})
	require.Empty(t, s.auditor.events.arrived, "it was answered with an error")
	s.auditor.recorded(&emulator.Attempt{Route: emulator.RouteEvents, Accepted: true, Body: body})
	require.Len(t, s.auditor.events.arrived, 7)
	require.NoError(t, s.auditor.audit(t.Context()))
	a := &s.auditor.account
	require.Equal(t, len(a.events.want)-7, a.events.undelivered)
	require.Equal(t, len(a.odpEvents.want), a.odpEvents.undelivered)
}

func TestBackwardsIsSeen(t *testing.T) {
	w := newWatcher(nil, 2, []watched{{"g", "t"}})
	w.see(0, []int64{5, 0}, nil)
	w.see(0, []int64{5, 1}, nil)
	require.Empty(t, w.backwards)
	w.see(0, nil, errors.New("away"))
	w.see(0, []int64{4, 2}, nil)
	require.Equal(t, []string{"g: partition 0 from 5 to 4"}, w.backwards)
	require.Equal(t, int64(7), w.committed(0))
}

func TestLacks(t *testing.T) {
	require.Equal(t, 0, lacks(nil, heap{1}))
	require.Equal(t, 2, lacks(heap{1, 2, 9}, heap{2}))
	require.Equal(t, 1, lacks(heap{1, 2}, heap{0, 2, 3}))
	h := heap{3, 1, 3, 3}
	require.Equal(t, 2, h.settle())
	require.Equal(t, heap{1, 3}, h)
}

func TestNumber(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000"} {
		require.Equal(t, want, number(n))
	}
}
