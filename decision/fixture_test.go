package decision

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// fixture_test.go builds the small projects that the table tests are about. A
// datafile is an object tree that a test edits before it is compiled.

type (
	object = map[string]any
	array  = []any
)

// parsed decodes JSON text, keeping number literals.
func parsed(t testing.TB, text string) any {
	t.Helper()
	tree, err := parseTree([]byte(text))
	require.NoError(t, err, text)
	return tree
}

// file is a datafile without rules: attributes plan (31) and age (32), audience
// 41 (plan is "pro"). members replace its sections.
func file(members object) object {
	f := object{
		"version": "4", "accountId": "1", "projectId": "2", "revision": "7",
		"attributes": array{object{"id": "31", "key": "plan"}, object{"id": "32", "key": "age"}},
		"events":     array{}, "groups": array{}, "audiences": array{}, "experiments": array{},
		"typedAudiences": array{object{"id": "41", "name": "pro", "conditions": object{
			"name": "plan", "type": "custom_attribute", "match": "exact", "value": "pro",
		}}},
	}
	for k, v := range members {
		f[k] = v
	}
	return f
}

// ruleOf is a running rule r<id> whose one variation v<id> (id <id>1) is on and
// takes everybody. members replace its own.
func ruleOf(id string, members object) object {
	r := object{
		"id": id, "key": "r" + id, "layerId": "L" + id, "status": "Running", "audienceIds": array{}, "forcedVariations": object{},
		"variations":        array{object{"id": id + "1", "key": "v" + id, "featureEnabled": true}},
		"trafficAllocation": array{object{"entityId": id + "1", "endOfRange": 10000}},
	}
	for k, v := range members {
		r[k] = v
	}
	return r
}

// flagOf is a flag f with experiments, a rollout ("" for none) and no variables.
func flagOf(key string, rollout string, experiments ...string) object {
	ids := array{}
	for _, id := range experiments {
		ids = append(ids, id)
	}
	return object{"id": "f-" + key, "key": key, "experimentIds": ids, "rolloutId": rollout, "variables": array{}}
}

func rolloutOf(id string, rules ...any) object {
	if rules == nil {
		rules = array{}
	}
	return object{"id": id, "experiments": rules}
}

// traffic is an allocation list written "11:5000, :6000"; an entry without a
// colon has no end.
func traffic(text string) array {
	out := array{}
	for _, entry := range strings.Split(text, ",") {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		id, end, _ := strings.Cut(entry, ":")
		out = append(out, object{"entityId": id, "endOfRange": json.Number(end)})
	}
	return out
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	require.NoError(t, err)
	return data
}

func compiled(t testing.TB, f object, options ...CompileOption) *Project {
	t.Helper()
	p, err := Compile(marshal(t, f), options...)
	require.NoError(t, err)
	return p
}

// userOf sets a user up. attributes is a JSON object or "".
func userOf(t testing.TB, p *Project, id, attributes string, segments ...string) *User {
	t.Helper()
	u := &User{}
	u.Reset(p, id)
	if attributes != "" {
		var m map[string]json.RawMessage
		require.NoError(t, json.Unmarshal([]byte(attributes), &m))
		keys := make([]string, 0, len(m))
		for k := range m {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			u.SetAttribute(k, valueOf(m[k]))
		}
	}
	if segments != nil {
		u.SetSegments(segments)
	}
	return u
}

// outcome is a decision in one line: variation, rule and source, "-" for none.
func outcome(d *Decision) string {
	if d.Err() != NoError {
		return "error " + d.Err().String()
	}
	or := func(s string, ok bool) string {
		if !ok {
			return "-"
		}
		return s
	}
	return fmt.Sprintf("%s %s %s", or(d.VariationKey()), or(d.RuleKey()), d.RuleType())
}

// decided is the outcome of one flag.
func decided(u *User, flag string, options Options, env *Env) string {
	d := u.p.Decide(context.Background(), u, flag, options, env)
	return outcome(&d)
}

// sent lists what impressions decisions send: experiment·variation·type.
func sent(decisions ...Decision) []string {
	out := []string{}
	for _, im := range AppendImpressions(nil, decisions) {
		out = append(out, im.ExperimentID+"·"+im.VariationID+"·"+im.RuleType.String())
	}
	return out
}

func codes(reasons []Reason) []string {
	out := []string{}
	for _, r := range reasons {
		out = append(out, r.Code.String())
	}
	return out
}

// readTestdata reads a file of testdata.
func readTestdata(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	return raw
}

// eachTestdataLine decodes the lines of a file of testdata; none is a failure.
func eachTestdataLine[T any](t *testing.T, name string, f func(row T)) {
	t.Helper()
	n := 0
	for s := bufio.NewScanner(bytes.NewReader(readTestdata(t, name))); s.Scan(); n++ {
		var row T
		require.NoError(t, json.Unmarshal(s.Bytes(), &row))
		f(row)
	}
	require.Positive(t, n, "%s is empty", name)
}
