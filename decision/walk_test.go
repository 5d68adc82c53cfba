package decision

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The walk has steps in an order; a step that answers hides those behind it. A
// world is a project and user in which each step can be switched on by itself,
// and each answers with a variation of its own name.
//
// The steps, in the order of decide.md section 4.
var walkSteps = []string{
	"flag forced", "global holdout", "second global",
	"rule forced", "local holdout", "forced variation", "whitelist", "sticky", "bucketed",
	"second rule forced", "second local", "second bucketed",
	"delivery forced", "delivery local", "delivery bucketed",
	"second delivery", "everyone forced", "everyone local", "everyone bucketed",
}

// wanted is the outcome of each step.
var wanted = map[string]string{
	"flag forced": "forcedflag - feature-test", "global holdout": "hA hA holdout", "second global": "hB hB holdout",
	"rule forced": "forced1 r1 feature-test", "local holdout": "l1 l1 holdout", "forced variation": "set r1 feature-test",
	"whitelist": "listed r1 feature-test", "sticky": "sticky r1 feature-test", "bucketed": "v1 r1 feature-test",
	"second rule forced": "forced2 r2 feature-test", "second local": "l2 l2 holdout", "second bucketed": "v2 r2 feature-test",
	"delivery forced": "forced3 r3 rollout", "delivery local": "l3 l3 holdout", "delivery bucketed": "v3 r3 rollout",
	"second delivery": "v4 r4 rollout", "everyone forced": "forced5 r5 rollout", "everyone local": "l5 l5 holdout", "everyone bucketed": "v5 r5 rollout",
}

type world struct {
	p   *Project
	u   *User
	env *Env
}

// walkWorld makes a world in which the steps in on answer and no others.
func walkWorld(t *testing.T, on ...string) world {
	is := map[string]bool{}
	for _, s := range on {
		require.Contains(t, walkSteps, s)
		is[s] = true
	}
	all := func(isOn bool, id string) array {
		if isOn {
			return traffic(id + ":10000")
		}
		return array{}
	}
	one := func(id string, keys ...string) array {
		out := array{object{"id": id + "1", "key": "v" + id}}
		for i, k := range keys {
			out = append(out, object{"id": id + string(rune('2'+i)), "key": k})
		}
		return out
	}
	held := func(id string, isOn bool, rules ...any) object {
		return object{
			"id": id, "key": id, "status": "Running", "audienceIds": array{}, "includedRules": rules,
			"variations": array{object{"id": id + "v", "key": id}}, "trafficAllocation": all(isOn, id+"v"),
		}
	}
	f := file(object{
		"experiments": array{
			ruleOf("1", object{
				"variations":        one("1", "forcedflag", "forced1", "set", "listed", "sticky"),
				"trafficAllocation": all(is["bucketed"], "11"), "forcedVariations": object{},
			}),
			ruleOf("2", object{"variations": one("2", "forced2"), "trafficAllocation": all(is["second bucketed"], "21")}),
		},
		"rollouts": array{rolloutOf("R",
			ruleOf("3", object{"variations": one("3", "forced3"), "trafficAllocation": all(is["delivery bucketed"], "31")}),
			ruleOf("4", object{"trafficAllocation": all(is["second delivery"], "41")}),
			ruleOf("5", object{"variations": one("5", "forced5"), "trafficAllocation": all(is["everyone bucketed"], "51")}),
		)},
		"featureFlags":  array{flagOf("f", "R", "1", "2")},
		"holdouts":      array{held("hA", is["global holdout"]), held("hB", is["second global"])},
		"localHoldouts": array{held("l1", is["local holdout"], "1"), held("l2", is["second local"], "2"), held("l3", is["delivery local"], "3"), held("l5", is["everyone local"], "5")},
	})
	// Rule 3's audience lets rule 4 be tried when rule 3 has nothing to say.
	if is["second delivery"] && !is["delivery bucketed"] {
		f["rollouts"].(array)[0].(object)["experiments"].(array)[0].(object)["audienceIds"] = array{"nobody"}
	}
	if is["whitelist"] {
		f["experiments"].(array)[0].(object)["forcedVariations"] = object{"u": "listed"}
	}
	w := world{p: compiled(t, f), env: &Env{}}
	w.u = userOf(t, w.p, "u", "")
	for step, forced := range map[string][2]string{
		"flag forced": {"", "forcedflag"}, "rule forced": {"r1", "forced1"}, "second rule forced": {"r2", "forced2"},
		"delivery forced": {"r3", "forced3"}, "everyone forced": {"r5", "forced5"},
	} {
		if is[step] {
			w.u.SetForcedDecision("f", forced[0], forced[1])
		}
	}
	if is["forced variation"] {
		w.env.Forced = forcedVariations{"u/1": "14"}
	}
	if is["sticky"] {
		w.env.Profiles = &fakeProfiles{stored: &Profile{UserID: "u", Entries: map[string]ProfileEntry{"1": {VariationID: "16"}}}}
	}
	return w
}

// Every step answers alone, and of every two the earlier hides the later.
// Source: decide.md sections 4, 4.1 to 4.5.
func TestOrderOfSteps(t *testing.T) {
	require.Equal(t, "- - rollout", func() string { w := walkWorld(t); return decided(w.u, "f", 0, w.env) }())
	for i, first := range walkSteps {
		w := walkWorld(t, first)
		require.Equal(t, wanted[first], decided(w.u, "f", 0, w.env), "%s alone", first)
		for _, second := range walkSteps[i+1:] {
			w := walkWorld(t, first, second)
			require.Equal(t, wanted[first], decided(w.u, "f", 0, w.env), "%s hides %s", first, second)
			d := w.p.Decide(t.Context(), w.u, "f", IncludeReasons, w.env)
			require.NotEmpty(t, d.Reasons())
			e := w.p.Explain(t.Context(), w.u, "f", IncludeReasons, w.env)
			require.Equal(t, d, e.Decision, "%s and %s, explained", first, second)
		}
	}
	w := walkWorld(t, walkSteps...)
	require.Equal(t, wanted["flag forced"], decided(w.u, "f", 0, w.env), "all at once")
}

// A forced decision is validated against the flag's variations; an invalid one is
// as good as none. Source: decide.md DC-11 to DC-15, row 72.
func TestForcedDecisions(t *testing.T) {
	forced := func(steps []string, decisions ...string) string {
		w := walkWorld(t, steps...)
		for _, d := range decisions {
			f := strings.Split(d, "/")
			w.u.SetForcedDecision(f[0], f[1], f[2])
		}
		return decided(w.u, "f", 0, w.env)
	}
	b := []string{"bucketed"}
	require.Equal(t, "v1 r1 feature-test", forced(b, "f//nope"))
	require.Equal(t, "v1 r1 feature-test", forced(b, "f/r1/nope"))
	require.Equal(t, "v1 r1 feature-test", forced(b, "f//FORCED1"))
	require.Equal(t, "v1 r1 feature-test", forced(b, "g//forced1"), "another flag")
	require.Equal(t, "v1 r1 feature-test", forced(b, "f/r9/forced1"), "unknown rule")
	require.Equal(t, "v1 r1 feature-test", forced(b, "f/R1/forced1"), "keys are exact")
	require.Equal(t, "v1 r1 feature-test", forced(b, "f/r2/forced2"), "a later rule")
	require.Equal(t, "forced2 r1 feature-test", forced(b, "f/r1/forced2"), "a variation of another rule")
	require.Equal(t, "v5 r1 feature-test", forced(b, "f/r1/v5"), "a variation of a delivery rule")
	require.Equal(t, "v1 r3 rollout", forced(nil, "f/r3/v1"), "a variation of an experiment on a delivery rule")
	require.Equal(t, "forced1 - feature-test", forced(b, "f//forced1", "f/r1/forced2"))
	require.Equal(t, "forced2 r1 feature-test", forced(b, "f//nope", "f/r1/forced2"), "an invalid one for the flag doesn't hide one for the rule")
	require.Equal(t, "forced2 - feature-test", forced(b, "f//forced1", "f//forced2"), "the later of two replaces")
	require.Equal(t, "v1 r1 feature-test", forced(b, "f//forced1", "f//nope"), "even by an invalid one")

	// DC-15, DC-22: a delivery rule jumped over is never reached.
	require.Equal(t, "v5 r5 rollout", forced([]string{"everyone bucketed"}, "f/r4/v4"))
	require.Equal(t, "v4 r4 rollout", forced([]string{"everyone bucketed", "second delivery"}, "f/r4/v4"))

	w := walkWorld(t, "bucketed")
	w.u.SetForcedDecision("f", "r1", "nope")
	d := w.p.Decide(t.Context(), w.u, "f", IncludeReasons, nil)
	require.Equal(t, "forced_decision_invalid", codes(d.Reasons())[2], "%v", codes(d.Reasons()))
	w.u.SetForcedDecision("f", "r9", "nope")
	d = w.p.Decide(t.Context(), w.u, "f", IncludeReasons, nil)
	require.Equal(t, 1, strings.Count(strings.Join(codes(d.Reasons()), " "), "forced"), "unknown rules give no reason")
}

// What a forced decision for a rule doesn't look at, and isn't saved.
// Source: decide.md DC-14.
func TestForcedRuleLooksAtNothing(t *testing.T) {
	p := compiled(t, file(object{
		"experiments":   array{ruleOf("1", object{"status": "Paused", "audienceIds": array{"41"}, "trafficAllocation": array{}})},
		"featureFlags":  array{flagOf("f", "", "1")},
		"localHoldouts": array{holdout("8", object{"includedRules": array{"1"}})},
	}))
	profiles := &fakeProfiles{stored: &Profile{UserID: "u", Entries: map[string]ProfileEntry{"1": {VariationID: "x"}}}}
	u := userOf(t, p, "u", "")
	require.Equal(t, "held8 h8 holdout", decided(u, "f", 0, &Env{Profiles: profiles}), "DC-17: also when paused and out of the audience")
	u.SetForcedDecision("f", "r1", "v1")
	require.Equal(t, "v1 r1 feature-test", decided(u, "f", 0, &Env{Profiles: profiles}))
	require.Empty(t, profiles.saved)
}

// Statuses. Source: decide.md section 4.6, row 53.
func TestStatuses(t *testing.T) {
	for status, runs := range map[string]bool{
		"Running": true, "Paused": false, "Launched": false, "Not started": false, "Archived": false, "Draft": false, "Concluded": false, "": false, "running": false, " Running": false,
	} {
		p := compiled(t, file(object{
			"experiments":  array{ruleOf("1", object{"status": status, "forcedVariations": object{"w": "v1"}})},
			"rollouts":     array{rolloutOf("R", ruleOf("2", object{"status": status}))},
			"featureFlags": array{flagOf("f", "", "1"), flagOf("g", "R")},
		}))
		want := "- - rollout"
		if runs {
			want = "v1 r1 feature-test"
		}
		require.Equal(t, want, decided(userOf(t, p, "u", ""), "f", 0, nil), status)
		require.Equal(t, want, decided(userOf(t, p, "w", ""), "f", 0, nil), "whitelisted, %s", status)
		require.Equal(t, want, decided(userOf(t, p, "u", ""), "f", 0, &Env{Forced: forcedVariations{"u/1": "11"}}), status)
		require.Equal(t, "v2 r2 rollout", decided(userOf(t, p, "u", ""), "g", 0, nil), "DC-20: %s", status)
	}
}

// Delivery rules. Source: decide.md DC-20 to DC-24.
func TestDeliveryRules(t *testing.T) {
	pro, none := object{"audienceIds": array{"41"}}, object{"trafficAllocation": array{}}
	for name, row := range map[string]struct {
		rules array
		want  string
	}{
		"no rules":                       {array{}, "- - rollout"},
		"one rule":                       {array{ruleOf("1", nil)}, "v1 r1 rollout"},
		"one rule, audience not met":     {array{ruleOf("1", pro)}, "- - rollout"},
		"one rule, not bucketed":         {array{ruleOf("1", none)}, "- - rollout"},
		"audience not met: the next":     {array{ruleOf("1", pro), ruleOf("2", nil), ruleOf("3", nil)}, "v2 r2 rollout"},
		"not bucketed: the last":         {array{ruleOf("1", none), ruleOf("2", nil), ruleOf("3", nil)}, "v3 r3 rollout"},
		"not bucketed twice":             {array{ruleOf("1", none), ruleOf("2", nil), ruleOf("3", none)}, "- - rollout"},
		"the last has an audience too":   {array{ruleOf("1", none), ruleOf("2", pro)}, "- - rollout"},
		"free traffic is not bucketed":   {array{ruleOf("1", object{"trafficAllocation": traffic(":10000")}), ruleOf("2", nil), ruleOf("3", nil)}, "v3 r3 rollout"},
		"unknown entity is not bucketed": {array{ruleOf("1", object{"trafficAllocation": traffic("zz:10000")}), ruleOf("2", nil), ruleOf("3", nil)}, "v3 r3 rollout"},
		"paused and listed":              {array{ruleOf("1", object{"status": "Paused", "forcedVariations": object{"u": "other"}})}, "v1 r1 rollout"},
		"DC-24: a bandit gives nothing":  {array{ruleOf("1", object{"cmab": object{"trafficAllocation": 10000}}), ruleOf("2", nil), ruleOf("3", nil)}, "v3 r3 rollout"},
		"a bandit out of the audience":   {array{ruleOf("1", object{"audienceIds": array{"41"}, "cmab": object{"trafficAllocation": 10000}}), ruleOf("2", nil), ruleOf("3", nil)}, "v2 r2 rollout"},
		"a bandit as the last":           {array{ruleOf("1", object{"cmab": object{"trafficAllocation": 10000}})}, "- - rollout"},
		"type fr injects nothing here":   {array{ruleOf("1", object{"type": "fr", "trafficAllocation": array{}}), ruleOf("2", none)}, "- - rollout"},
		"second to last, not bucketed":   {array{ruleOf("1", pro), ruleOf("2", none), ruleOf("3", nil)}, "v3 r3 rollout"},
		"the last isn't visited twice":   {array{ruleOf("1", none), ruleOf("2", none)}, "- - rollout"},
	} {
		f := file(object{
			"rollouts":     array{rolloutOf("R", row.rules...)},
			"featureFlags": array{flagOf("f", "R")},
			"groups":       array{object{"id": "G", "policy": "random", "trafficAllocation": array{}, "experiments": array{}}},
		})
		p := compiled(t, f)
		profiles := &fakeProfiles{stored: &Profile{UserID: "u", Entries: map[string]ProfileEntry{"1": {VariationID: "11"}}}}
		predictor := &fakePredictor{answers: map[string]Prediction{"1": {VariationID: "11"}}}
		u := userOf(t, p, "u", "")
		require.Equal(t, row.want, decided(u, "f", 0, &Env{Profiles: profiles, Predictor: predictor, Forced: forcedVariations{"u/1": "11"}}), name)
		require.Empty(t, profiles.saved, name)
		require.Empty(t, predictor.queries, name)
		visited := map[string]int{}
		for _, s := range p.Explain(t.Context(), u, "f", 0, nil).Steps {
			visited[s.RuleID]++
			require.Equal(t, 1, visited[s.RuleID], name)
		}
	}
}

// The same experiment listed twice is just visited twice.
func TestExperimentListedTwice(t *testing.T) {
	p := compiled(t, file(object{
		"experiments":  array{ruleOf("1", object{"trafficAllocation": array{}}), ruleOf("2", nil)},
		"featureFlags": array{flagOf("f", "", "1", "1", "2", "2")},
	}))
	require.Equal(t, "v2 r2 feature-test", decided(userOf(t, p, "u", ""), "f", 0, nil))
	require.Len(t, p.Explain(t.Context(), userOf(t, p, "u", ""), "f", 0, nil).Steps, 3)
}

// Whitelist and forced variation with variations the rule doesn't have.
// Source: decide.md 4.4 steps 2 to 4, DC-19.
func TestUnknownVariations(t *testing.T) {
	p := compiled(t, file(object{
		"experiments": array{ruleOf("1", object{
			"forcedVariations": object{"u": "nope", "": "v1", "é": "v1"}, "audienceIds": array{"41"}, "trafficAllocation": array{},
		})},
		"featureFlags": array{flagOf("f", "", "1")},
	}))
	profile := &Env{
		Forced:   forcedVariations{"u/1": "nope"},
		Profiles: &fakeProfiles{stored: &Profile{UserID: "u", Entries: map[string]ProfileEntry{"1": {VariationID: "11"}}}},
	}
	u := userOf(t, p, "u", "")
	require.Equal(t, "v1 r1 feature-test", decided(u, "f", 0, profile), "forced and listed for nothing, sticky counts")
	require.Equal(t, "- - rollout", decided(u, "f", IgnoreUserProfileService, profile))
	d := p.Decide(t.Context(), u, "f", IncludeReasons, profile)
	require.Equal(t, []string{"whitelist_invalid", "sticky"}, codes(d.Reasons()))
	for _, user := range []string{"", "é"} {
		require.Equal(t, "v1 r1 feature-test", decided(userOf(t, p, user, ""), "f", 0, nil), "%q is listed", user)
	}
	for _, user := range []string{"e\u0301", "U", " "} {
		require.Equal(t, "- - rollout", decided(userOf(t, p, user, ""), "f", 0, nil), "%q isn't", user)
	}
}
