package decision

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// lookup_test.go holds the table of datafile.md section 5: which of several
// entities with one id or key counts.

func TestRepeatedAudiences(t *testing.T) {
	all, nobody := parsed(t, `["and"]`), parsed(t, `["or"]`)
	audience := func(conditions any) object { return object{"id": "1", "name": "a", "conditions": conditions} }
	legacy := func(text string) object { return object{"id": "1", "name": "a", "conditions": text} }
	for name, row := range map[string]struct {
		legacy, typed array
		want          string
	}{
		"typed replaces legacy":      {array{legacy(`["or"]`)}, array{audience(all)}, "v1"},
		"typed replaces legacy, off": {array{legacy(`["and"]`)}, array{audience(nobody)}, "-"},
		"last typed":                 {array{}, array{audience(nobody), audience(all)}, "v1"}, // row 12
		"last typed, off":            {array{}, array{audience(all), audience(nobody)}, "-"},
		"last legacy":                {array{legacy(`["or"]`), legacy(`["and"]`)}, array{}, "v1"},
	} {
		p := compiled(t, file(object{
			"audiences": row.legacy, "typedAudiences": row.typed,
			"experiments":  array{ruleOf("1", object{"audienceIds": array{"1"}})},
			"featureFlags": array{flagOf("f", "", "1")},
		}))
		require.Equal(t, row.want, strings.Fields(decided(userOf(t, p, "u", ""), "f", 0, nil))[0], name)
	}
}

// Attributes, events: the last of a key counts; of attributes also the last of an id.
func TestRepeatedAttributesAndEvents(t *testing.T) {
	p := compiled(t, file(object{
		"attributes": array{object{"id": "1", "key": "a"}, object{"id": "2", "key": "a"}, object{"id": "3", "key": "b"}, object{"id": "3", "key": "c"}},
		"events":     array{object{"id": "8", "key": "e", "experimentIds": array{}}, object{"id": "9", "key": "e", "experimentIds": array{}}},
		"experiments": array{ruleOf("1", object{
			"cmab": object{"attributeIds": array{"1", "3", "2", "3", "nope"}, "trafficAllocation": 10000},
		})},
		"featureFlags": array{flagOf("f", "", "1")},
	}))
	c, ok := p.Conversion("e", nil)
	require.True(t, ok)
	require.Equal(t, "9", c.EntityID)
	u := userOf(t, p, "u", `{"a":1,"b":2,"c":3}`)
	require.Contains(t, string(c.AppendVisitor(nil, u, testUUID, 1)), `{"entity_id":"2","key":"a","type":"custom","value":1}`)
	predictor := &fakePredictor{}
	decided(u, "f", 0, &Env{Predictor: predictor})
	require.Len(t, predictor.queries, 1)
	require.Equal(t, []PredictionAttribute{{"1", withEpoch(Number("1"), u)}, {"3", withEpoch(Number("3"), u)}, {"2", withEpoch(Number("1"), u)}}, predictor.queries[0].Attributes)
	require.Equal(t, 3, p.Summary().Attributes)
}

func withEpoch(v Value, u *User) Value {
	v.epoch = u.epoch
	return v
}

// Experiments: the last of an id counts, those in groups before plain ones;
// delivery rules stand apart. Source: DF-P9, sdk-differences.md row 8.
func TestRepeatedExperiments(t *testing.T) {
	named := func(id, key string) object { return ruleOf(id, object{"key": key}) }
	group := func(id string, rules ...any) object {
		return object{"id": id, "policy": "overlapping", "trafficAllocation": array{}, "experiments": rules}
	}
	for name, row := range map[string]struct {
		experiments, groups array
		want                string
	}{
		"last plain":                  {array{named("1", "x"), named("1", "y")}, array{}, "v1 y feature-test"},
		"group before plain":          {array{named("1", "x"), named("1", "y")}, array{group("G", named("1", "z"))}, "v1 z feature-test"},
		"last group":                  {array{}, array{group("G", named("1", "x")), group("H", named("1", "y"))}, "v1 y feature-test"},
		"delivery rule of the id":     {array{named("1", "x")}, array{}, "v1 x feature-test"},
		"only the delivery rule":      {array{}, array{}, "v1 delivery feature-test"},
		"group before delivery rules": {array{}, array{group("G", named("1", "z"))}, "v1 z feature-test"},
	} {
		p := compiled(t, file(object{
			"experiments": row.experiments, "groups": row.groups,
			"rollouts":     array{rolloutOf("R", named("1", "delivery"))},
			"featureFlags": array{flagOf("f", "", "1"), flagOf("g", "R")},
		}))
		u := userOf(t, p, "u", "")
		require.Equal(t, row.want, decided(u, "f", 0, nil), name)
		require.Equal(t, "v1 delivery rollout", decided(u, "g", 0, nil), "%s: the rollout keeps its own", name)
	}
}

// The last group of an id lends its allocation. Source: section 5, "group by id".
func TestRepeatedGroups(t *testing.T) {
	group := func(policy, allocation string, rules ...any) object {
		return object{"id": "G", "policy": policy, "trafficAllocation": traffic(allocation), "experiments": rules}
	}
	p := compiled(t, file(object{
		"groups":       array{group("random", "", ruleOf("1", nil)), group("random", "1:10000", ruleOf("2", nil))},
		"featureFlags": array{flagOf("f", "", "1"), flagOf("g", "", "2")},
	}))
	u := userOf(t, p, "u", "")
	require.Equal(t, "v1 r1 feature-test", decided(u, "f", 0, nil))
	require.Equal(t, "- - rollout", decided(u, "g", 0, nil))
}

// groupId and groupPolicy written on a rule are ignored. Source: DF-P8, row 7.
func TestStrayGroup(t *testing.T) {
	p := compiled(t, file(object{
		"groups":       array{object{"id": "G", "policy": "random", "trafficAllocation": array{}, "experiments": array{}}},
		"experiments":  array{ruleOf("1", object{"groupId": "G", "groupPolicy": "random"})},
		"featureFlags": array{flagOf("f", "", "1")},
	}))
	require.Equal(t, "v1 r1 feature-test", decided(userOf(t, p, "u", ""), "f", 0, nil))
}

// Variations are found by id whatever their keys, inside the rule itself.
// Source: DF-P10, DF-P11, sdk-differences.md rows 9, 10.
func TestRepeatedVariations(t *testing.T) {
	two := array{object{"id": "11", "key": "same"}, object{"id": "12", "key": "same"}}
	p := compiled(t, file(object{
		"experiments": array{
			ruleOf("1", object{"key": "twin", "variations": two, "trafficAllocation": traffic("11:10000"), "forcedVariations": object{"w": "same", "x": "other"}}),
			ruleOf("2", object{"key": "twin", "variations": array{object{"id": "21", "key": "other"}}, "trafficAllocation": traffic("21:10000"), "forcedVariations": object{"w": "nope"}}),
		},
		"featureFlags": array{flagOf("f", "", "1"), flagOf("g", "", "2")},
	}))
	decide := func(user, flag string, env *Env) string {
		d := p.Decide(t.Context(), userOf(t, p, user, ""), flag, 0, env)
		key, _ := d.VariationKey()
		return d.VariationID() + " " + key
	}
	require.Equal(t, "11 same", decide("u", "f", nil), "the id that traffic names")
	require.Equal(t, "12 same", decide("w", "f", nil), "the last of a key")
	require.Equal(t, "11 same", decide("x", "f", nil), "the other rule's key isn't this rule's")
	require.Equal(t, "21 other", decide("w", "g", nil))
	profile := func(id string) *Env {
		return &Env{Profiles: &fakeProfiles{stored: &Profile{Entries: map[string]ProfileEntry{"1": {VariationID: id}, "2": {VariationID: id}}}}}
	}
	require.Equal(t, "12 same", decide("u", "f", profile("12")))
	require.Equal(t, "21 other", decide("u", "g", profile("12")), "a sticky variation of another rule")
	require.Equal(t, "12 same", decide("u", "f", &Env{Forced: forcedVariations{"u/1": "12"}}))
	require.Equal(t, "11 same", decide("u", "f", &Env{Forced: forcedVariations{"u/1": "21"}}), "set to a variation that isn't the rule's")
}

// One variation id in two experiments: each keeps its own variables; events carry
// the flag's first key of the id. Source: DF-P12, row 11; events.md EV-21.
func TestSharedVariationID(t *testing.T) {
	variation := func(key, value string) array {
		return array{object{"id": "7", "key": key, "featureEnabled": true, "variables": array{object{"id": "9", "value": value}}}}
	}
	f := flagOf("f", "", "1", "2")
	f["variables"] = array{object{"id": "9", "key": "v", "type": "string", "defaultValue": "d"}}
	p := compiled(t, file(object{
		"experiments": array{
			ruleOf("1", object{"audienceIds": array{"41"}, "variations": variation("one", "1"), "trafficAllocation": traffic("7:10000")}),
			ruleOf("2", object{"variations": variation("two", "2"), "trafficAllocation": traffic("7:10000")}),
		},
		"featureFlags": array{f},
	}))
	d := p.Decide(t.Context(), userOf(t, p, "u", `{"plan":"pro"}`), "f", 0, nil)
	require.Equal(t, `{"v":"1"}`, d.VariablesJSON())
	d = p.Decide(t.Context(), userOf(t, p, "u", ""), "f", 0, nil)
	require.Equal(t, `{"v":"2"}`, d.VariablesJSON())
	require.Equal(t, "two r2 feature-test", outcome(&d))
	require.Equal(t, "one", AppendImpressions(nil, []Decision{d})[0].VariationKey)

	u := userOf(t, p, "u", "")
	u.SetForcedDecision("f", "", "two") // the second of an id isn't among the flag's variations
	require.Equal(t, "two r2 feature-test", decided(u, "f", 0, nil))
	u.SetForcedDecision("f", "", "one")
	require.Equal(t, "one - feature-test", decided(u, "f", 0, nil))
}

// Flags: the last content at the first place, decided once. Source: DF-24, DF-P13.
func TestRepeatedFlags(t *testing.T) {
	p := compiled(t, file(object{
		"experiments":  array{ruleOf("1", nil), ruleOf("2", nil)},
		"featureFlags": array{flagOf("f", "", "1"), flagOf("g", "", "1"), flagOf("f", "", "2")},
	}))
	require.Equal(t, 2, p.NumFlags())
	require.Equal(t, []string{"f", "g"}, []string{p.FlagKey(0), p.FlagKey(1)})
	all := p.DecideAll(t.Context(), nil, userOf(t, p, "u", ""), 0, nil)
	require.Len(t, all, 2)
	require.Equal(t, "v2 r2 feature-test", outcome(&all[0]))
	require.Equal(t, "v1 r1 feature-test", outcome(&all[1]))
	require.Len(t, p.Warnings(), 1)
}

// Delivery rules with one id are all kept, in order; the last rollout of an id
// counts. Source: section 5, row 13.
func TestRepeatedDeliveryRules(t *testing.T) {
	p := compiled(t, file(object{
		"rollouts": array{
			rolloutOf("R", ruleOf("9", nil)),
			rolloutOf("R", ruleOf("1", object{"key": "first", "audienceIds": array{"41"}}), ruleOf("1", object{"key": "second"})),
		},
		"featureFlags": array{flagOf("f", "R")},
	}))
	require.Equal(t, "v1 first rollout", decided(userOf(t, p, "u", `{"plan":"pro"}`), "f", 0, nil))
	require.Equal(t, "v1 second rollout", decided(userOf(t, p, "u", ""), "f", 0, nil))
}

// A flag's variations: the first of an id, found by the first key, experiment
// rules before delivery rules. Source: section 5, DC-12, row 73.
func TestFlagVariations(t *testing.T) {
	variations := func(list ...string) array {
		out := array{}
		for _, v := range list {
			id, key, _ := strings.Cut(v, ":")
			out = append(out, object{"id": id, "key": key})
		}
		return out
	}
	p := compiled(t, file(object{
		"experiments": array{
			ruleOf("1", object{"variations": variations("5:b", "3:a")}),
			ruleOf("2", object{"variations": variations("2:a", "5:c", "6:d")}),
		},
		"rollouts":     array{rolloutOf("R", ruleOf("3", object{"variations": variations("1:a", "7:d", "8:e")}))},
		"holdouts":     array{object{"id": "H", "key": "h", "status": "Running", "audienceIds": array{"nobody"}, "trafficAllocation": array{}, "variations": variations("99:held")}},
		"featureFlags": array{flagOf("f", "R", "2", "1")},
	}))
	for key, want := range map[string]string{"a": "2", "c": "5", "d": "6", "e": "8", "b": "", "held": "", "A": "", "": ""} {
		u := userOf(t, p, "u", "")
		u.SetForcedDecision("f", "", key)
		d := p.Decide(t.Context(), u, "f", 0, nil)
		require.Equal(t, want, d.VariationID(), key)
		if _, hasRule := d.RuleKey(); want != "" {
			require.False(t, hasRule)
			require.Equal(t, RuleExperiment, d.RuleType())
		}
	}
}

// Source: datafile.md DF-23, row 18.
func TestIntegrations(t *testing.T) {
	for text, want := range map[string]string{
		`[]`: "|", `[{"key":"odp","host":"h","publicKey":"p"}]`: "h|p",
		`[{"key":"odp","host":"h"},{"key":"odp","host":"x","publicKey":"p"}]`:                 "|", // the first wins whole
		`[{"key":"odp","host":"h","publicKey":"p"},{"key":"odp","host":"x","publicKey":"y"}]`: "h|p",
		`[{"key":"x","host":"h","publicKey":"p"},{"key":"","host":"h","publicKey":"p"}]`:      "|",
		`[{"key":"x"},{"key":"odp","host":"h","publicKey":"p","pixelUrl":"u"}]`:               "h|p",
		`[{"key":"ODP","host":"h","publicKey":"p"}]`:                                          "|",
		`[{"key":"odp","host":"","publicKey":"p"}]`:                                           "|",
	} {
		host, key := compiled(t, file(object{"integrations": parsed(t, text)})).ODP()
		require.Equal(t, want, host+"|"+key, text)
	}
}

// Source: datafile.md DF-26, DF-P14, row 17.
func TestSegments(t *testing.T) {
	q := func(s string) string {
		return `{"name":"odp.audiences","type":"third_party_dimension","match":"qualified","value":"` + s + `"}`
	}
	typed := func(id, conditions string) object {
		return object{"id": id, "name": id, "conditions": parsed(t, conditions)}
	}
	legacy := func(id, conditions string) object {
		return object{"id": id, "name": id, "conditions": conditions}
	}
	p := compiled(t, file(object{
		"typedAudiences": array{typed("1", `["or",`+q("a")+`,`+q("b")+`]`), typed("2", `["and",`+q("a")+`,["not",`+q("c")+`]]`)},
		"audiences":      array{legacy("3", `["or",`+q("d")+`,`+q("a")+`]`)},
	}))
	require.Equal(t, []string{"a", "b", "c", "d"}, p.Segments())
	p.Segments()[0] = "changed"
	require.Equal(t, "a", p.Segments()[0], "a copy")

	p = compiled(t, file(object{
		"typedAudiences": array{
			typed("1", q("new")), typed("2", `["or",["and",["not",["or",`+q("deep")+`]]]]`), typed("9", q("replaced")), typed("9", q("last")),
			typed("3", `{"name":"x","type":"odd","match":"qualified","value":"anytype"}`),
			typed("4", `["or",`+q("")+`,{"match":"qualified","value":5},{"match":"qualified"},{"match":"exact","value":"no"},{"match":"Qualified","value":"no"}]`),
			typed("5", `["xor",`+q("malformed")+`]`),
		},
		"audiences": array{legacy("1", q("old")), legacy("7", `["or",`+q("legacy")+`,`+q("new")+`]`)},
	}))
	require.Equal(t, []string{"new", "deep", "last", "anytype", "malformed", "legacy"}, p.Segments())
	require.Empty(t, compiled(t, file(nil)).Segments())
}
