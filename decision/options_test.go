package decision

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Options and the decision object. Source: decide.md sections 2, 3, 8, 9.

func TestOptionNames(t *testing.T) {
	names := OptionNames()
	require.Equal(t, strings.Fields(`DISABLE_DECISION_EVENT ENABLED_FLAGS_ONLY IGNORE_USER_PROFILE_SERVICE INCLUDE_REASONS EXCLUDE_VARIABLES
		IGNORE_CMAB_CACHE RESET_CMAB_CACHE INVALIDATE_USER_CMAB_CACHE`), names)
	all := Options(0)
	for _, name := range names {
		o, ok := ParseOption(name)
		require.True(t, ok)
		require.False(t, all.Has(o), "each its own bit")
		all |= o
		require.True(t, all.Has(o))
	}
	require.Equal(t, EnabledFlagsOnly|DisableDecisionEvent, EnabledFlagsOnly|(DisableDecisionEvent|EnabledFlagsOnly), "DC-9: a union")
	for _, name := range []string{"", "x", "include_reasons", "INCLUDE_REASONS "} { // DC-10
		o, ok := ParseOption(name)
		require.False(t, ok)
		require.Zero(t, o)
	}
	names[0] = "changed"
	require.Equal(t, "DISABLE_DECISION_EVENT", OptionNames()[0])
}

// onOff has flag on (rule 1), off (rule 2, a variation that is off), none, and
// delivery.
func onOff(t *testing.T) *Project {
	f := flagOf("on", "", "1")
	f["variables"] = parsed(t, `[{"id":"9","key":"v","type":"integer","defaultValue":"1"}]`)
	return compiled(t, file(object{
		"experiments":  array{ruleOf("1", nil), ruleOf("2", object{"variations": array{object{"id": "21", "key": "v2"}}})},
		"rollouts":     array{rolloutOf("R", ruleOf("3", nil))},
		"featureFlags": array{f, flagOf("off", "", "2"), flagOf("none", ""), flagOf("delivery", "R")},
	}))
}

func listed(decisions []Decision) string {
	var out []string
	for i := range decisions {
		if decisions[i].IsListed() {
			out = append(out, decisions[i].FlagKey())
		}
	}
	return strings.Join(out, " ")
}

// Decisions that are off aren't listed, yet send their events; those of unknown
// keys stay. decide always answers. Source: DC-5, DC-6, DC-P3, DC-P8; rows 64 to 67.
func TestEnabledFlagsOnly(t *testing.T) {
	p := onOff(t)
	u := userOf(t, p, "u", "")
	keys := []string{"none", "nope", "on", "off", "delivery"}
	require.Equal(t, "none nope on off delivery", listed(p.DecideKeys(t.Context(), nil, u, keys, 0, nil)))
	some := p.DecideKeys(t.Context(), nil, u, keys, EnabledFlagsOnly, nil)
	require.Equal(t, "nope on delivery", listed(some))
	require.Equal(t, []string{"1·11·feature-test", "2·21·feature-test"}, sent(some...))
	require.Equal(t, "on delivery", listed(p.DecideAll(t.Context(), nil, u, EnabledFlagsOnly, nil)))
	for _, key := range []string{"off", "none", "nope", "on"} {
		d := p.Decide(t.Context(), u, key, EnabledFlagsOnly, nil)
		require.True(t, d.IsListed(), key)
		require.Equal(t, key, d.FlagKey())
	}
}

// A key given twice is decided and reported twice, listed once. Source: DC-7,
// DC-P2, row 68.
func TestRepeatedKeys(t *testing.T) {
	p := onOff(t)
	u := userOf(t, p, "u", "")
	keys := []string{"on", "off", "on", "nope", "on", "nope"}
	all := p.DecideKeys(t.Context(), nil, u, keys, 0, nil)
	require.Len(t, all, 6)
	require.Equal(t, "on off nope", listed(all))
	require.Len(t, sent(all...), 4)
	require.Equal(t, "on nope", listed(p.DecideKeys(t.Context(), nil, u, keys, EnabledFlagsOnly, nil)))

	keys = nil
	for range 40 { // past the length at which repeats are found by a map
		keys = append(keys, "on", "off", "none", "x"+strings.Repeat("y", len(keys)))
	}
	all = p.DecideKeys(t.Context(), nil, u, keys, 0, nil)
	seen := map[string]bool{}
	for i := range all {
		require.Equal(t, !seen[keys[i]], all[i].IsListed(), "%d", i)
		seen[keys[i]] = true
	}
	require.Empty(t, p.DecideKeys(t.Context(), nil, u, nil, 0, nil)) // DC-8
	dst := p.DecideKeys(t.Context(), all[:1], u, []string{"off"}, 0, nil)
	require.Len(t, dst, 2, "appended")
}

// Source: section 8, the table; DC-37.
func TestDecisionObject(t *testing.T) {
	p := onOff(t)
	u := userOf(t, p, "u", "")
	d := p.Decide(t.Context(), u, "none", 0, nil)
	require.Equal(t, "- - rollout", outcome(&d))
	require.False(t, d.Enabled())
	require.Empty(t, d.Reasons())
	require.Empty(t, d.ExperimentID()+d.VariationID())
	require.Equal(t, "{}", d.VariablesJSON())
	d = p.Decide(t.Context(), u, "none", IncludeReasons, nil)
	require.Equal(t, []string{"no_delivery_rules", "no_rule_matched"}, codes(d.Reasons()))

	d = p.Decide(t.Context(), u, "on", 0, nil)
	require.Equal(t, `{"v":1}`, d.VariablesJSON())
	require.Equal(t, "1 11", d.ExperimentID()+" "+d.VariationID())
	require.Empty(t, d.Reasons())

	u.SetForcedDecision("on", "", "v1")
	d = p.Decide(t.Context(), u, "on", IncludeReasons, nil)
	require.Equal(t, "v1 - feature-test", outcome(&d))
	require.Equal(t, []string{"forced_decision"}, codes(d.Reasons()))
	require.Empty(t, d.ExperimentID())
}

// Source: section 9, DC-39, DC-P8.
func TestUnknownFlag(t *testing.T) {
	p := onOff(t)
	u := userOf(t, p, "u", "")
	for _, key := range []string{"nope", "", "ON", "on ", `q"q`} {
		for _, options := range []Options{0, IncludeReasons, EnabledFlagsOnly, ExcludeVariables, DisableDecisionEvent} {
			one := p.Decide(t.Context(), u, key, options, nil)
			several := p.DecideKeys(t.Context(), nil, u, []string{"on", key}, options, nil)
			for _, d := range []Decision{one, several[1]} {
				require.Equal(t, FlagNotFound, d.Err())
				require.Equal(t, "flag_not_found", d.Err().String())
				require.Equal(t, key, d.FlagKey())
				require.Equal(t, "{}", d.VariablesJSON())
				require.False(t, d.IsDispatched() || d.Enabled())
				require.True(t, d.IsListed())
				require.Equal(t, []Reason{{Code: ReasonFlagNotFound, Detail: key}}, d.Reasons())
				require.Equal(t, `No flag was found for key "`+key+`".`, d.Reasons()[0].String())
				require.Equal(t, -1, d.Fragment())
				require.Empty(t, sent(d))
			}
		}
	}
}

// Reasons are those of the flag alone, in order, each said once, and their texts
// name no user. Source: DC-37, DC-38, DC-P7, row 62, 63.
func TestReasons(t *testing.T) {
	none := object{"trafficAllocation": array{}}
	p := compiled(t, file(object{
		"experiments":  array{ruleOf("1", none), ruleOf("2", object{"status": "Paused"}), ruleOf("3", object{"audienceIds": array{"41"}}), ruleOf("4", none)},
		"rollouts":     array{rolloutOf("R", ruleOf("5", object{"audienceIds": array{"41"}}), ruleOf("6", none), ruleOf("7", nil), ruleOf("8", nil))},
		"featureFlags": array{flagOf("f", "R", "1", "2", "3", "4"), flagOf("g", "", "1")},
	}))
	u := userOf(t, p, "secret-user", "")
	all := p.DecideAll(t.Context(), nil, u, IncludeReasons, nil)
	var got []string
	for _, r := range all[0].Reasons() {
		got = append(got, r.RuleKey+" "+r.Code.String())
		require.NotContains(t, r.String(), "secret-user")
		require.NotContains(t, r.String(), "{")
	}
	require.Equal(t, []string{
		"r1 audience_met", "r1 not_bucketed", "r2 rule_not_running", "r3 audience_not_met", "r4 audience_met", "r4 not_bucketed",
		"r5 audience_not_met", "r6 audience_met", "r6 not_bucketed", "r6 to_everyone_else", "r8 audience_met", "r8 bucketed",
	}, got)
	require.Equal(t, []string{"audience_met", "not_bucketed", "no_delivery_rules", "no_rule_matched"}, codes(all[1].Reasons()), "nothing of the flag before")

	names := ReasonNames()
	require.Len(t, reasonTexts, len(names))
	seen := map[string]bool{}
	for i, name := range names {
		require.False(t, seen[name], name)
		seen[name] = true
		require.NotEmpty(t, Reason{Code: ReasonCode(i), RuleKey: "k", Detail: "d"}.String())
	}
	require.Equal(t, `Forced to variation "{key}" for rule "{detail}".`, Reason{ReasonForcedDecision, "{detail}", "{key}"}.String(), "keys are not templates")
}

// A decision under each set of options agrees in all but what the option is about.
func TestOptionsChangeNothingElse(t *testing.T) {
	ps := &projects{folder: vectorFolder}
	p := ps.get(t, "g30.json")
	for _, v := range corpusUsers(t, 5) {
		var u User
		v.user(&u, p)
		plain := p.DecideAll(t.Context(), nil, &u, 0, nil)
		for options := range Options(1 << 8) {
			all := p.DecideAll(t.Context(), nil, &u, options, nil)
			for i := range all {
				a, b := &plain[i], &all[i]
				require.Equal(t, outcome(a), outcome(b))
				require.Equal(t, a.Enabled(), b.Enabled())
				require.Equal(t, !options.Has(EnabledFlagsOnly) || a.Enabled(), b.IsListed())
				require.Equal(t, a.IsDispatched() && !options.Has(DisableDecisionEvent), b.IsDispatched())
				require.Equal(t, options.Has(IncludeReasons), len(b.Reasons()) > 0)
				if options.Has(ExcludeVariables) {
					require.Equal(t, "{}", b.VariablesJSON())
				} else {
					require.Equal(t, a.VariablesJSON(), b.VariablesJSON())
				}
			}
		}
	}
}
