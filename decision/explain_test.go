package decision

import (
	"bytes"
	"encoding/json"
	goflag "flag" // the package has a type of the name
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = goflag.Bool("update", false, "write golden files instead of comparing")

// Three rows of the worked example, explained in full: an experiment, a local
// holdout on the way through the rollout, everyone else.
func TestExplainGolden(t *testing.T) {
	p, err := Compile(readTestdata(t, "worked.json"))
	require.NoError(t, err)
	rows := map[int]string{1: "experiment", 8: "local-holdout", 23: "everyone-else"}
	eachTestdataLine(t, "worked.ndjson", func(row workedRow) {
		name, ok := rows[row.Row]
		if !ok {
			return
		}
		delete(rows, row.Row)
		e := p.Explain(t.Context(), row.user(t, p), row.Flag, 0, nil)
		got, err := json.MarshalIndent(e, "", "  ")
		require.NoError(t, err)
		got = append(got, '\n')
		path := filepath.Join("testdata", "explain-"+name+".json")
		if *update {
			require.NoError(t, os.WriteFile(path, got, 0o644))
			return
		}
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), "go test -run ExplainGolden -update writes it anew")
	})
	require.Empty(t, rows)
}

// step finds the step of a rule.
func step(t *testing.T, e *Explanation, ruleKey string) *Step {
	t.Helper()
	for i := range e.Steps {
		if e.Steps[i].RuleKey == ruleKey {
			return &e.Steps[i]
		}
	}
	require.Failf(t, "no such step", "%s", ruleKey)
	return nil
}

// What was seen at a rule stands at the rule, whatever holdouts it has.
func TestExplainSteps(t *testing.T) {
	none := object{"trafficAllocation": array{}}
	p := compiled(t, file(object{
		"experiments":   array{ruleOf("1", none), ruleOf("2", object{"status": "Paused"})},
		"rollouts":      array{rolloutOf("R", ruleOf("3", object{"audienceIds": array{"41"}}), ruleOf("4", nil))},
		"featureFlags":  array{flagOf("f", "R", "1", "2")},
		"holdouts":      array{holdout("7", none)},
		"localHoldouts": array{holdout("8", object{"includedRules": array{"1", "3"}, "trafficAllocation": array{}, "audienceIds": array{"41"}}), holdout("9", object{"includedRules": array{"1", "2", "4"}, "trafficAllocation": traffic(":1, 91:0")})},
	}))
	u := userOf(t, p, "u", `{"$opt_bucketing_id":true}`)
	e := p.Explain(t.Context(), u, "f", 0, nil)
	var kinds []string
	for i := range e.Steps {
		kinds = append(kinds, e.Steps[i].Kind+" "+e.Steps[i].RuleKey)
	}
	require.Equal(t, []string{
		"holdout h7", "experiment r1", "holdout h8", "holdout h9", "experiment r2", "holdout h9", "delivery r3", "holdout h8", "delivery r4", "holdout h9",
	}, kinds)
	notes := func(key string) (out []string) {
		for _, n := range step(t, e, key).Notes {
			out = append(out, n.Code)
		}
		return out
	}
	require.Equal(t, []string{"audience_met", "not_bucketed"}, notes("r1"))
	require.Equal(t, []string{"rule_not_running"}, notes("r2"))
	require.Equal(t, []string{"audience_not_met"}, notes("r3"))
	require.Equal(t, []string{"audience_met", "bucketed"}, notes("r4"))
	require.Equal(t, []string{"holdout_audience_not_met"}, notes("h8"))
	require.Equal(t, []string{"holdout_not_bucketed"}, notes("h9"))
	require.Equal(t, "everyone", step(t, e, "r1").Audience.Op)
	require.Equal(t, "1", step(t, e, "r1").Bucket.Salt)
	require.Equal(t, "9", step(t, e, "h9").Bucket.Salt)
	require.Nil(t, step(t, e, "h8").Bucket)
	require.Nil(t, step(t, e, "r3").Bucket)
	require.Nil(t, step(t, e, "r2").Audience)
	require.Equal(t, "audience", step(t, e, "r3").Audience.Op)
	require.Equal(t, "h8", step(t, e, "h8").Change.RuleKey)
	require.Equal(t, "r3", e.FirstChange.RuleKey, "nobody asks how to be held out")
	require.Equal(t, []Note{{"bucketing_id_ignored", "The attribute $opt_bucketing_id is not a string; the user id is used."}}, e.Notes)
	require.Equal(t, "v4", *e.VariationKey)
	require.Equal(t, "r4", *e.RuleKey)
	require.Equal(t, "rollout", *e.RuleType)

	e = p.Explain(t.Context(), u, "nope", 0, nil)
	require.Equal(t, "flag_not_found", e.Error)
	require.Equal(t, []Note{{"flag_not_found", `No flag was found for key "nope".`}}, e.Notes)
	require.Empty(t, e.Steps)
}

// The hash, the bucket, each range with its start, and which one is hit.
func TestExplainBucket(t *testing.T) {
	p := ranges(t, traffic("11:3000, :4000, zz:4000, 12:3500, 12:9000, 11:20000"))
	e := p.Explain(t.Context(), userOf(t, p, "u", ""), "f", 0, nil)
	require.Equal(t, &BucketTrace{
		Salt: "1", Key: "u1", Hash: 2032562409, Bucket: 4732,
		Ranges: []RangeTrace{
			{EntityID: "11", VariationKey: "a", Start: 0, End: 3000}, {EntityID: "", Start: 3000, End: 4000}, {EntityID: "zz", Start: 4000, End: 4000},
			{EntityID: "12", VariationKey: "b", Start: 4000, End: 3500}, {EntityID: "12", VariationKey: "b", Start: 4000, End: 9000, IsHit: true},
			{EntityID: "11", VariationKey: "a", Start: 9000, End: 20000},
		},
	}, e.Steps[0].Bucket)

	p = grouped(t, "random", "1:0, 2:10000")
	e = p.Explain(t.Context(), userOf(t, p, "u", ""), "f", 0, nil)
	require.Equal(t, &BucketTrace{
		Salt: "G", Key: "uG", Hash: Hash("uG"), Bucket: Bucket(Hash("uG")),
		Ranges: []RangeTrace{{EntityID: "1", End: 0}, {EntityID: "2", End: 10000, IsHit: true}},
	}, e.Steps[0].Group)
	require.Nil(t, e.Steps[0].Bucket)
	require.Equal(t, "u2", e.Steps[1].Bucket.Key)
}

// Every leaf has its result and what was seen, reached or not.
func TestExplainLeaves(t *testing.T) {
	p := compiled(t, file(object{
		"typedAudiences": array{object{"id": "1", "name": "mixed", "conditions": parsed(t, `["or",
			["and",{"name":"p","type":"custom_attribute","match":"ge","value":1.50},{"name":"q","type":"custom_attribute","value":"x"}],
			["not",{"name":"list","type":"custom_attribute","match":"exists"}],
			{"name":"s","type":"third_party_dimension","match":"qualified","value":"vip"},
			{"name":"p","type":"custom_attribute","match":"odd","value":[1]}]`)}},
		"experiments":  array{ruleOf("1", object{"audienceConditions": array{"or", "1", "nobody"}})},
		"featureFlags": array{flagOf("f", "", "1")},
	}))
	u := userOf(t, p, "u", `{"p":1.50,"list":[1, 2]}`, "a", "b\"")
	e := p.Explain(t.Context(), u, "f", 0, nil)
	got, err := json.Marshal(e.Steps[0].Audience)
	require.NoError(t, err)
	require.JSONEq(t, `{"op":"or","result":"unknown","operands":[
		{"op":"audience","result":"unknown","id":"1","name":"mixed","operands":[{"op":"or","result":"unknown","operands":[
			{"op":"and","result":"unknown","operands":[
				{"op":"condition","result":"true","name":"p","match":"ge","want":1.50,"seen":1.50},
				{"op":"condition","result":"unknown","name":"q","match":"exact","want":"x"}]},
			{"op":"not","result":"false","operands":[{"op":"condition","result":"true","name":"list","match":"exists","want":null,"seen":[1,2]}]},
			{"op":"condition","result":"false","name":"s","match":"qualified","want":"vip","seen":["a","b\""]},
			{"op":"condition","result":"unknown","name":"p","match":"odd","want":[1],"seen":1.50}]}]},
		{"op":"condition","result":"unknown","name":"nobody","match":"unknown audience","want":null}]}`, string(got))
	require.True(t, bytes.Contains(got, []byte(`"want":1.50,"seen":1.50`)), "literals are kept")
	require.Equal(t, "q", e.FirstChange.Condition.Name)
	require.Equal(t, "true", e.FirstChange.MustBe)
}

// A free condition's attribute is its own; a free leaf can be anything, an
// attribute without a name or a match nobody knows can't change.
func freeTree(s *source, names *int) any {
	return s.tree(3, true, func() any {
		if s.pick(5) == 0 {
			return choose[any](s,
				object{"name": "x", "type": "custom_attribute", "match": "odd"}, object{"type": "custom_attribute", "match": "exists"},
				object{"name": "x", "type": "custom_attribute", "match": "gt", "value": "text"})
		}
		*names++
		return object{"name": fmt.Sprintf("a%d", *names), "type": "custom_attribute", "match": "exact", "value": "yes"}
	})
}

// setLeaf makes a free condition true or false.
func setLeaf(u *User, c *Change) {
	u.SetAttribute(c.Condition.Name, String(map[string]string{"true": "yes", "false": "no"}[c.MustBe]))
}

// Making the first changes one after the other leads into the audience; without
// one, no user is in it at all.
func TestFirstChange(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 5))
	made, impossible := 0, 0
	for range 2000 {
		s := &source{rand: rnd.IntN}
		names := 0
		tree := freeTree(s, &names)
		if names > 6 {
			continue
		}
		p := compiled(t, file(object{
			"typedAudiences": array{object{"id": "1", "name": "a", "conditions": tree}},
			"experiments":    array{ruleOf("1", object{"audienceIds": array{"1"}})}, "featureFlags": array{flagOf("f", "", "1")},
		}))
		u := userOf(t, p, "u", "")
		for i := range names {
			if k := rnd.IntN(3); k > 0 {
				u.SetAttribute(fmt.Sprintf("a%d", i+1), String([]string{"yes", "no"}[k-1]))
			}
		}
		e := p.Explain(t.Context(), u, "f", 0, nil)
		if e.Decision.VariationID() != "" {
			require.Nil(t, e.FirstChange)
			continue
		}
		if e.FirstChange == nil {
			impossible++
			require.False(t, anybodyIn(p, names), "%s", marshal(t, tree))
			continue
		}
		for n := 0; e.Decision.VariationID() == ""; n++ {
			require.LessOrEqual(t, n, names, "%s", marshal(t, tree))
			require.NotNil(t, e.FirstChange, "%s", marshal(t, tree))
			require.NotEqual(t, e.FirstChange.MustBe, e.FirstChange.Condition.Result)
			require.False(t, e.FirstChange.Condition.isConst)
			setLeaf(u, e.FirstChange)
			e = p.Explain(t.Context(), u, "f", 0, nil)
		}
		made++
	}
	require.Greater(t, made, 300)
	require.Greater(t, impossible, 100)
}

// anybodyIn tries every user that the conditions can tell apart.
func anybodyIn(p *Project, names int) bool {
	total := 1
	for range names {
		total *= 3
	}
	var u User
	for i := range total {
		u.Reset(p, "u")
		for k, n := 0, i; k < names; k, n = k+1, n/3 {
			if n%3 > 0 {
				u.SetAttribute(fmt.Sprintf("a%d", k+1), String([]string{"yes", "no"}[n%3-1]))
			}
		}
		if decided(&u, "f", 0, nil) != "- - rollout" {
			return true
		}
	}
	return false
}
