package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/decision"
)

// same answers with our own engine, and mistakes what it is told to.
type same struct {
	engine  engine
	mistake func(c *testCase, a *answer)
}

func (s *same) ask(b *batch) ([]answer, error) {
	p, err := decision.Compile([]byte(b.Datafile))
	if err != nil {
		return nil, refusedError{err.Error()}
	}
	var out []answer
	for i := range b.Cases {
		a, err := s.engine.answer(p, &b.Cases[i])
		if err != nil {
			return nil, err
		}
		// Through JSON, as an answer comes from the process.
		var copied answer
		if err := json.Unmarshal(mustMarshal(a), &copied); err != nil {
			return nil, err
		}
		if s.mistake != nil {
			s.mistake(&b.Cases[i], &copied)
		}
		out = append(out, copied)
	}
	return out, nil
}

func newRun(t *testing.T, out *bytes.Buffer) *run {
	t.Helper()
	return &run{
		cases: 20, perDatafile: 20, seed: 7, maxDifferences: 3, folder: filepath.Join(t.TempDir(), "kept"), out: out,
		sum: summary{byRule: map[rule]int{}, met: coverage{}},
	}
}

func TestGenerateDependsOnTheSeedAlone(t *testing.T) {
	generated := func(seed, index uint64) string {
		r := seeded(seed, index)
		p, err := generate(r)
		require.NoError(t, err)
		return p.datafile + string(mustMarshal(p.makeCase(r, "id")))
	}
	first, again := generated(1, 2), generated(1, 2)
	assert.Equal(t, first, again)
	assert.NotEqual(t, first, generated(1, 3))
	assert.NotEqual(t, first, generated(2, 2))
}

// Every datafile compiles without a fault, and the cases of a short run meet all
// that is counted. An engine that agrees with itself has no differences.
func TestGeneratedCasesMeetEverything(t *testing.T) {
	var out bytes.Buffer
	r := newRun(t, &out)
	j := &judge{sdk: &same{}}
	for i := range minCovered / r.perDatafile {
		require.NoError(t, r.one(j, i, r.perDatafile))
	}
	assert.Empty(t, out.String())
	assert.Zero(t, r.sum.differences)
	assert.Equal(t, minCovered, r.sum.compared)
	assert.Empty(t, r.sum.met.missed(minCovered))
	assert.Equal(t, expected(), coverage{}.missed(1), "a run of nothing misses everything")
}

// A mistake in any part of an answer is found, shrunk to what it needs, printed
// and kept.
func TestMistakesAreFound(t *testing.T) {
	event := func(isImpression bool, change func(body string) string) func(*testCase, *answer) {
		return func(_ *testCase, a *answer) {
			for i := range a.Events {
				if bytes.Contains(a.Events[i].Body, []byte("campaign_activated")) == isImpression {
					a.Events[i].Body = []byte(change(string(a.Events[i].Body)))
				}
			}
		}
	}
	for name, tt := range map[string]struct {
		part    string // "": impressions or conversions
		mistake func(*testCase, *answer)
	}{
		"enabled": {"decisions", func(_ *testCase, a *answer) {
			for i := range a.Decisions {
				a.Decisions[i].Enabled = !a.Decisions[i].Enabled
			}
		}},
		"variables": {"decisions", func(_ *testCase, a *answer) {
			for i := range a.Decisions {
				a.Decisions[i].Variables = []byte(strings.Replace(string(a.Decisions[i].Variables), "true", "false", 1))
			}
		}},
		"missing decision": {"decisions", func(_ *testCase, a *answer) { a.Decisions = a.Decisions[:0] }},
		"missing event":    {"", func(_ *testCase, a *answer) { a.Events = a.Events[:0] }},
		"impression": {"impressions", event(true, func(body string) string {
			return strings.Replace(body, `"campaign_id":"`, `"campaign_id":"1`, 1)
		})},
		"revenue": {"conversions", event(false, func(body string) string {
			return strings.Replace(body, `"revenue":4200,`, "", 1)
		})},
		"endpoint": {"", func(_ *testCase, a *answer) {
			for i := range a.Events {
				a.Events[i].URL += "/"
			}
		}},
		"profile": {"profile", func(_ *testCase, a *answer) { a.Profile = nil }},
		"raised":  {"raised", func(_ *testCase, a *answer) { a.Raised = &raised{"ValueError", "", "somewhere"} }},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			r := newRun(t, &out)
			r.maxDifferences = 1
			j := &judge{sdk: &same{mistake: tt.mistake}}
			var err error
			for i := 0; err == nil && i < 50; i++ {
				err = r.one(j, i, r.perDatafile)
			}
			require.ErrorIs(t, err, errEnough)
			files, err := filepath.Glob(filepath.Join(r.folder, "difference-*.json"))
			require.NoError(t, err)
			require.Len(t, files, 1)
			raw, err := os.ReadFile(files[0])
			require.NoError(t, err)
			var kept reproduction
			require.NoError(t, json.Unmarshal(raw, &kept))
			require.Len(t, kept.Cases, 1)
			parts := []string{}
			for _, d := range kept.Differences {
				parts = append(parts, d.Part)
			}
			if tt.part != "" {
				assert.Contains(t, parts, tt.part)
			} else {
				assert.Subset(t, []string{"impressions", "conversions"}, parts)
			}
			assert.Contains(t, out.String(), "DIFFERENCE "+kept.ID)
			var d struct{ FeatureFlags []any }
			require.NoError(t, json.Unmarshal(kept.Datafile, &d))
			assert.LessOrEqual(t, len(d.FeatureFlags), 1, "flags that are not concerned go")
			assert.LessOrEqual(t, len(kept.Cases[0].Attributes), 1)
			_, err = decision.Compile(kept.Datafile)
			assert.NoError(t, err)
		})
	}
}

// A case that differs only after others is kept with them.
func TestLeaksAreKeptWhole(t *testing.T) {
	var out bytes.Buffer
	r := newRun(t, &out)
	asked := 0
	j := &judge{sdk: &same{mistake: func(c *testCase, a *answer) {
		if asked++; asked == 5 {
			a.Events = append(a.Events, request{Body: []byte(`{}`)})
		}
	}}}
	require.NoError(t, r.one(j, 0, 20))
	raw, err := os.ReadFile(filepath.Join(r.folder, "difference-7-0-4.json"))
	require.NoError(t, err)
	var kept struct{ Cases []json.RawMessage }
	require.NoError(t, json.Unmarshal(raw, &kept))
	assert.Len(t, kept.Cases, 5)
}

// A datafile that either side refuses is a difference.
func TestRefusalsAreDifferences(t *testing.T) {
	var out bytes.Buffer
	r := newRun(t, &out)
	require.NoError(t, r.one(&judge{sdk: refuser{}}, 0, 20))
	assert.Equal(t, 1, r.sum.differences)
	assert.Contains(t, out.String(), "not today")
}

type refuser struct{}

func (refuser) ask(*batch) ([]answer, error) { return nil, refusedError{"not today"} }

func TestEqual(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{`1`, `1.0`, true},
		{`10`, `1e1`, true},
		{`9007199254740993`, `9007199254740992`, false},
		{`9007199254740993`, `9007199254740992.0`, true},
		{`-0`, `0`, true},
		{`1`, `true`, false},
		{`1`, `"1"`, false},
		{`null`, `false`, false},
		{`null`, `{}`, false},
		{`{"a":null}`, `{}`, false},
		{`{"a":1,"b":[1,2]}`, `{"b":[1.0,2],"a":1}`, true},
		{`[1,2]`, `[2,1]`, false},
		{`"a"`, `"A"`, false},
		{`[]`, `{}`, false},
	} {
		a, err := tree([]byte(tt.a))
		require.NoError(t, err)
		b, err := tree([]byte(tt.b))
		require.NoError(t, err)
		assert.Equal(t, tt.want, equal(a, b), "%s %s", tt.a, tt.b)
		assert.Equal(t, tt.want, equal(b, a), "%s %s", tt.b, tt.a)
	}
}

// The rules reach as far as they say and no farther.
func TestAdopt(t *testing.T) {
	held, other := "held", "other"
	for name, tt := range map[string]struct {
		ours, sdk, want string
		rule            *string
		enabled         bool
		used            []rule
	}{
		"not finite":            {`{"a":null}`, `{"a":{"not_finite": "nan"}}`, `{"a":null}`, nil, true, []rule{ruleNotFinite}},
		"not finite inside":     {`{"a":null}`, `{"a":[1, {"b":{"not_finite": "inf"}}]}`, `{"a":null}`, nil, true, []rule{ruleNotFinite}},
		"others stay":           {`{"a":1,"b":2}`, `{"a":{"not_finite": "nan"},"b":3}`, `{"a":null,"b":3}`, nil, true, []rule{ruleNotFinite}},
		"enabled holdout":       {`{"a":"x","b":true}`, `{"a":null,"b":false}`, `{"a":"x","b":true}`, &held, true, []rule{ruleEnabledHoldout}},
		"holdout with a value":  {`{"a":"x","b":true}`, `{"a":null,"b":1}`, `{"a":null,"b":1}`, &held, true, nil},
		"holdout that is off":   {`{"a":"x"}`, `{"a":null}`, `{"a":null}`, &held, false, nil},
		"a rule, not a holdout": {`{"a":"x"}`, `{"a":null}`, `{"a":null}`, &other, true, nil},
	} {
		answerOf := func(variables string) *answer {
			return &answer{Decisions: []decided{{"flag", nil, tt.enabled, tt.rule, json.RawMessage(variables)}}}
		}
		sdk := answerOf(tt.sdk)
		used, err := adopt(answerOf(tt.ours), sdk, map[string]bool{held: true})
		require.NoError(t, err, name)
		assert.Equal(t, tt.used, used, name)
		assert.JSONEq(t, tt.want, string(sdk.Decisions[0].Variables), name)
	}
	assert.True(t, isVersionText(&raised{"ValueError", "", "compare_user_version_with_target_version"}))
	assert.False(t, isVersionText(&raised{"TypeError", "", "compare_user_version_with_target_version"}))
	assert.False(t, isVersionText(&raised{"ValueError", "", "decide"}))
}

func TestUsage(t *testing.T) {
	var out, errs bytes.Buffer
	assert.Equal(t, 2, command([]string{"--cases", "0"}, &out, &errs))
	assert.Equal(t, 2, command([]string{"surplus"}, &out, &errs))
	assert.Equal(t, 2, command([]string{"--no-such-flag"}, &out, &errs))
	assert.Equal(t, 1, command([]string{"--python", filepath.Join(t.TempDir(), "none")}, &out, &errs))
	assert.Contains(t, errs.String(), "make oracle installs it")
}

// Smaller datafiles are each the datafile less one element of one array.
func TestSmallerDatafile(t *testing.T) {
	var got []string
	for k := 0; ; k++ {
		s, ok, err := smallerDatafile(`{"a":[1,[2,3]],"b":{"c":["x"]}}`, k)
		require.NoError(t, err)
		if !ok {
			break
		}
		got = append(got, s)
	}
	assert.Equal(t, []string{
		`{"a":[[2,3]],"b":{"c":["x"]}}`, `{"a":[1],"b":{"c":["x"]}}`,
		`{"a":[1,[3]],"b":{"c":["x"]}}`, `{"a":[1,[2]],"b":{"c":["x"]}}`, `{"a":[1,[2,3]],"b":{"c":[]}}`,
	}, got, fmt.Sprint(got))
}
