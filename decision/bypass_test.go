package decision

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Global holdouts that exclude targeted deliveries. Source: decide.md DC-17a,
// DC-40a; sdk-differences.md rows 79a, 79b.

// bypassing is a project with a holdout that excludes targeted deliveries, an
// experiment and a targeted delivery in this order, and a rollout.
func bypassing(members object) object {
	f := file(object{
		"experiments":  array{ruleOf("1", object{"type": "ab"}), ruleOf("2", object{"type": "td"})},
		"rollouts":     array{rolloutOf("R", ruleOf("3", nil))},
		"featureFlags": array{flagOf("f", "R", "1", "2")},
		"holdouts":     array{holdout("8", object{"excludeTargetedDeliveries": true})},
	})
	for k, v := range members {
		f[k] = v
	}
	return f
}

func TestBypassedHoldout(t *testing.T) {
	out := object{"type": "td", "trafficAllocation": array{}}
	bandit := func(members object) object {
		r := ruleOf("2", object{"type": "td", "cmab": object{"trafficAllocation": 10000}})
		for k, v := range members {
			r[k] = v
		}
		return r
	}
	local := func(rule string) array { return array{holdout("9", object{"includedRules": array{rule}})} }
	only := func(rules ...any) array { return rules }
	const held = "8·81·holdout"
	for name, row := range map[string]struct {
		members object
		want    string
		sent    []string // without sendFlagDecisions
		all     []string // with
	}{
		"the targeted delivery":         {nil, "v2 r2 feature-test", events(held, "2·21·feature-test"), events(held, "2·21·feature-test")},
		"not in its traffic":            {object{"experiments": only(ruleOf("1", nil), ruleOf("2", out))}, "v3 r3 rollout", events(held), events(held, "3·31·rollout")},
		"no type":                       {object{"experiments": only(ruleOf("1", nil), ruleOf("2", nil))}, "v3 r3 rollout", events(held), events(held, "3·31·rollout")},
		"TD is no td":                   {object{"experiments": only(ruleOf("1", nil), ruleOf("2", object{"type": "TD"}))}, "v3 r3 rollout", events(held), events(held, "3·31·rollout")},
		"nothing else":                  {object{"rollouts": only(rolloutOf("R")), "experiments": only(ruleOf("1", nil), ruleOf("2", out))}, "- - rollout", events(held), events(held, "··rollout")},
		"local holdout of a skipped":    {object{"localHoldouts": local("1")}, "v2 r2 feature-test", events(held, "2·21·feature-test"), events(held, "2·21·feature-test")},
		"local holdout of the td":       {object{"localHoldouts": local("2")}, "held9 h9 holdout", events("9·91·holdout"), events("9·91·holdout")},
		"local holdout of the delivery": {object{"localHoldouts": local("3"), "experiments": only(ruleOf("1", nil), ruleOf("2", out))}, "held9 h9 holdout", events("9·91·holdout"), events("9·91·holdout")},
		"an error":                      {object{"experiments": only(ruleOf("1", nil), bandit(nil))}, "error cmab_fetch_failed", events(), events()},
		"a further global holdout":      {object{"holdouts": only(holdout("8", object{"excludeTargetedDeliveries": true}), holdout("7", nil))}, "v2 r2 feature-test", events(held, "2·21·feature-test"), events(held, "2·21·feature-test")},
		"an earlier global holdout":     {object{"holdouts": only(holdout("7", nil), holdout("8", object{"excludeTargetedDeliveries": true}))}, "held7 h7 holdout", events("7·71·holdout"), events("7·71·holdout")},
		"user isn't held out":           {object{"holdouts": only(holdout("8", object{"excludeTargetedDeliveries": true, "trafficAllocation": array{}}))}, "v1 r1 feature-test", events("1·11·feature-test"), events("1·11·feature-test")},
		"not running":                   {object{"holdouts": only(holdout("8", object{"excludeTargetedDeliveries": true, "status": "Draft"}))}, "v1 r1 feature-test", events("1·11·feature-test"), events("1·11·feature-test")},
		"false":                         {object{"holdouts": only(holdout("8", object{"excludeTargetedDeliveries": false}))}, "held8 h8 holdout", events(held), events(held)},
		"null":                          {object{"holdouts": only(holdout("8", object{"excludeTargetedDeliveries": nil}))}, "held8 h8 holdout", events(held), events(held)},
		"text":                          {object{"holdouts": only(holdout("8", object{"excludeTargetedDeliveries": "true"}))}, "held8 h8 holdout", events(held), events(held)},
		"number":                        {object{"holdouts": only(holdout("8", object{"excludeTargetedDeliveries": 1}))}, "held8 h8 holdout", events(held), events(held)},
	} {
		for _, sends := range []bool{false, true} {
			f := bypassing(row.members)
			f["sendFlagDecisions"] = sends
			want := row.sent
			if sends {
				want = row.all
			}
			p := compiled(t, f)
			u := userOf(t, p, "u", "")
			d := p.Decide(t.Context(), u, "f", 0, nil)
			require.Equal(t, row.want, outcome(&d), name)
			require.Equal(t, want, sent(d), name)
			require.Equal(t, len(want) > 0, d.IsDispatched(), name)
			quiet := p.Decide(t.Context(), u, "f", DisableDecisionEvent, nil)
			require.Empty(t, sent(quiet), name)
			require.False(t, quiet.IsDispatched())
		}
	}
}

func events(list ...string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// Skipped rules are skipped whole: forced decisions too. A decision forced for
// the flag comes before holdouts, and there is none to bypass then.
func TestForcedPastBypassedHoldout(t *testing.T) {
	p := compiled(t, bypassing(nil))
	u := userOf(t, p, "u", "")
	u.SetForcedDecision("f", "r1", "v1")
	require.Equal(t, "v2 r2 feature-test", decided(u, "f", 0, nil))
	u.SetForcedDecision("f", "r2", "v3")
	d := p.Decide(t.Context(), u, "f", 0, nil)
	require.Equal(t, "v3 r2 feature-test", outcome(&d))
	require.Equal(t, []string{"8·81·holdout", "2·31·feature-test"}, sent(d))
	u.SetForcedDecision("f", "", "v1")
	d = p.Decide(t.Context(), u, "f", 0, nil)
	require.Equal(t, []string{"·11·feature-test"}, sent(d))
}

// The holdout's impression names the holdout and the flag, and carries no
// prediction of the rule behind it.
func TestBypassedImpression(t *testing.T) {
	p := compiled(t, bypassing(object{"experiments": array{ruleOf("1", nil), ruleOf("2", object{"type": "td", "cmab": object{"trafficAllocation": 10000}})}}))
	u := userOf(t, p, "u", "")
	d := p.Decide(t.Context(), u, "f", ExcludeVariables, &Env{Predictor: &fakePredictor{answers: map[string]Prediction{"2": {"21", "uuid-1"}}}})
	got := AppendImpressions(nil, []Decision{d})
	require.Len(t, got, 2)
	require.JSONEq(t, `{"visitor_id":"u","attributes":[],"snapshots":[{"decisions":[{"campaign_id":"8","experiment_id":"8","variation_id":"81",
		"metadata":{"flag_key":"f","rule_key":"h8","rule_type":"holdout","variation_key":"held8","enabled":false}}],
		"events":[{"entity_id":"8","key":"campaign_activated","uuid":"`+testUUID+`","timestamp":5}]}]}`, string(got[0].AppendVisitor(nil, u, testUUID, 5)))
	require.JSONEq(t, `{"visitor_id":"u","attributes":[],"snapshots":[{"decisions":[{"campaign_id":"L2","experiment_id":"2","variation_id":"21",
		"metadata":{"flag_key":"f","rule_key":"r2","rule_type":"feature-test","variation_key":"v2","enabled":true,"cmab_uuid":"uuid-1"}}],
		"events":[{"entity_id":"L2","key":"campaign_activated","uuid":"`+testUUID+`","timestamp":5}]}]}`, string(got[1].AppendVisitor(nil, u, testUUID, 5)))
}
