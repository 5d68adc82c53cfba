package sample

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/examples"
)

var update = flag.Bool("update", false, "write examples/activities.ndjson anew")

// lines makes n records with the default options.
func lines(seed uint64, n int) []byte {
	g := NewGenerator(seed, DefaultOptions())
	var out []byte
	for range n {
		out = append(g.AppendNext(out), '\n')
	}
	return out
}

// A change of these hashes is a change of the published sample: figures quoted
// from it change too.
func TestSameSeedSameBytes(t *testing.T) {
	for _, c := range []struct {
		seed uint64
		want string
	}{
		{1, "bc74c36e166e80c09e10f8991afffed16e2f300210925857b10941f7c0d8c91e"},
		{2, "e033814fb9330862012943cf50f66b0602c6b40191f3f610d6d5b4b721a8b0e4"},
	} {
		sum := sha256.Sum256(lines(c.seed, 10_000))
		assert.Equal(t, c.want, hex.EncodeToString(sum[:]), "seed %d", c.seed)
	}
}

func TestExampleFileIsTheFirstHundred(t *testing.T) {
	const path = "../../examples/activities.ndjson"
	want := lines(1, 100)
	if *update {
		require.NoError(t, os.WriteFile(path, want, 0o644))
		return
	}
	assert.True(t, bytes.Equal(want, examples.Activities()), "run: go test ./internal/sample -update")
}

// activity is what the tests look at; an own type, so that the sample is checked
// by other means than the decoder it feeds.
type activity struct {
	UserID     *string                    `json:"user_id"`
	Timestamp  any                        `json:"timestamp"`
	Attributes map[string]any             `json:"attributes"`
	Segments   *[]string                  `json:"segments"`
	Decide     any                        `json:"decide"`
	Options    []string                   `json:"options"`
	Forced     []map[string]string        `json:"forced_decisions"`
	Events     []struct{ Key string }     `json:"events"`
	ODPEvents  []struct{ Action string }  `json:"odp_events"`
	Context    map[string]json.RawMessage `json:"context"`
}

func TestActivitiesFitTheSampleDatafile(t *testing.T) {
	var project struct {
		FeatureFlags, Events, Attributes []struct{ Key string }
	}
	require.NoError(t, json.Unmarshal(examples.Datafile(), &project))
	keys := func(list []struct{ Key string }) (out []string) {
		for _, e := range list {
			out = append(out, e.Key)
		}
		return out
	}
	flags, events, attributes := keys(project.FeatureFlags), keys(project.Events), keys(project.Attributes)
	assert.ElementsMatch(t, flags, flagKeys)

	g := NewGenerator(7, DefaultOptions())
	seenAttributes, seenEvents, seenFlags := map[string]bool{}, map[string]bool{}, map[string]bool{}
	var line []byte
	for i := range 20_000 {
		line = g.AppendNext(line[:0])
		if g.Reject() != "" {
			continue
		}
		var a activity
		require.NoError(t, json.Unmarshal(line, &a), "record %d: %s", i, line)
		require.NotNil(t, a.UserID)
		require.Equal(t, string(g.Key()), *a.UserID)
		for k, v := range a.Attributes {
			seenAttributes[k] = true
			require.NotNil(t, v)
		}
		for _, e := range a.Events {
			seenEvents[e.Key] = true
			require.Contains(t, events, e.Key)
		}
		if list, ok := a.Decide.([]any); ok {
			named := map[string]bool{}
			for _, k := range list {
				named[k.(string)], seenFlags[k.(string)] = true, true
				require.Contains(t, flags, k)
			}
			require.Len(t, named, len(list), "a flag is named twice")
		}
		for _, f := range a.Forced {
			require.Contains(t, flags, f["flag_key"])
		}
	}
	for _, k := range attributes {
		assert.True(t, seenAttributes[k], "attribute %s is never given", k)
	}
	assert.Len(t, seenEvents, len(events))
	assert.Len(t, seenFlags, len(flags))
}

func TestSharesAreAsAsked(t *testing.T) {
	const n = 20_000
	opts := Options{Visitors: 500, Conversions: 300, Lists: 500, Forced: 100, Bad: 50}
	g := NewGenerator(3, opts)
	count := map[string]int{}
	visits := map[string]int{}
	var line []byte
	for range n {
		line = g.AppendNext(line[:0])
		visits[string(g.Key())]++
		if g.Reject() != "" {
			count["bad"]++
			continue
		}
		for _, part := range []string{`,"events":[`, `,"forced_decisions":[`, `,"context":{`, `,"segments":[`, `,"segments":null`, `,"decide":[]`} {
			if bytes.Contains(line, []byte(part)) {
				count[part]++
			}
		}
	}
	near := func(want float64, part string) {
		t.Helper()
		assert.InDelta(t, want, float64(count[part])/n, 0.02, part)
	}
	near(0.05, "bad")
	near(0.95*0.30, `,"events":[`)
	near(0.95*0.10, `,"forced_decisions":[`)
	near(0.95*0.25, `,"context":{`)
	near(0.95*0.30*0.30, `,"decide":[]`)
	assert.Positive(t, count[`,"segments":null`])
	assert.LessOrEqual(t, len(visits), 500)
	assert.Greater(t, len(visits), 450)
	byVisits := make([]int, 0, len(visits))
	for _, k := range visits {
		byVisits = append(byVisits, k)
	}
	slices.Sort(byVisits)
	slices.Reverse(byVisits)
	regulars := 0
	for _, k := range byVisits[:50] {
		regulars += k
	}
	assert.InDelta(t, 0.32, float64(regulars)/n, 0.05, "share of the busiest tenth")
}

func TestBadRecordsAreBadForTheReasonGiven(t *testing.T) {
	g := NewGenerator(5, Options{Bad: 1000})
	seen := map[string]int{}
	var line []byte
	for range 2000 {
		line = g.AppendNext(line[:0])
		code := g.Reject()
		seen[code]++
		require.NotContains(t, string(line), "\n")
		require.NotEmpty(t, g.Key())
		var a activity
		err := json.Unmarshal(line, &a)
		switch code {
		case RejectNotJSON:
			require.False(t, json.Valid(line), "%s", line)
			require.True(t, utf8.Valid(line), "%s", line)
		case RejectNotUTF8:
			require.False(t, utf8.Valid(line))
			require.True(t, json.Valid(line), "%q", line)
		case RejectWrongType:
			require.True(t, json.Valid(line))
			var wrong *json.UnmarshalTypeError
			require.ErrorAs(t, err, &wrong)
		case RejectMissingUserID:
			require.NoError(t, err)
			require.Nil(t, a.UserID)
		case RejectDuplicateKey:
			require.NoError(t, err)
			require.Equal(t, 2, bytes.Count(line, []byte(`"plan"`)))
		default:
			require.Fail(t, "unknown code", code)
		}
	}
	assert.Len(t, seen, 5)
}

func TestVisitorsComeBackTheSame(t *testing.T) {
	g := NewGenerator(11, Options{Visitors: 20})
	plan, twice := map[string]any{}, false
	for range 500 {
		var a activity
		require.NoError(t, json.Unmarshal(g.AppendNext(nil), &a))
		if before, ok := plan[*a.UserID]; ok {
			twice = true
			require.Equal(t, before, a.Attributes["plan"])
		}
		plan[*a.UserID] = a.Attributes["plan"]
	}
	assert.True(t, twice)
}

func TestGeneratorAllocatesNothing(t *testing.T) {
	g := NewGenerator(1, DefaultOptions())
	buf := make([]byte, 0, 4096)
	for range 1000 { // grow the visitor's buffers
		buf = g.AppendNext(buf[:0])
	}
	assert.Zero(t, testing.AllocsPerRun(1000, func() { buf = g.AppendNext(buf[:0]) }))
}

func BenchmarkAppendNext(b *testing.B) {
	g := NewGenerator(1, DefaultOptions())
	var buf []byte
	total := 0
	b.ReportAllocs()
	for b.Loop() {
		buf = g.AppendNext(buf[:0])
		total += len(buf)
	}
	b.SetBytes(int64(total / b.N))
}
