package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"

	"sortition/internal/kafkatest"
	"sortition/internal/sample"
	"sortition/pipeline"
	"sortition/pipeline/kafkago"
	"sortition/schemas"
)

// A mutator makes unusable records of good ones, and now and then one that can still
// be used.
type mutator struct{ *rand.Rand }

// mutate makes another value of a good activity. It does not change good.
func (m mutator) mutate(good []byte) []byte {
	switch m.IntN(14) {
	case 0:
		return nil // a tombstone
	case 1:
		return []byte{}
	case 2:
		return slices.Clone(good[:m.IntN(len(good))])
	case 3: // a few bits
		b := slices.Clone(good)
		for range 1 + m.IntN(8) {
			b[m.IntN(len(b))] ^= 1 << m.IntN(8)
		}
		return b
	case 4:
		return m.noise(m.IntN(2000))
	case 5: // a piece that isn't UTF-8, maybe in a string
		return m.splice(good, []byte{0xc3, 0x28, 0xff, 0xed, 0xa0, 0x80})
	case 6:
		depth := 1 + m.IntN(20_000)
		return fmt.Appendf(nil, `{"user_id":"u","context":%s1%s}`, strings.Repeat(`[`, depth), strings.Repeat(`]`, m.IntN(2)*depth))
	case 7:
		depth := 1 + m.IntN(5_000)
		return fmt.Appendf(nil, `{"user_id":"u","attributes":{"a":%s1%s}}`, strings.Repeat(`{"a":`, depth), strings.Repeat(`}`, depth))
	case 8: // a key that is there already, or twice
		key := m.oneOf("user_id", "attributes", "timestamp", "a\\u0062c", "events")
		return slices.Concat([]byte(`{"`+key+`":null,"`+key+`":1,`), good[1:])
	case 9:
		number := m.oneOf("1e400", "-1e-400", "1"+strings.Repeat("0", 400), "0."+strings.Repeat("1", 3000), "01", "+1", "1.", ".5", "0x10", "NaN", "-Infinity", "9223372036854775808")
		return fmt.Appendf(nil, m.oneOf(`{"user_id":"u","timestamp":%s}`, `{"user_id":"u","attributes":{"age":%s}}`, `{"user_id":%s}`), number)
	case 10:
		value := m.oneOf(`1`, `true`, `null`, `"x"`, `[]`, `{}`, `[[]]`, `[null]`, `[1]`, `{"a":{}}`)
		field := m.oneOf("user_id", "id", "timestamp", "attributes", "identifiers", "segments", "decide", "options", "forced_decisions", "events", "odp_events", "context")
		return fmt.Appendf(nil, `{"user_id":"u","%s":%s}`, field, value)
	case 11:
		return []byte(m.oneOf(`null`, `true`, `17`, `"text"`, `[]`, `{}`, `{`, ` `, "\x00", "\ufeff{}", `{"user_id":"u"}{"user_id":"u"}`, `{"user_id":"\ud800"}`, `{"user_id":"\u0000"}`, "{\"user_id\":\"\t\"}"))
	case 12: // two records in one
		return slices.Concat(good, good[m.IntN(len(good)):])
	default:
		return m.splice(good, []byte(m.oneOf(`"`, `\`, `{`, `}`, `,`, `:`, `\u12`, "\n", "\x00", `null`, `"user_id":`)))
	}
}

func (m mutator) oneOf(texts ...string) string { return texts[m.IntN(len(texts))] }

func (m mutator) noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(m.IntN(256))
	}
	return b
}

func (m mutator) splice(good, piece []byte) []byte {
	at := m.IntN(len(good))
	return slices.Concat(good[:at], piece, good[at:])
}

// headers are what foreign producers put on records, or would like to.
func (m mutator) headers() []pipeline.Header {
	var all []pipeline.Header
	for range max(0, m.IntN(5)-2) {
		all = append(all, pipeline.Header{
			Key:   m.oneOf("", "a", "traceparent", "content-type", "ce_id", "ce_specversion", "ce_type", "ce_source", "sortition-id", "dl-reason", "dl-offset", "dl-attempts", "dl-time"),
			Value: slices.Concat([]byte(m.oneOf("", "1.0", "application/cloudevents+json", "application/json; charset=utf-8", "-7", "99999999999999999999")), m.noise(m.IntN(4))),
		})
	}
	return all
}

// what says of a record whether it is a good one: these are marked, outside of what
// the stream reads.
const goodHeader = "made-good"

// malformed makes n unusable records, or hardly usable ones, each among good ones.
func malformed(topic string, n int) []pipeline.Output {
	options := sample.DefaultOptions()
	options.Bad, options.Visitors = 0, 200
	g := sample.NewGenerator(17, options)
	m := mutator{rand.New(rand.NewPCG(6, 6))} // its sequence need not stay the same
	var outputs []pipeline.Output
	for i := range n {
		good := pipeline.Output{Topic: topic, Value: g.AppendNext(nil), Key: slices.Clone(g.Key()), Time: g.Time(), Headers: []pipeline.Header{{Key: goodHeader}}}
		bad := pipeline.Output{Topic: topic, Value: m.mutate(good.Value), Key: good.Key, Time: good.Time, Headers: m.headers()}
		switch i % 8 {
		case 0:
			bad.Key = nil
		case 1:
			bad.Key = []byte{}
		case 2:
			bad.Key = m.noise(8)
		}
		if i%3 == 0 {
			outputs = append(outputs, good)
		}
		outputs = append(outputs, bad)
	}
	return outputs
}

func originalHeaders(r *kafkatest.Record) []kafka.Header {
	return slices.DeleteFunc(slices.Clone(r.Headers), func(h kafka.Header) bool { return schemas.IsDeadLetterHeader(h.Key) })
}

func sameHeader(a, b kafka.Header) bool {
	return a.Key == b.Key && bytes.Equal(a.Value, b.Value) && (a.Value == nil) == (b.Value == nil)
}

func mustLetter(t *testing.T, r *kafkatest.Record) schemas.DeadLetter {
	t.Helper()
	letter, err := letterOf(r)
	require.NoError(t, err)
	return letter
}

// Fuzzed and truncated records among good ones, through a real process. Each one that
// decodes has its decision record, each other one is a dead letter with the decoder's
// reason and the original bytes, and the good ones are all decided. Dead letters that
// are sent round again become the same dead letters, at their second attempt.
func TestMalformedInput(t *testing.T) {
	onBrokers(t, func(t *testing.T, addrs []string) {
		n := 5_000
		if strings.HasSuffix(t.Name(), "/kafka") && !testing.Short() {
			n = 100_000
		}
		r := newRig(t, addrs, 30*time.Second)
		r.produce(t, malformed(r.topics.Activities, n))
		inputs := map[string]*kafkatest.Record{}
		nulls := 0
		for _, rec := range r.read(t, r.topics.Activities) {
			inputs[at(int32(rec.Partition), rec.Offset)] = rec
			if rec.Value == nil {
				nulls++
			}
		}
		require.Positive(t, nulls, "the reader tells null from empty")
		r.work(t, int64(len(inputs)))

		// What the decoder alone says.
		var decoder schemas.Decoder
		var activity schemas.Activity
		reasons := map[string]string{}
		byReason := map[string]int{}
		for from, rec := range inputs {
			headers := make([]schemas.Header, len(rec.Headers))
			for i, h := range rec.Headers {
				headers[i] = schemas.Header{Key: h.Key, Value: h.Value}
			}
			if err := decoder.DecodeEvent(headers, rec.Value, nil, &activity); err != nil {
				var reject *schemas.Reject
				require.ErrorAs(t, err, &reject)
				reasons[from] = string(reject.Code)
				byReason[string(reject.Code)]++
			}
		}
		letters := r.read(t, r.topics.DeadLetters)
		require.Len(t, letters, len(reasons), "as many dead letters as unusable records")
		for _, dead := range letters {
			letter := mustLetter(t, dead)
			from := at(letter.Partition, letter.Offset)
			original := inputs[from]
			require.NotNil(t, original, from)
			require.Equal(t, reasons[from], letter.Reason, from)
			require.True(t, bytes.Equal(original.Value, dead.Value) && (original.Value == nil) == (dead.Value == nil), from)
			require.True(t, bytes.Equal(original.Key, dead.Key) && (original.Key == nil) == (dead.Key == nil), from)
			require.True(t, slices.EqualFunc(original.Headers, dead.Headers[:len(original.Headers)], sameHeader), "%s: the original headers, then ours", from)
			require.False(t, slices.ContainsFunc(original.Headers, func(h kafka.Header) bool { return h.Key == goodHeader }), "%s: a good one", from)
			delete(inputs, from)
		}
		for _, rec := range r.read(t, r.topics.Decisions) {
			from := sourceOf(t, rec)
			require.NotNil(t, inputs[from], "%s: decided twice, or decided and a dead letter", from)
			delete(inputs, from)
		}
		require.Empty(t, inputs, "neither decided nor a dead letter")
		for _, reason := range []schemas.RejectCode{schemas.RejectNotJSON, schemas.RejectNotUTF8, schemas.RejectDuplicateKey, schemas.RejectMissingUserID,
			schemas.RejectWrongType, schemas.RejectOutOfRange, schemas.RejectTooDeep, schemas.RejectBadCloudEvent} {
			require.Positive(t, byReason[string(reason)], "no record of the kind %s was made", reason)
		}
		t.Logf("%d unusable records among %d: %v", len(letters), r.committed(t), byReason)
		r.sendRoundAgain(t, letters)
	})
}

// sendRoundAgain puts dead letters back into the topic they come from, as they are.
func (r *killRig) sendRoundAgain(t *testing.T, letters []*kafkatest.Record) {
	t.Helper()
	again := make([]pipeline.Output, len(letters))
	for i, dead := range letters {
		again[i] = pipeline.Output{Topic: r.topics.Activities, Key: dead.Key, Value: dead.Value, Time: dead.Time}
		for _, h := range dead.Headers {
			again[i].Headers = append(again[i].Headers, pipeline.Header{Key: h.Key, Value: h.Value})
		}
	}
	before := r.committed(t)
	r.produce(t, again)
	r.work(t, before+int64(len(again)))

	// The same letters: the second ones differ in where they were read and how often.
	sameness := func(dead *kafkatest.Record, letter *schemas.DeadLetter) string {
		return fmt.Sprintf("%s %s %v %q %v %q %q", letter.Reason, letter.Detail, dead.Key == nil, dead.Key, dead.Value == nil, dead.Value, originalHeaders(dead))
	}
	attempts := map[int][]string{}
	for _, dead := range r.read(t, r.topics.DeadLetters) {
		letter := mustLetter(t, dead)
		attempt := letter.Attempts
		if i := slices.IndexFunc(dead.Headers, func(h kafka.Header) bool { return h.Key == schemas.HeaderDLTopic }); i >= 0 {
			// How often its own letter says that it was read, for the input may claim anything.
			rest := slices.ContainsFunc(dead.Headers[i+1:], func(h kafka.Header) bool { return h.Key == schemas.HeaderDLTopic })
			attempt = 1
			if rest {
				attempt = 2
				require.Equal(t, firstAttempts(t, dead)+1, letter.Attempts)
			}
		}
		attempts[attempt] = append(attempts[attempt], sameness(dead, &letter))
	}
	require.Len(t, attempts[1], len(letters))
	slices.SortFunc(attempts[1], cmp.Compare[string])
	slices.SortFunc(attempts[2], cmp.Compare[string])
	require.True(t, slices.Equal(attempts[1], attempts[2]), "the same dead letters at the second attempt")
}

// firstAttempts is the count of a record's first letter: the dl-attempts before its
// second dl-topic.
func firstAttempts(t *testing.T, dead *kafkatest.Record) int {
	t.Helper()
	topics, count := 0, ""
	for _, h := range dead.Headers {
		switch h.Key {
		case schemas.HeaderDLTopic:
			if topics++; topics == 2 {
				n, err := strconv.Atoi(count)
				require.NoError(t, err)
				return n
			}
		case schemas.HeaderDLAttempts:
			count = string(h.Value)
		}
	}
	require.Fail(t, "it was never sent round again")
	return 0
}

// produce stores records.
func (r *killRig) produce(t *testing.T, outputs []pipeline.Output) {
	t.Helper()
	producer, err := kafkago.NewProducer(kafkago.ProducerConfig{Connection: kafkago.Connection{Brokers: r.addrs}})
	require.NoError(t, err)
	defer producer.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for some := range slices.Chunk(outputs, 5000) {
		require.NoError(t, producer.Produce(ctx, some))
	}
}

// work lets a process work until the group has committed so many records, and tells it
// to end.
func (r *killRig) work(t *testing.T, until int64) {
	t.Helper()
	c := startProcessor(t, "run", "-c", r.config)
	require.Eventually(t, func() bool { return r.committed(t) == until }, patience, 20*time.Millisecond, "%s", c.output)
	require.NoError(t, c.Process.Signal(syscall.SIGTERM))
	require.NoError(t, c.wait(t), c.output.String())
}
