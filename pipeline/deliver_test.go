package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/schemas"
)

// endpoint answers by what a record says.
type endpoint struct {
	answer func(r *Record) (Delivery, error)

	mu   sync.Mutex // guards seen
	seen []string
}

func (e *endpoint) Deliver(_ context.Context, r *Record) (Delivery, error) {
	e.mu.Lock()
	e.seen = append(e.seen, string(r.Value))
	e.mu.Unlock()
	return e.answer(r)
}

func accepted(*Record) (Delivery, error) { return Delivery{Accepted: 2}, nil }

func newTestDeliver(t testing.TB, to Endpoint, letters Producer) *Deliver {
	t.Helper()
	d, err := NewDeliver(DeliverConfig{Name: DeliverEvents, Topic: "events", DeadLetters: "dead-letters"}, to, AtLeastOnce(letters), nil)
	require.NoError(t, err)
	return d
}

func TestDeliverHandsOverEveryRecord(t *testing.T) {
	to, letters := &endpoint{answer: accepted}, &store{}
	d := newTestDeliver(t, to, letters)
	require.NoError(t, d.Handle(messageOf(records("a", "b", "c"))))
	assert.ElementsMatch(t, []string{"a", "b", "c"}, to.seen)
	assert.Empty(t, letters.kept)
	assert.Equal(t, DeliverStats{Batches: 1, Bodies: 3, Delivered: 6}, d.Stats())
}

// What is refused is a dead letter with its original bytes, headers and reason; a part
// of a record is one with the bytes of the part; the others go through.
func TestRefusedBodiesBecomeDeadLetters(t *testing.T) {
	to := &endpoint{answer: func(r *Record) (Delivery, error) {
		switch string(r.Value) {
		case "bad":
			return Delivery{Refused: []Refusal{{Value: r.Value, Events: 3, Detail: "status 400 Bad Request"}}}, nil
		case "half":
			return Delivery{Accepted: 1, Refused: []Refusal{{Value: []byte("lf"), Events: 1, Detail: "status 413"}}}, nil
		case "boom":
			panic("user u-17")
		}
		return Delivery{Accepted: 2}, nil
	}}
	letters := &store{}
	d := newTestDeliver(t, to, letters)
	b := records("good", "bad", "half", "boom", "good")
	b.Records[1].Headers = []Header{{Key: "sortition-id", Value: []byte("1")}}
	require.NoError(t, d.Handle(messageOf(b)))
	kept := letters.in("dead-letters")
	require.Len(t, kept, 3)
	for i, want := range []struct{ value, reason, detail string }{
		{"bad", "endpoint_refused", "status 400 Bad Request"}, {"lf", "endpoint_refused", "status 413"}, {"boom", "panic", panicDetail},
	} {
		assert.Equal(t, want.value, string(kept[i].Value))
		assert.Equal(t, want.reason, header(&kept[i], schemas.HeaderDLReason))
		assert.Equal(t, want.detail, header(&kept[i], schemas.HeaderDLDetail))
		assert.NotContains(t, fmt.Sprint(kept[i].Headers), "u-17")
	}
	assert.Equal(t, b.Records[1].Key, kept[0].Key)
	assert.Equal(t, "1", header(&kept[0], "sortition-id"))
	assert.Equal(t, DeliverStats{Batches: 1, Bodies: 5, Delivered: 5, Refused: 4, DeadLetters: 2, Panics: 1}, d.Stats())
}

// A record of which nothing can be said holds the batch: it comes again, whole.
func TestFailedDeliveryNacks(t *testing.T) {
	gone := errors.New("given up")
	to := &endpoint{answer: func(r *Record) (Delivery, error) {
		if string(r.Value) == "b" {
			return Delivery{}, gone
		}
		return Delivery{Refused: []Refusal{{Value: r.Value, Events: 1}}}, nil
	}}
	letters := &store{}
	d := newTestDeliver(t, to, letters)
	require.ErrorIs(t, d.Handle(messageOf(records("a", "b"))), gone)
	assert.Empty(t, letters.kept, "the dead letter of a comes with the batch that is acked")
	assert.Equal(t, DeliverStats{Repeats: 1}, d.Stats())
}

// A dead letter that can't be stored holds the batch, but nothing is delivered again.
func TestDeadLettersAwayPostNothingAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &endpoint{answer: func(r *Record) (Delivery, error) {
			if string(r.Value) == "bad" {
				return Delivery{Refused: []Refusal{{Value: r.Value, Events: 1}}}, nil
			}
			return Delivery{Accepted: 1}, nil
		}}
		var isBack atomic.Bool
		letters := &store{refuse: func(int, *Output) *FailedOutput {
			if isBack.Load() {
				return nil
			}
			return &FailedOutput{Err: errTransport}
		}}
		d := newTestDeliver(t, to, letters)
		done := make(chan error, 1)
		go func() { done <- d.Handle(messageOf(records("good", "bad"))) }()
		time.Sleep(time.Minute)
		assert.Empty(t, done)
		isBack.Store(true)
		require.NoError(t, <-done)
		assert.Len(t, to.seen, 2)
		assert.Len(t, letters.in("dead-letters"), 1)
		s := d.Stats()
		assert.Greater(t, s.Repeats, uint64(5))
		s.Repeats = 0
		assert.Equal(t, DeliverStats{Batches: 1, Bodies: 2, Delivered: 1, Refused: 1, DeadLetters: 1}, s)

		isBack.Store(false)
		ctx, cancel := context.WithCancel(t.Context())
		m := messageOf(nil)
		m.SetContext(WithBatch(ctx, records("bad")))
		go func() { done <- d.Handle(m) }()
		time.Sleep(time.Second)
		cancel()
		require.ErrorIs(t, <-done, errTransport)
	})
}

func TestDeliveriesAreBounded(t *testing.T) {
	var now, most atomic.Int64
	barrier := make(chan struct{})
	to := &endpoint{answer: func(*Record) (Delivery, error) {
		n := now.Add(1)
		defer now.Add(-1)
		for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
		}
		if n == 4 {
			close(barrier)
		}
		<-barrier // all four that may be are here at once
		return Delivery{}, nil
	}}
	d := newTestDeliver(t, to, &store{})
	require.NoError(t, d.Handle(messageOf(records(strings.Split("abcd", "")...))))
	assert.EqualValues(t, 4, most.Load())
	to.answer = func(*Record) (Delivery, error) {
		n := now.Add(1)
		defer now.Add(-1)
		assert.LessOrEqual(t, n, int64(4))
		return Delivery{}, nil
	}
	require.NoError(t, d.Handle(messageOf(records(strings.Split(strings.Repeat("x", 500), "")...))))
}

func TestDeliverConfigIsChecked(t *testing.T) {
	for _, c := range []DeliverConfig{
		{Name: "assign", Topic: "a", DeadLetters: "b"}, {Name: DeliverODP, DeadLetters: "b"}, {Name: DeliverODP, Topic: "a", DeadLetters: "a"},
		{Name: DeliverEvents, Topic: "a", DeadLetters: "b", Concurrency: 1001},
	} {
		_, err := NewDeliver(c, nil, nil, nil)
		assert.Error(t, err, "%+v", c)
	}
}
