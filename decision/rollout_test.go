package decision

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Feature rollouts: experiments of type "fr" fall through to the flag's
// everyone-else variation. Source: datafile.md section 4.4.

// featureRollout has flag f with experiment 1 (v1 below 3000) of this type, and
// a rollout whose rules are given.
func featureRollout(typ string, allocation string, rules ...any) object {
	return file(object{
		"experiments": array{ruleOf("1", object{
			"type": typ, "trafficAllocation": traffic(allocation), "forcedVariations": object{"w": "else"},
		})},
		"rollouts":     array{rolloutOf("R", rules...)},
		"featureFlags": array{flagOf("f", "R", "1")},
	})
}

// everyoneElse is a rule whose first variation has the key "else"; it gives
// nobody anything itself.
func everyoneElse(id string) object {
	return ruleOf(id, object{
		"variations":        array{object{"id": id + "9", "key": "else", "featureEnabled": true}, object{"id": id + "8", "key": "other"}},
		"trafficAllocation": array{},
	})
}

func TestFeatureRollout(t *testing.T) {
	const none, injected = "- - rollout", "else r1 feature-test"
	require.Equal(t, 4732, Bucket(Hash("u1")))
	for name, row := range map[string]struct {
		file object
		want string
	}{
		"DF-14: the first variation of the last rule": {featureRollout("fr", "11:3000", ruleOf("2", object{"audienceIds": array{"41"}}), everyoneElse("3")), injected},
		"own traffic comes first":                     {featureRollout("fr", "11:5000", everyoneElse("3")), "v1 r1 feature-test"},
		"DF-16: empty rollout":                        {featureRollout("fr", "11:3000"), none},
		"DF-16: no variation":                         {featureRollout("fr", "11:3000", ruleOf("2", nil), ruleOf("3", object{"variations": array{}, "trafficAllocation": array{}})), "v2 r2 rollout"},
		"DF-17: free traffic up to the end hides it":  {featureRollout("fr", "11:3000, :10000", everyoneElse("3")), none},
		"DF-17: free traffic below":                   {featureRollout("fr", "11:3000, :4000", everyoneElse("3")), injected},
		"feature_rollout is no fr":                    {featureRollout("feature_rollout", "11:3000", everyoneElse("3")), none},
		"FR is no fr":                                 {featureRollout("FR", "11:3000", everyoneElse("3")), none},
		"ab":                                          {featureRollout("ab", "11:3000", everyoneElse("3")), none},
	} {
		require.Equal(t, row.want, decided(userOf(t, compiled(t, row.file), "u", ""), "f", 0, nil), name)
	}
	f := featureRollout("fr", "11:3000", everyoneElse("3"))
	f["featureFlags"] = array{flagOf("f", "", "1")}
	require.Equal(t, none, decided(userOf(t, compiled(t, f), "u", ""), "f", 0, nil), "no rollout")
}

// The injected variation is one of the experiment's own. Source: DF-15.
func TestInjectedVariation(t *testing.T) {
	p := compiled(t, featureRollout("fr", "11:3000", everyoneElse("3")))
	d := p.Decide(t.Context(), userOf(t, p, "u", ""), "f", 0, nil)
	require.Equal(t, []string{"1·39·feature-test"}, sent(d))
	require.Equal(t, "else r1 feature-test", decided(userOf(t, p, "w", ""), "f", 0, nil), "whitelist")

	saving := &fakeProfiles{}
	require.Equal(t, "else r1 feature-test", decided(userOf(t, p, "u", ""), "f", 0, &Env{Profiles: saving}))
	require.Equal(t, "39", saving.saved[0].Entries["1"].VariationID, "saved")
	stored := &Env{Profiles: &fakeProfiles{stored: &Profile{Entries: map[string]ProfileEntry{"1": {VariationID: "39"}}}}}
	require.Equal(t, "else r1 feature-test", decided(userOf(t, p, "u4", ""), "f", 0, stored), "read")
	require.Equal(t, "else r1 feature-test", decided(userOf(t, p, "u", ""), "f", 0, &Env{Forced: forcedVariations{"u/1": "39"}}), "forced variation")
	u := userOf(t, p, "u", "")
	u.SetForcedDecision("f", "r1", "else")
	require.Equal(t, "else r1 feature-test", decided(u, "f", 0, nil), "forced decision")
	u.SetForcedDecision("f", "r1", "other")
	require.Equal(t, "other r1 feature-test", decided(u, "f", 0, nil), "only the first is injected, but the flag has both")
}

// A shared experiment gets one injection per flag; the first flag's counts for
// both. Source: DF-18, row 15.
func TestSharedFeatureRollout(t *testing.T) {
	build := func(flags ...any) *Project {
		return compiled(t, file(object{
			"experiments": array{ruleOf("1", object{"type": "fr", "trafficAllocation": array{}})},
			"rollouts": array{
				rolloutOf("R", ruleOf("2", object{"trafficAllocation": array{}})), rolloutOf("S", ruleOf("3", object{"trafficAllocation": array{}})),
			},
			"featureFlags": flags,
		}))
	}
	for _, row := range []struct {
		flags []any
		want  string
	}{
		{[]any{flagOf("f", "R", "1"), flagOf("g", "S", "1")}, "v2 r1 feature-test"},
		{[]any{flagOf("g", "S", "1"), flagOf("f", "R", "1")}, "v3 r1 feature-test"},
		{[]any{flagOf("e", "", "1"), flagOf("g", "S", "1"), flagOf("f", "R", "1")}, "v3 r1 feature-test"},
	} {
		p := build(row.flags...)
		for _, flag := range []string{"f", "g"} {
			require.Equal(t, row.want, decided(userOf(t, p, "u", ""), flag, 0, nil), "%s of %v", flag, row.flags)
		}
	}
}

// Flags before the one whose rollout lends the variation give it to users, but
// don't count it among theirs: events name no variation, and it can't be forced.
// Recorded from Python 5.7.0; a repeated flag key lends by its last content.
func TestLentVariation(t *testing.T) {
	build := func(flags ...any) *Project {
		return compiled(t, file(object{
			"experiments":  array{ruleOf("1", object{"type": "fr", "trafficAllocation": array{}})},
			"rollouts":     array{rolloutOf("R", everyoneElse("2"))},
			"featureFlags": flags,
		}))
	}
	p := build(flagOf("before", "", "1"), flagOf("lender", "R", "1"), flagOf("after", "", "1"))
	for flag, want := range map[string]string{"before": `"variation_id":null,`, "lender": `"variation_id":"29",`, "after": `"variation_id":"29",`} {
		u := userOf(t, p, "u", "")
		require.Equal(t, "else r1 feature-test", decided(u, flag, 0, nil), flag)
		part := decisionPart(t, p, u, flag, nil)
		require.Contains(t, part, want, flag)
		require.Equal(t, flag == "before", strings.Contains(part, `"variation_key":"",`), flag)
		u.SetForcedDecision(flag, "", "else")
		want := "else - feature-test"
		if flag == "before" {
			want = "else r1 feature-test"
		}
		require.Equal(t, want, decided(u, flag, 0, nil), flag)
	}
	experiment, ok := p.Experiment(t.Context(), userOf(t, p, "u", ""), "r1", 0, nil)
	require.True(t, ok)
	activation, ok := experiment.Activation()
	require.True(t, ok)
	require.Equal(t, "29 else", activation.VariationID+" "+activation.VariationKey, "an activation names what the experiment has")

	p = build(flagOf("f", "R", "1"), flagOf("f", "", "1"))
	require.Equal(t, "- - rollout", decided(userOf(t, p, "u", ""), "f", 0, nil))
}

// holdout is one that takes everybody.
func holdout(id string, members object) object {
	h := object{
		"id": id, "key": "h" + id, "status": "Running", "audienceIds": array{},
		"variations": array{object{"id": id + "1", "key": "held" + id}}, "trafficAllocation": traffic(id + "1:10000"),
	}
	for k, v := range members {
		h[k] = v
	}
	return h
}

// Source: datafile.md section 4.5, DF-19 to DF-22.
func TestHoldouts(t *testing.T) {
	build := func(global, local array) object {
		return file(object{
			"experiments": array{ruleOf("1", nil)}, "rollouts": array{rolloutOf("R", ruleOf("2", nil))},
			"featureFlags": array{flagOf("f", "", "1"), flagOf("g", "R"), flagOf("empty", "")},
			"holdouts":     global, "localHoldouts": local,
		})
	}
	on := func(rules ...any) object { return object{"includedRules": rules} }
	nobody := object{"trafficAllocation": array{}}
	for name, row := range map[string]struct {
		global, local array
		f, g, empty   string
	}{
		"none":             {nil, nil, "v1 r1 feature-test", "v2 r2 rollout", "- - rollout"},
		"global":           {array{holdout("8", nil)}, nil, "held8 h8 holdout", "held8 h8 holdout", "held8 h8 holdout"},
		"first global":     {array{holdout("8", nil), holdout("9", nil)}, nil, "held8 h8 holdout", "held8 h8 holdout", "held8 h8 holdout"},
		"second global":    {array{holdout("8", nobody), holdout("9", nil)}, nil, "held9 h9 holdout", "held9 h9 holdout", "held9 h9 holdout"},
		"draft":            {array{holdout("8", object{"status": "Draft"})}, nil, "v1 r1 feature-test", "v2 r2 rollout", "- - rollout"},
		"concluded":        {array{holdout("8", object{"status": "Concluded"})}, nil, "v1 r1 feature-test", "v2 r2 rollout", "- - rollout"},
		"archived":         {array{holdout("8", object{"status": "Archived"})}, nil, "v1 r1 feature-test", "v2 r2 rollout", "- - rollout"},
		"running":          {array{holdout("8", object{"status": "running"})}, nil, "v1 r1 feature-test", "v2 r2 rollout", "- - rollout"},
		"audience":         {array{holdout("8", object{"audienceIds": array{"41"}})}, nil, "v1 r1 feature-test", "v2 r2 rollout", "- - rollout"},
		"conditions":       {array{holdout("8", object{"audienceIds": array{"41"}, "audienceConditions": array{}})}, nil, "held8 h8 holdout", "held8 h8 holdout", "held8 h8 holdout"},
		"global, included": {array{holdout("8", on("1"))}, nil, "held8 h8 holdout", "held8 h8 holdout", "held8 h8 holdout"},
		"old fields":       {array{holdout("8", object{"includedFlags": array{"f-g"}, "excludedFlags": array{"f-f"}, "isGlobal": false, "layerId": "5"})}, nil, "held8 h8 holdout", "held8 h8 holdout", "held8 h8 holdout"},
		"local":            {nil, array{holdout("8", on("1"))}, "held8 h8 holdout", "v2 r2 rollout", "- - rollout"},
		"local, delivery":  {nil, array{holdout("8", on("2", "unknown"))}, "v1 r1 feature-test", "held8 h8 holdout", "- - rollout"},
		"local, by key":    {nil, array{holdout("8", on("r1", "r2"))}, "v1 r1 feature-test", "v2 r2 rollout", "- - rollout"},
		"local, of no one": {nil, array{holdout("8", on())}, "v1 r1 feature-test", "v2 r2 rollout", "- - rollout"},
		"local, no list":   {nil, array{holdout("8", nil)}, "v1 r1 feature-test", "v2 r2 rollout", "- - rollout"},
		"local, null list": {nil, array{holdout("8", object{"includedRules": nil})}, "v1 r1 feature-test", "v2 r2 rollout", "- - rollout"},
		"two locals":       {nil, array{holdout("8", on("1")), holdout("9", on("1", "2"))}, "held8 h8 holdout", "held9 h9 holdout", "- - rollout"},
		"second local":     {nil, array{holdout("8", object{"includedRules": array{"1"}, "status": "Draft"}), holdout("9", on("1"))}, "held9 h9 holdout", "v2 r2 rollout", "- - rollout"},
		"local, excluding": {nil, array{holdout("8", object{"includedRules": array{"1"}, "excludeTargetedDeliveries": true})}, "held8 h8 holdout", "v2 r2 rollout", "- - rollout"},
		"global first":     {array{holdout("8", nil)}, array{holdout("9", on("1", "2"))}, "held8 h8 holdout", "held8 h8 holdout", "held8 h8 holdout"},
		"free traffic":     {array{holdout("8", object{"trafficAllocation": traffic(":10000, 81:10000")})}, nil, "v1 r1 feature-test", "v2 r2 rollout", "- - rollout"},
	} {
		f := build(array{}, array{})
		if row.global != nil {
			f["holdouts"] = row.global
		}
		if row.local != nil {
			f["localHoldouts"] = row.local
		}
		p := compiled(t, f)
		u := userOf(t, p, "u", "")
		for flag, want := range map[string]string{"f": row.f, "g": row.g, "empty": row.empty} {
			require.Equal(t, want, decided(u, flag, 0, nil), "%s: %s", name, flag)
		}
	}

	// DF-22: forced decisions can't name a holdout's variation.
	p := compiled(t, build(array{holdout("8", object{"audienceIds": array{"41"}})}, array{}))
	u := userOf(t, p, "u", "")
	u.SetForcedDecision("f", "", "held8")
	require.Equal(t, "v1 r1 feature-test", decided(u, "f", 0, nil))
	// BK-16: a holdout is bucketed with its own id.
	p = compiled(t, build(array{holdout("8", object{"trafficAllocation": traffic(fmt.Sprintf("81:%d", Bucket(Hash("u8"))+1))})}, array{}))
	require.Equal(t, "held8 h8 holdout", decided(userOf(t, p, "u", ""), "f", 0, nil))
	p = compiled(t, build(array{holdout("8", object{"trafficAllocation": traffic(fmt.Sprintf("81:%d", Bucket(Hash("u8"))))})}, array{}))
	require.Equal(t, "v1 r1 feature-test", decided(userOf(t, p, "u", ""), "f", 0, nil))
}
