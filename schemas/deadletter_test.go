package schemas

import (
	"iter"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func sampleDeadLetter() DeadLetter {
	return DeadLetter{
		Reason: "wrong_type", Detail: "user_id: want a string", Topic: "activities", Partition: 3, Offset: 1042, Attempts: 1,
		Time: time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC),
	}
}

func TestDeadLetterRoundTrip(t *testing.T) {
	for _, want := range []DeadLetter{
		sampleDeadLetter(),
		{Reason: "http_400", Topic: "events", Attempts: 5, Time: time.UnixMilli(0).UTC()},
	} {
		got, err := ParseDeadLetter(want.Headers())
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	var headers []string
	for key, value := range sampleDeadLetter().Headers() {
		assert.True(t, IsDeadLetterHeader(key))
		headers = append(headers, key+"="+string(value))
	}
	assert.Equal(t, []string{
		"dl-reason=wrong_type", "dl-detail=user_id: want a string", "dl-topic=activities", "dl-partition=3", "dl-offset=1042",
		"dl-attempts=1", "dl-time=2026-01-02T03:04:05.678Z",
	}, headers)
	assert.False(t, IsDeadLetterHeader(HeaderID))
	for range sampleDeadLetter().Headers() {
		break // an early end is fine
	}
}

func TestDeadLetterOfReject(t *testing.T) {
	var d Decoder
	var reject *Reject
	require.ErrorAs(t, d.Decode([]byte(`{"user_id":1}`), new(Activity)), &reject)
	assert.Equal(t, DeadLetter{Reason: "wrong_type", Detail: "user_id: want a string", Attempts: 1}, DeadLetterOf(reject))
}

func TestParseDeadLetterFaults(t *testing.T) {
	_, err := ParseDeadLetter(func(func(string, []byte) bool) {})
	for _, name := range []string{HeaderDLReason, HeaderDLTopic, HeaderDLPartition, HeaderDLOffset, HeaderDLAttempts, HeaderDLTime} {
		assert.ErrorContains(t, err, name)
	}
	assert.NotContains(t, err.Error(), HeaderDLDetail)

	with := func(key, value string) iter.Seq2[string, []byte] {
		return func(yield func(string, []byte) bool) {
			for k, v := range sampleDeadLetter().Headers() {
				if !yield(k, v) {
					return
				}
			}
			yield(key, []byte(value))
		}
	}
	for key, values := range map[string][]string{
		HeaderDLPartition: {"-1", "2147483648", "x", ""},
		HeaderDLOffset:    {"-1", "9223372036854775808"},
		HeaderDLAttempts:  {"0"},
		HeaderDLTime:      {"yesterday"},
		HeaderDLReason:    {""},
	} {
		for _, value := range values {
			_, err := ParseDeadLetter(with(key, value))
			assert.ErrorContains(t, err, key, value)
		}
	}
	l, err := ParseDeadLetter(with(HeaderDLAttempts, "2"))
	require.NoError(t, err)
	assert.Equal(t, 2, l.Attempts, "the newest header counts")
	_, err = ParseDeadLetter(with("other", "x"))
	assert.NoError(t, err)
}
