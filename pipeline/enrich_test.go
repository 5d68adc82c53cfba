package pipeline

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/schemas"
)

// segmenter answers by the user asked for.
type segmenter struct {
	identifier string
	answer     func(user string) SegmentAnswer
	err        error
	asked      [][]string
}

func (s *segmenter) Identifier() string { return s.identifier }

func (s *segmenter) AppendSegments(_ context.Context, dst []SegmentAnswer, users []string) ([]SegmentAnswer, error) {
	s.asked = append(s.asked, users)
	for _, u := range users {
		dst = append(dst, s.answer(u))
	}
	return dst, s.err
}

func withSegments(s *segmenter) func(*Config) { return func(c *Config) { c.Segments = s } }

func known(segments ...string) SegmentAnswer { return SegmentAnswer{Segments: segments, IsKnown: true} }

// One call for the batch, for those only who don't bring their segments; what is found
// out, and what isn't, stands in the records.
func TestSegmentsAreFoundOutOnce(t *testing.T) {
	to, from := &store{}, &segmenter{identifier: "fs_user_id", answer: func(user string) SegmentAnswer {
		switch user {
		case "vip":
			return known("vip")
		case "old":
			return SegmentAnswer{Segments: []string{"b2"}, IsKnown: true, Code: "stale"}
		case "lost":
			return SegmentAnswer{Code: "network_error"}
		case "out":
			return SegmentAnswer{Code: "http_error", IsRefused: true}
		}
		return known()
	}}
	p := newTestAssign(t, to, withSegments(from))
	b := records(`{"user_id":"vip"}`, `{"user_id":"own","segments":["x"]}`, `nonsense`, `{"user_id":"none"}`, `{"user_id":"old"}`,
		`{"user_id":"lost"}`, `{"user_id":"out"}`, `{"user_id":"null","segments":null}`)
	require.NoError(t, p.Handle(messageOf(b)))
	require.Equal(t, [][]string{{"vip", "none", "old", "lost", "out", "null"}}, from.asked)
	var got []string
	for _, o := range to.in("decisions") {
		from := strings.Index(string(o.Value), `"segments"`)
		got = append(got, string(o.Value[from:strings.Index(string(o.Value), `,"decisions"`)]))
	}
	assert.Equal(t, []string{
		`"segments":["vip"]`, `"segments":["x"]`, `"segments":[]`, `"segments":["b2"],"segments_error":"stale"`,
		`"segments":null,"segments_error":"network_error"`, `"segments":[]`,
	}, got)
	letters := to.in("dead-letters")
	require.Len(t, letters, 2)
	assert.Equal(t, string(ReasonSegments), header(&letters[1], schemas.HeaderDLReason))
	assert.Equal(t, "http_error", header(&letters[1], schemas.HeaderDLDetail))
	assert.Equal(t, b.Records[6].Value, letters[1].Value)
	s := p.Stats()
	assert.EqualValues(t, 4, s.SegmentsKnown)
	assert.EqualValues(t, 1, s.SegmentsUnknown)
	assert.EqualValues(t, 6, s.Decided)
}

// Found out or given: the same segments give the same decisions.
func TestSegmentsFoundOutDecideLikeGivenOnes(t *testing.T) {
	given, found := &store{}, &store{}
	require.NoError(t, newTestAssign(t, given).Handle(messageOf(records(`{"user_id":"a","segments":["vip"]}`, `{"user_id":"b","segments":[]}`))))
	from := &segmenter{identifier: "fs_user_id", answer: func(user string) SegmentAnswer {
		if user == "a" {
			return known("vip")
		}
		return known()
	}}
	require.NoError(t, newTestAssign(t, found, withSegments(from)).Handle(messageOf(records(`{"user_id":"a"}`, `{"user_id":"b"}`))))
	require.Equal(t, given.kept, found.kept)
}

func TestAnotherIdentifierIsLookedUp(t *testing.T) {
	from := &segmenter{identifier: "email", answer: func(string) SegmentAnswer { return known() }}
	require.NoError(t, newTestAssign(t, &store{}, withSegments(from)).Handle(messageOf(records(
		`{"user_id":"a","identifiers":{"email":"a@b.c"}}`, `{"user_id":"b"}`))))
	require.Equal(t, [][]string{{"a@b.c", ""}}, from.asked)
}

func TestSegmentsThatHoldNack(t *testing.T) {
	to, held := &store{}, errors.New("ODP is away")
	from := &segmenter{identifier: "fs_user_id", answer: func(string) SegmentAnswer { return known() }, err: held}
	p := newTestAssign(t, to, withSegments(from))
	require.ErrorIs(t, p.Handle(messageOf(records(`{"user_id":"a"}`))), held)
	assert.Empty(t, to.kept)
	from.err = nil
	require.NoError(t, p.Handle(messageOf(records(`{"user_id":"a"}`))))
	assert.Len(t, to.in("decisions"), 1)
}

// A panic over the batch as a whole is tracked down to the record that causes it.
func TestBatchThatPanicsIsBisected(t *testing.T) {
	to := &store{}
	from := &segmenter{identifier: "fs_user_id"}
	from.answer = func(user string) SegmentAnswer {
		if strings.HasPrefix(user, "boom") {
			panic("no segments for " + user)
		}
		return known()
	}
	var values []string
	for i := range 37 {
		user := "u" + strconv.Itoa(i)
		if i == 7 || i == 30 {
			user = "boom"
		}
		values = append(values, `{"user_id":"`+user+`x"}`)
	}
	values[3] = `nonsense`
	values[9] = `{"user_id":"a\\b"}`
	p := newTestAssign(t, to, withSegments(from))
	b := records(values...)
	require.NoError(t, p.Handle(messageOf(b)))
	letters := to.in("dead-letters")
	require.Len(t, letters, 3)
	for i, want := range []struct {
		index  int
		reason schemas.RejectCode
	}{{3, schemas.RejectNotJSON}, {7, ReasonPanic}, {30, ReasonPanic}} {
		assert.Equal(t, b.Records[want.index].Value, letters[i].Value)
		assert.Equal(t, string(want.reason), header(&letters[i], schemas.HeaderDLReason))
		assert.NotContains(t, header(&letters[i], schemas.HeaderDLDetail), "boom")
	}
	assert.Len(t, to.in("decisions"), 34)
	assert.EqualValues(t, 37, p.Stats().Read)
}
