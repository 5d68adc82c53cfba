package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"sortition/decision"
	"sortition/schemas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is a producer that keeps copies of what it stores, and refuses what it is
// told to refuse.
type store struct {
	kept   []Output
	calls  int
	refuse func(call int, o *Output) *FailedOutput
}

func (s *store) Produce(_ context.Context, outputs []Output) error {
	s.calls++
	failed := &ProduceError{}
	for i := range outputs {
		o := &outputs[i]
		if s.refuse != nil {
			if f := s.refuse(s.calls, o); f != nil {
				f.Index = i
				failed.Failed = append(failed.Failed, *f)
				continue
			}
		}
		kept := Output{Topic: o.Topic, Key: bytes.Clone(o.Key), Value: bytes.Clone(o.Value), Time: o.Time}
		for _, h := range o.Headers {
			kept.Headers = append(kept.Headers, Header{Key: h.Key, Value: bytes.Clone(h.Value)})
		}
		s.kept = append(s.kept, kept)
	}
	if len(failed.Failed) > 0 {
		return failed
	}
	return nil
}

func (s *store) in(topic string) []Output {
	var all []Output
	for _, o := range s.kept {
		if o.Topic == topic {
			all = append(all, o)
		}
	}
	return all
}

func header(o *Output, key string) string {
	for i := len(o.Headers) - 1; i >= 0; i-- {
		if o.Headers[i].Key == key {
			return string(o.Headers[i].Value)
		}
	}
	return ""
}

func messageOf(b *Batch) *message.Message {
	msg := message.NewMessage("m", nil)
	msg.SetContext(WithBatch(context.Background(), b))
	return msg
}

func newTestAssign(t testing.TB, to Producer, change ...func(*Config)) *Assign {
	t.Helper()
	cfg := testConfig()
	for _, c := range change {
		c(&cfg)
	}
	p, err := NewAssign(cfg, AtLeastOnce(to), exampleSnapshot(t), nil)
	require.NoError(t, err)
	return p
}

func records(values ...string) *Batch {
	b := &Batch{Topic: "activities", Partition: 2}
	for i, v := range values {
		b.Records = append(b.Records, Record{
			Key: fmt.Appendf(nil, "key%d", i), Value: []byte(v), Offset: 100 + int64(i), Time: time.UnixMilli(1_790_000_000_000 + int64(i)).UTC(),
		})
	}
	return b
}

func TestOutputsCarryKeysHeadersAndTimes(t *testing.T) {
	to := &store{}
	p := newTestAssign(t, to)
	b := records(`{"user_id":"u-1","timestamp":1790000111000,"events":[{"key":"purchase","tags":{"revenue":1}}]}`)
	b.Records[0].Headers = []Header{{Key: "traceparent", Value: []byte("00-aa-bb-01")}, {Key: "tracestate", Value: []byte("x=y")}, {Key: "secret", Value: []byte("s")}}
	require.NoError(t, p.Handle(messageOf(b)))

	decisions := to.in("decisions")
	require.Len(t, decisions, 1)
	d := &decisions[0]
	var record struct {
		ID, UserID, Revision string
		Timestamp            int64
		Source               schemas.Source
	}
	require.NoError(t, json.Unmarshal(d.Value, &record))
	assert.Equal(t, "u-1", string(d.Key))
	assert.Equal(t, b.Records[0].Time, d.Time, "the record's time; the activity's is in the value")
	assert.Equal(t, int64(1790000111000), record.Timestamp)
	assert.Equal(t, schemas.Source{Topic: "activities", Partition: 2, Offset: 100}, record.Source)
	var names []string
	for _, h := range d.Headers {
		names = append(names, h.Key)
	}
	assert.Equal(t, []string{"sortition-id", "sortition-revision", "traceparent", "tracestate"}, names)
	assert.Equal(t, record.ID, header(d, "sortition-id"))
	assert.Equal(t, record.Revision, header(d, "sortition-revision"))

	events := to.in("events")
	require.NotEmpty(t, events)
	total := 0
	for i := range events {
		e := &events[i]
		assert.Nil(t, e.Key)
		assert.Equal(t, "https://logx.optimizely.com/v1/events", header(e, "sortition-endpoint"))
		assert.Equal(t, record.Revision, header(e, "sortition-revision"))
		visitors := visitorsOf(t, e.Value)
		assert.LessOrEqual(t, len(visitors), 10)
		assert.Contains(t, visitors, header(e, "sortition-id"), "the id of its first event")
		total += len(visitors)
	}
	assert.EqualValues(t, p.Stats().Visitors, total)
	assert.Empty(t, to.in("dead-letters"))
}

// visitorsOf returns the visitors of an event body by the uuid of their event.
func visitorsOf(t testing.TB, body []byte) map[string]string {
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

// Every reject code a record can have, between good neighbours.
func TestBadRecordDoesNotStopItsNeighbours(t *testing.T) {
	bad := []struct {
		code  schemas.RejectCode
		value []byte
	}{
		{schemas.RejectNotJSON, []byte(`{"user_id":"b`)},
		{schemas.RejectNotJSON, nil}, // a tombstone
		{schemas.RejectNotUTF8, []byte("{\"user_id\":\"\xff\"}")},
		{schemas.RejectDuplicateKey, []byte(`{"user_id":"b","user_id":"c"}`)},
		{schemas.RejectMissingUserID, []byte(`{}`)},
		{schemas.RejectMissingField, []byte(`{"user_id":"b","events":[{}]}`)},
		{schemas.RejectWrongType, []byte(`{"user_id":1}`)},
		{schemas.RejectOutOfRange, []byte(`{"user_id":"b","timestamp":99999999999999999}`)},
		{schemas.RejectTooDeep, []byte(`{"user_id":"b","context":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`)},
	}
	b := records(`{"user_id":"first"}`)
	for i, x := range bad {
		r := Record{Key: fmt.Appendf(nil, "k%d", i), Value: x.value, Offset: 200 + 2*int64(i), Time: time.UnixMilli(1_790_000_000_000).UTC(),
			Headers: []Header{{Key: "h", Value: []byte("1")}, {Key: "h", Value: []byte("2")}, {Key: "n", Value: nil}}}
		good := Record{Value: fmt.Appendf(nil, `{"user_id":"n%d"}`, i), Offset: 201 + 2*int64(i), Time: r.Time}
		b.Records = append(b.Records, r, good)
	}
	b.Records[1].Key = nil
	to := &store{}
	p := newTestAssign(t, to)
	require.NoError(t, p.Handle(messageOf(b)))

	require.Len(t, to.in("decisions"), 1+len(bad))
	letters := to.in("dead-letters")
	require.Len(t, letters, len(bad))
	for i, x := range bad {
		l, in := &letters[i], &b.Records[1+2*i]
		assert.Equal(t, in.Key, l.Key, x.code)
		assert.Equal(t, in.Value, l.Value, x.code)
		assert.Equal(t, in.Headers, l.Headers[:len(in.Headers)], "%s: its own headers come first", x.code)
		letter, err := schemas.ParseDeadLetter(func(yield func(string, []byte) bool) {
			for _, h := range l.Headers {
				if !yield(h.Key, h.Value) {
					return
				}
			}
		})
		require.NoError(t, err)
		assert.Equal(t, string(x.code), letter.Reason)
		letter.Detail = ""
		assert.Equal(t, schemas.DeadLetter{Reason: string(x.code), Topic: "activities", Partition: 2, Offset: in.Offset, Attempts: 1, Time: in.Time}, letter)
	}
	s := p.Stats()
	assert.EqualValues(t, len(b.Records), s.Read)
	assert.Equal(t, s.Read, s.Decided+s.Rejected())
	assert.EqualValues(t, 2, s.DeadLetters[schemas.RejectNotJSON])
}

func TestRedrivenDeadLetterCountsItsAttempts(t *testing.T) {
	b := records(`{}`)
	b.Records[0].Headers = []Header{{Key: schemas.HeaderDLAttempts, Value: []byte("3")}}
	to := &store{}
	require.NoError(t, newTestAssign(t, to).Handle(messageOf(b)))
	assert.Equal(t, "4", header(&to.in("dead-letters")[0], schemas.HeaderDLAttempts))
}

func TestSameInputGivesSameBytes(t *testing.T) {
	for _, layout := range []Layout{Nested, FlatRow} {
		first, second := &store{}, &store{}
		for _, to := range []*store{first, second} {
			p := newTestAssign(t, to, func(c *Config) { c.Layout = layout })
			require.NoError(t, p.Handle(messageOf(sampleBatch(t, 700, 50))))
		}
		require.Equal(t, first.kept, second.kept)
		ids := map[string]bool{}
		for _, o := range append(first.in("decisions"), first.in("events")...) {
			id := header(&o, schemas.HeaderID)
			require.NotEmpty(t, id)
			require.False(t, ids[id], "ids are unique")
			ids[id] = true
		}
	}
}

// A worker is used again: what the first batch left behind must not show.
func TestWorkersForgetTheLastBatch(t *testing.T) {
	fresh, used := &store{}, &store{}
	require.NoError(t, newTestAssign(t, fresh).Handle(messageOf(sampleBatch(t, 50, 100))))
	p := newTestAssign(t, used)
	for range 3 {
		used.kept = nil
		require.NoError(t, p.Handle(messageOf(sampleBatch(t, 50, 100))))
		require.NoError(t, p.Handle(messageOf(records(`{"user_id":"other"}`, `nonsense`))))
	}
	require.Equal(t, fresh.kept, used.kept[:len(fresh.kept)])
}

// The same activities give the same decisions and events, however fetches cut
// them into batches.
// A worker's buffers are megabytes: growing them anew after each garbage collection
// would bring on the next one.
func TestWorkersOutliveAGarbageCollection(t *testing.T) {
	h := newTestAssign(t, &store{})
	require.NoError(t, h.Handle(messageOf(records(`{"user_id":"u"}`))))
	runtime.GC()
	runtime.GC()
	w := h.spare.take()
	require.NotNil(t, w)
	require.Greater(t, cap(w.out.bytes), 100)
	require.Nil(t, h.spare.take())
	for range 1000 { // and no more are kept than can be at work
		h.spare.giveBack(h.newWorker())
	}
	require.Len(t, h.spare.idle, 2*runtime.GOMAXPROCS(0))
}

func TestBatchBoundariesDoNotShow(t *testing.T) {
	whole, pieces := &store{}, &store{}
	b := sampleBatch(t, 500, 20)
	require.NoError(t, newTestAssign(t, whole).Handle(messageOf(b)))
	p := newTestAssign(t, pieces)
	for piece := range slices.Chunk(b.Records, 7) {
		require.NoError(t, p.Handle(messageOf(&Batch{Topic: b.Topic, Partition: b.Partition, Records: piece})))
	}
	for _, topic := range []string{"decisions", "dead-letters"} {
		require.Equal(t, whole.in(topic), pieces.in(topic))
	}
	all := func(s *store) map[string]string {
		visitors := map[string]string{}
		for _, o := range s.in("events") {
			maps.Copy(visitors, visitorsOf(t, o.Value))
		}
		return visitors
	}
	require.NotEmpty(t, all(whole))
	require.Equal(t, all(whole), all(pieces))
}

// profiles panics for some users.
type profiles struct{ panics func(user string) bool }

func (p profiles) Lookup(_ context.Context, user string) (*decision.Profile, error) {
	if p.panics(user) {
		panic("no profile for " + user)
	}
	return nil, nil
}

func (profiles) Save(context.Context, *decision.Profile) error { return nil }

func TestPanicIsTheDeadLetterOfItsRecordAlone(t *testing.T) {
	b := records(`{"user_id":"a"}`, `{"user_id":"boom-1"}`, `{"user_id":"b"}`, `{"user_id":"boom-2"}`, `nonsense`, `{"user_id":"c"}`)
	to, calm := &store{}, &store{}
	withProfiles := func(panics func(string) bool) func(*Config) {
		return func(c *Config) { c.Env = &decision.Env{Profiles: profiles{panics}} }
	}
	p := newTestAssign(t, to, withProfiles(func(user string) bool { return strings.HasPrefix(user, "boom") }))
	require.NoError(t, p.Handle(messageOf(b)))
	require.Len(t, to.in("decisions"), 3)
	letters := to.in("dead-letters")
	require.Len(t, letters, 3)
	for i, want := range []schemas.RejectCode{ReasonPanic, ReasonPanic, schemas.RejectNotJSON} {
		assert.Equal(t, string(want), header(&letters[i], schemas.HeaderDLReason))
		assert.NotContains(t, header(&letters[i], schemas.HeaderDLDetail), "boom", "no user ids")
	}
	assert.Equal(t, b.Records[1].Value, letters[0].Value)

	// The neighbours' outputs are those they would have had anyway.
	require.NoError(t, newTestAssign(t, calm, withProfiles(func(string) bool { return false })).Handle(
		messageOf(&Batch{Topic: b.Topic, Partition: b.Partition, Records: []Record{b.Records[0], b.Records[2], b.Records[5]}})))
	require.Equal(t, calm.in("decisions"), to.in("decisions"))
	require.Equal(t, calm.in("events"), to.in("events"))
	s := p.Stats()
	assert.EqualValues(t, 3, s.Decided)
	assert.EqualValues(t, 2, s.DeadLetters[ReasonPanic])
}

func TestBatchIsDecidedWithOneDatafile(t *testing.T) {
	other, err := decision.Compile(bytes.Replace(exampleSnapshot(t).Snapshot().Project.Datafile(), []byte(`"revision": "42"`), []byte(`"revision": "43"`), 1))
	require.NoError(t, err)
	require.Equal(t, "43", other.Revision())
	to, latest := &store{}, exampleSnapshot(t)
	cfg := testConfig()
	swap := profiles{func(user string) bool {
		if user == "swap" {
			latest.Swap(NewSnapshot(other))
		}
		return false
	}}
	cfg.Env = &decision.Env{Profiles: swap}
	p, err := NewAssign(cfg, AtLeastOnce(to), latest, nil)
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, p.Handle(messageOf(records(`{"user_id":"a"}`, `{"user_id":"swap"}`, `{"user_id":"b"}`))))
	}
	var revisions []string
	for _, o := range to.in("decisions") {
		revisions = append(revisions, header(&o, schemas.HeaderRevision))
	}
	require.Equal(t, []string{"42", "42", "42", "43", "43", "43"}, revisions)
}

// A message of a Subscriber that knows nothing of batches.
func TestPlainMessageIsABatchOfOne(t *testing.T) {
	to := &store{}
	p := newTestAssign(t, to)
	for _, id := range []string{"uuid-1", "uuid-2", "uuid-1"} {
		msg := message.NewMessage(id, []byte(`{"user_id":"u","timestamp":5}`))
		msg.Metadata.Set("traceparent", "00-1")
		require.NoError(t, p.Handle(msg))
	}
	d := to.in("decisions")
	require.Len(t, d, 3)
	assert.Equal(t, d[0], d[2])
	assert.NotEqual(t, header(&d[0], schemas.HeaderID), header(&d[1], schemas.HeaderID))
	assert.Equal(t, "00-1", header(&d[0], "traceparent"))
	assert.Contains(t, string(d[0].Value), `"activity_id":"uuid-1"`)
}

func TestFlatLayoutHasARecordPerFlag(t *testing.T) {
	to := &store{}
	p := newTestAssign(t, to, func(c *Config) { c.Layout = FlatRow })
	require.NoError(t, p.Handle(messageOf(records(`{"user_id":"u","decide":["dark_mode","free_shipping"]}`, `{"user_id":"v","decide":[]}`))))
	d := to.in("decisions")
	require.Len(t, d, 2)
	assert.Contains(t, string(d[0].Value), `"flag_key":"dark_mode"`)
	assert.NotEqual(t, header(&d[0], schemas.HeaderID), header(&d[1], schemas.HeaderID))
	assert.EqualValues(t, 2, p.Stats().Decided)
	assert.EqualValues(t, 2, p.Stats().Records)
}

func TestAnActivityCostsFewAllocations(t *testing.T) {
	p := newTestAssign(t, &nowhere{})
	msg := messageOf(sampleBatch(t, 1000, 0))
	require.NoError(t, p.Handle(msg))
	perBatch := testing.AllocsPerRun(5, func() {
		if err := p.Handle(msg); err != nil {
			t.Error(err)
		}
	})
	assert.Less(t, perBatch/1000, 2.5, "allocations per activity, nine decided flags with their events included")
}

func TestValidateReportsAllFaults(t *testing.T) {
	err := Config{
		Settings: Settings{Layout: CSVRow, Decide: []string{""}}, Topics: Topics{Activities: "a", Decisions: "a"},
		EventVisitors: 1001, EventBytes: 1,
	}.Validate()
	for _, want := range []string{
		"Stream", "Layout", "Client", "Decide", "Topics.Activities and Topics.Decisions", "Topics.Events is required",
		"Topics.DeadLetters is required", "EventVisitors", "EventBytes",
	} {
		assert.ErrorContains(t, err, want)
	}
	cfg := testConfig()
	assert.NoError(t, cfg.Validate())
}

var errTransport = errors.New("broker away")
