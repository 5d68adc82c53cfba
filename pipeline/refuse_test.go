package pipeline

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/schemas"
)

var errTooLarge = errors.New("message size too large")

// tooLarge refuses outputs of a topic above a size, for good.
func tooLarge(topic string, size int) func(int, *Output) *FailedOutput {
	return func(_ int, o *Output) *FailedOutput {
		if o.Topic == topic && len(o.Value) > size {
			return &FailedOutput{Permanent: true, Err: errTooLarge}
		}
		return nil
	}
}

func TestRefusedDecisionBecomesADeadLetter(t *testing.T) {
	big := `{"user_id":"big","context":"` + strings.Repeat("x", 50_000) + `"}`
	b := records(`{"user_id":"a"}`, big, `{"user_id":"b"}`, `{}`)
	to := &store{refuse: tooLarge("decisions", 40_000)}
	p := newTestAssign(t, to)
	require.NoError(t, p.Handle(messageOf(b)))
	require.Len(t, to.in("decisions"), 2, "the neighbours are stored once")
	letters := to.in("dead-letters")
	require.Len(t, letters, 2)
	assert.Equal(t, string(ReasonOutputRefused), header(&letters[1], schemas.HeaderDLReason))
	assert.Contains(t, header(&letters[1], schemas.HeaderDLDetail), "too large")
	assert.Equal(t, big, string(letters[1].Value))
	s := p.Stats()
	assert.EqualValues(t, 4, s.Read)
	assert.EqualValues(t, 2, s.Decided)
	assert.EqualValues(t, 2, s.Records)
	assert.EqualValues(t, 2, s.Rejected())
}

// Of an activity with an ODP event that can't be sent the other dead letter is told, too:
// the first one says that all else is stored. In the flat layout an activity has a record
// for each flag.
func TestRefusedDecisionBesideAnODPEvent(t *testing.T) {
	big := `{"user_id":"big","odp_events":[{"action":"bad"}],"context":"` + strings.Repeat("x", 50_000) + `"}`
	for _, layout := range []Layout{Nested, FlatRow} {
		to := &store{refuse: tooLarge("decisions", 40_000)}
		p := newTestAssign(t, to, withODP, func(c *Config) { c.Settings.Layout = layout })
		require.NoError(t, p.Handle(messageOf(records(`{"user_id":"a"}`, big))))
		letters := to.in("dead-letters")
		require.Len(t, letters, 2, layout)
		for i, want := range []schemas.RejectCode{ReasonODPEvent, ReasonOutputRefused} {
			assert.Equal(t, string(want), header(&letters[i], schemas.HeaderDLReason))
			assert.Equal(t, big, string(letters[i].Value))
		}
		s := p.Stats()
		assert.EqualValues(t, 2, s.Read)
		assert.EqualValues(t, 1, s.Decided)
		assert.Equal(t, map[schemas.RejectCode]uint64{ReasonODPEvent: 1, ReasonOutputRefused: 1}, s.DeadLetters)
	}
}

// One event too many for the topic: its batch is taken apart, so that only its own
// activity suffers.
func TestRefusedEventBatchIsTakenApart(t *testing.T) {
	big := `{"user_id":"big","decide":[],"events":[{"key":"purchase","tags":{"note":"` + strings.Repeat("x", 50_000) + `"}}]}`
	small := `{"user_id":"a","decide":[],"events":[{"key":"purchase"},{"key":"signup"}]}`
	b := records(small, small, big, small, small)
	whole, to := &store{}, &store{refuse: tooLarge("events", 20_000)}
	require.NoError(t, newTestAssign(t, whole).Handle(messageOf(b)))
	p := newTestAssign(t, to)
	require.NoError(t, p.Handle(messageOf(b)))

	want := map[string]string{}
	for _, o := range whole.in("events") {
		for id, v := range visitorsOf(t, o.Value) {
			if !strings.Contains(v, "xxxx") {
				want[id] = v
			}
		}
	}
	got := map[string]string{}
	for _, o := range to.in("events") {
		visitors := visitorsOf(t, o.Value)
		require.Len(t, visitors, 1)
		for id, v := range visitors {
			got[id] = v
			assert.Equal(t, id, header(&o, schemas.HeaderID))
		}
	}
	require.Len(t, want, 8)
	require.Equal(t, want, got)
	letters := to.in("dead-letters")
	require.Len(t, letters, 1)
	assert.Equal(t, big, string(letters[0].Value))
	assert.Len(t, to.in("decisions"), 5, "what could be stored is stored")
	s := p.Stats()
	assert.EqualValues(t, 8, s.Visitors)
	assert.EqualValues(t, 8, s.EventBodies)
	assert.EqualValues(t, 1, s.DeadLetters[ReasonOutputRefused])
}

func TestRefusedDeadLetterHoldsTheBatch(t *testing.T) {
	to := &store{refuse: tooLarge("dead-letters", 3)}
	p := newTestAssign(t, to)
	err := p.Handle(messageOf(records(`{"user_id":"a"}`, `nonsense`)))
	require.ErrorIs(t, err, errTooLarge)
	require.ErrorContains(t, err, "dead-letters")
	assert.NotContains(t, err.Error(), "nonsense")
	assert.Zero(t, p.Stats().Read)
	assert.EqualValues(t, 1, p.Stats().Repeats)
}

func TestTransientFailureIsNoDeadLetter(t *testing.T) {
	to := &store{refuse: func(call int, o *Output) *FailedOutput {
		switch {
		case call == 1 && o.Topic == "events":
			return &FailedOutput{Err: errTransport}
		case call == 1 && string(o.Key) == "b":
			return &FailedOutput{Permanent: true, Err: errTooLarge}
		}
		return nil
	}}
	p := newTestAssign(t, to)
	b := records(`{"user_id":"a"}`, `{"user_id":"b"}`)
	require.ErrorIs(t, p.Handle(messageOf(b)), errTransport)
	assert.Empty(t, to.in("dead-letters"))
	assert.Equal(t, Stats{Repeats: 1, DeadLetters: map[schemas.RejectCode]uint64{}}, p.Stats())
	require.NoError(t, p.Handle(messageOf(b)))
	assert.EqualValues(t, 2, p.Stats().Decided)
}

// unit counts what the handler does with it.
type unit struct {
	*store
	commits, aborts int
	commitError     error
}

func (u *unit) Begin(context.Context, *Batch) (UnitOfWork, error) { return u, nil }
func (u *unit) Commit(context.Context) error                      { u.commits++; return u.commitError }
func (u *unit) Abort(context.Context)                             { u.aborts++ }

// What a Kafka transaction will rely on.
func TestUnitOfWorkIsCommittedOrAborted(t *testing.T) {
	u := &unit{store: &store{}}
	p, err := NewAssign(testConfig(), u, exampleSnapshot(t), nil)
	require.NoError(t, err)
	b := records(`{"user_id":"a"}`)
	require.NoError(t, p.Handle(messageOf(b)))
	assert.Equal(t, [2]int{1, 0}, [2]int{u.commits, u.aborts})

	u.refuse = func(int, *Output) *FailedOutput { return &FailedOutput{Err: errTransport} }
	require.Error(t, p.Handle(messageOf(b)))
	assert.Equal(t, [2]int{1, 1}, [2]int{u.commits, u.aborts})

	u.refuse, u.commitError = nil, errTransport
	require.ErrorIs(t, p.Handle(messageOf(b)), errTransport)
	assert.Equal(t, [2]int{2, 2}, [2]int{u.commits, u.aborts})
	assert.EqualValues(t, 1, p.Stats().Read)
}
