package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/decision"
	"sortition/schemas"
)

// Repeats are left out once the first was stored, and not before: what a failed batch
// has shown was not seen.
func TestRepeatedImpressionsAreLeftOut(t *testing.T) {
	dedup, err := NewDedup(time.Hour, 10_000)
	require.NoError(t, err)
	to, all := &store{}, &store{}
	activity := `{"user_id":"u","decide":["checkout_flow"],"events":[{"key":"purchase"}]}`
	b := records(activity, `{"user_id":"v","decide":["checkout_flow"]}`, activity)
	require.NoError(t, newTestAssign(t, all).Handle(messageOf(b)))
	uuids := map[string]string{}
	for _, o := range all.in("events") {
		for id, v := range visitorsOf(t, o.Value) {
			uuids[id] = v
		}
	}
	require.Len(t, uuids, 5)

	p := newTestAssign(t, to, func(c *Config) { c.Dedup = dedup })
	to.refuse = func(int, *Output) *FailedOutput { return &FailedOutput{Err: errTransport} }
	require.Error(t, p.Handle(messageOf(b)))
	assert.Zero(t, dedup.Len())
	to.refuse = nil
	require.NoError(t, p.Handle(messageOf(b)))
	assert.EqualValues(t, 1, p.Stats().Suppressed, "the repeat within the batch")
	sent := map[string]string{}
	for _, o := range to.in("events") {
		for id, v := range visitorsOf(t, o.Value) {
			sent[id] = v
			assert.Equal(t, uuids[id], v, "what is sent is what would have been sent anyway")
		}
	}
	assert.Len(t, sent, 4)
	require.NoError(t, p.Handle(messageOf(b)))
	assert.EqualValues(t, 4, p.Stats().Suppressed)
	assert.Len(t, to.in("decisions"), 6, "decision records are never left out")
}

// profileStore counts what it is asked, and fails when told to.
type profileStore struct {
	kept                  map[string]*decision.Profile
	lookups, saves        int
	lookupError, saveFail error
}

func (s *profileStore) LookupMany(_ context.Context, ids []string) ([]*decision.Profile, error) {
	s.lookups++
	out := make([]*decision.Profile, len(ids))
	for i, id := range ids {
		out[i] = s.kept[id]
	}
	return out, s.lookupError
}

func (s *profileStore) SaveMany(_ context.Context, profiles []*decision.Profile) error {
	s.saves++
	if s.saveFail != nil {
		return s.saveFail
	}
	for _, p := range profiles {
		s.kept[p.UserID] = p
	}
	return nil
}

// One lookup before and one save after, both for the whole batch; a batch that isn't
// stored changes no profile, and one whose profiles can't be kept isn't acked.
func TestProfilesOfABatch(t *testing.T) {
	kept := &profileStore{kept: map[string]*decision.Profile{}}
	to := &store{}
	p := newTestAssign(t, to, func(c *Config) { c.Profiles = NewProfiles(kept, ProfilesHold) })
	var values []string
	for i := range 50 {
		values = append(values, fmt.Sprintf(`{"user_id":"u%d","attributes":{"country":"GB","plan":"free"}}`, i%20))
	}
	b := records(append(values, `nonsense`)...)

	to.refuse = func(int, *Output) *FailedOutput { return &FailedOutput{Err: errTransport} }
	require.Error(t, p.Handle(messageOf(b)))
	assert.Equal(t, [2]int{1, 0}, [2]int{kept.lookups, kept.saves})

	to.refuse, kept.saveFail = nil, errors.New("store is away")
	require.ErrorIs(t, p.Handle(messageOf(b)), kept.saveFail)
	assert.Equal(t, [2]int{2, 1}, [2]int{kept.lookups, kept.saves})

	kept.saveFail = nil
	require.NoError(t, p.Handle(messageOf(b)))
	assert.Equal(t, [2]int{3, 2}, [2]int{kept.lookups, kept.saves})
	require.NotEmpty(t, kept.kept)
	for id, profile := range kept.kept {
		assert.Equal(t, id, profile.UserID)
		assert.True(t, strings.HasPrefix(id, "u"))
	}

	require.NoError(t, p.Handle(messageOf(b)))
	assert.Equal(t, [2]int{4, 2}, [2]int{kept.lookups, kept.saves}, "nothing has changed")

	kept.lookupError = errors.New("store is away")
	require.ErrorIs(t, p.Handle(messageOf(b)), kept.lookupError)
	p = newTestAssign(t, to, func(c *Config) { c.Profiles = NewProfiles(kept, ProfilesIgnore) })
	require.NoError(t, p.Handle(messageOf(b)))
	assert.EqualValues(t, 50, p.Stats().Decided)
}

// plainODP writes an event as its action, and finds some invalid.
type plainODP struct{}

func (plainODP) AppendActivityEvent(dst []byte, a *schemas.Activity, e *schemas.ODPEvent, id string) ([]byte, error) {
	if strings.HasPrefix(e.Action, "bad") {
		return dst, errors.New("not like this")
	}
	return fmt.Appendf(dst, `{"action":%q,"user":%q,"id":%q}`, e.Action, a.UserID, id), nil
}

func TestODPEventsGoToTheirTopic(t *testing.T) {
	to := &store{}
	p := newTestAssign(t, to, withODP)
	var many []string
	for i := range 12 {
		many = append(many, fmt.Sprintf(`{"action":"a%d"}`, i))
	}
	b := records(`{"user_id":"u","decide":[],"odp_events":[`+strings.Join(many, ",")+`]}`,
		`{"user_id":"v","decide":[],"odp_events":[{"action":"bad"},{"action":"good"}]}`)
	require.NoError(t, p.Handle(messageOf(b)))
	bodies := to.in("odp-events")
	require.Len(t, bodies, 2)
	assert.Equal(t, 10, strings.Count(string(bodies[0].Value), `"action"`))
	assert.Equal(t, 3, strings.Count(string(bodies[1].Value), `"action"`))
	assert.Nil(t, bodies[0].Key)
	assert.NotEmpty(t, header(&bodies[0], schemas.HeaderID))
	assert.Contains(t, string(bodies[0].Value), header(&bodies[0], schemas.HeaderID))
	assert.Equal(t, "42", header(&bodies[0], schemas.HeaderRevision))
	assert.Equal(t, b.Records[0].Time, bodies[1].Time)
	letters := to.in("dead-letters")
	require.Len(t, letters, 1, "an event that can't be sent is told")
	assert.Equal(t, string(ReasonODPEvent), header(&letters[0], schemas.HeaderDLReason))
	assert.Len(t, to.in("decisions"), 2, "and costs nothing else")
	s := p.Stats()
	assert.Equal(t, [4]uint64{13, 2, 2, 1}, [4]uint64{s.ODPEvents, s.ODPBodies, s.Decided, s.Rejected()})

	again := &store{}
	require.NoError(t, newTestAssign(t, again, withODP).Handle(messageOf(b)))
	require.Equal(t, to.kept, again.kept, "the same bytes")

	// A body too large for the topic is taken apart; an event too large is its activity's
	// dead letter.
	to = &store{refuse: tooLarge("odp-events", 300)}
	p = newTestAssign(t, to, withODP)
	require.NoError(t, p.Handle(messageOf(records(string(b.Records[0].Value), `{"user_id":"`+strings.Repeat("w", 400)+`","decide":[],"odp_events":[{"action":"x"}]}`))))
	assert.Len(t, to.in("odp-events"), 12)
	letters = to.in("dead-letters")
	require.Len(t, letters, 1)
	assert.Equal(t, string(ReasonOutputRefused), header(&letters[0], schemas.HeaderDLReason))
	assert.Equal(t, [2]uint64{12, 12}, [2]uint64{p.Stats().ODPEvents, p.Stats().ODPBodies})

	left := newTestAssign(t, &store{})
	require.NoError(t, left.Handle(messageOf(b)))
	assert.EqualValues(t, 14, left.Stats().ODPLeftOut)
}

// A panic in the middle of a batch leaves nothing of it behind in what is remembered.
func TestPanicRewindsEverything(t *testing.T) {
	dedup, err := NewDedup(time.Hour, 10_000)
	require.NoError(t, err)
	kept := &profileStore{kept: map[string]*decision.Profile{}}
	to := &store{}
	p := newTestAssign(t, to, func(c *Config) {
		c.Dedup, c.Profiles = dedup, NewProfiles(kept, ProfilesHold)
		c.ODP, c.Topics.ODPEvents = panicky{}, "odp-events"
	})
	b := records(`{"user_id":"a","odp_events":[{"action":"fine"}]}`, `{"user_id":"b","odp_events":[{"action":"boom"}]}`, `{"user_id":"c"}`)
	require.NoError(t, p.Handle(messageOf(b)))
	letters := to.in("dead-letters")
	require.Len(t, letters, 1)
	assert.Equal(t, string(ReasonPanic), header(&letters[0], schemas.HeaderDLReason))
	assert.Len(t, to.in("decisions"), 2)
	assert.NotContains(t, kept.kept, "b")
	assert.Zero(t, p.Stats().Suppressed, "the second making of the batch isn't a repeat of the first")

	calm := &store{}
	require.NoError(t, newTestAssign(t, calm, func(c *Config) { c.ODP, c.Topics.ODPEvents = plainODP{}, "odp-events" }).Handle(
		messageOf(&Batch{Topic: b.Topic, Partition: b.Partition, Records: []Record{b.Records[0], b.Records[2]}})))
	for _, topic := range []string{"decisions", "events", "odp-events"} {
		require.Equal(t, calm.in(topic), to.in(topic), topic)
	}
}

type panicky struct{ plainODP }

func (p panicky) AppendActivityEvent(dst []byte, a *schemas.Activity, e *schemas.ODPEvent, id string) ([]byte, error) {
	if e.Action == "boom" {
		panic(a.UserID)
	}
	return p.plainODP.AppendActivityEvent(dst, a, e, id)
}

// withODP has ODP events taken to a topic of theirs.
func withODP(c *Config) { c.ODP, c.Topics.ODPEvents = plainODP{}, "odp-events" }
