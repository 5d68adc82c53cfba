package decision

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// Contextual bandits, answered by a fake. Source: decide.md section 6, cmab.md
// sections 1 to 3.

// banditFile has flag f with bandit 1 (variations v1, w1), experiment 2 and a
// rollout, and flag g with experiment 2 alone.
func banditFile(members object) object {
	bandit := ruleOf("1", object{
		"variations":        array{object{"id": "11", "key": "v1", "featureEnabled": true}, object{"id": "12", "key": "w1"}},
		"trafficAllocation": array{}, // ignored
		"cmab":              object{"attributeIds": array{"32", "nope", "31"}, "trafficAllocation": 10000},
		"forcedVariations":  object{"w": "w1"},
	})
	for k, v := range members {
		bandit[k] = v
	}
	return file(object{
		"experiments":  array{bandit, ruleOf("2", nil)},
		"rollouts":     array{rolloutOf("R", ruleOf("3", nil))},
		"featureFlags": array{flagOf("f", "R", "1", "2"), flagOf("g", "", "2")},
	})
}

func answering(variation string) *fakePredictor {
	return &fakePredictor{answers: map[string]Prediction{"1": {VariationID: variation, UUID: "uuid-1"}}}
}

func TestBandit(t *testing.T) {
	p := compiled(t, banditFile(nil))
	f := answering("12")
	d := p.Decide(t.Context(), userOf(t, p, "u", ""), "f", IncludeReasons, &Env{Predictor: f})
	require.Equal(t, "w1 r1 feature-test", outcome(&d))
	require.Equal(t, "uuid-1", d.CMABUUID())
	require.Equal(t, []string{"audience_met", "cmab_decided"}, codes(d.Reasons()))
	im := AppendImpressions(nil, []Decision{d})
	require.Len(t, im, 1)
	require.Equal(t, "uuid-1", im[0].CMABUUID)
	require.Contains(t, string(im[0].AppendVisitor(nil, userOf(t, p, "u", ""), testUUID, 1)), `"enabled":false,"cmab_uuid":"uuid-1"}`)
	require.Equal(t, -1, d.Fragment())
	require.True(t, f.queries[0].HasVariation("11"))
	require.False(t, f.queries[0].HasVariation("21"), "cmab.md CM-P1: another rule's")
	require.False(t, f.queries[0].HasVariation(""))

	// Without a uuid the event has none.
	d = p.Decide(t.Context(), userOf(t, p, "u", ""), "f", 0, &Env{Predictor: &fakePredictor{answers: map[string]Prediction{"1": {VariationID: "11"}}}})
	require.NotContains(t, string(AppendImpressions(nil, []Decision{d})[0].AppendVisitor(nil, userOf(t, p, "u", ""), testUUID, 1)), "cmab")
}

// What is asked: rule and user id, never the bucketing id; listed attributes the
// user has, by id, null and composites included, in the rule's order.
// Source: decide.md section 6.2, cmab.md CM-6.
func TestBanditQuery(t *testing.T) {
	p := compiled(t, banditFile(nil))
	for attributes, want := range map[string]string{
		``: ``, `{"age":5}`: `32=5 `, `{"plan":"x","age":1.5,"other":1}`: `32=1.5 31="x" `, `{"plan":null}`: `31=null `,
		`{"plan":[1],"age":{"a":1}}`: `32={"a":1} 31=[1] `, `{"31":"by id"}`: ``, `{"age":9007199254740993}`: `32=9007199254740993 `,
	} {
		f := answering("11")
		u := userOf(t, p, "u", attributes)
		u.SetAttribute(bucketingKey, String("elsewhere"))
		p.Decide(t.Context(), u, "f", IgnoreCMABCache|EnabledFlagsOnly, &Env{Predictor: f})
		require.Len(t, f.queries, 1)
		q := f.queries[0]
		require.Equal(t, "1 u", q.RuleID+" "+q.UserID)
		require.True(t, q.Options.Has(IgnoreCMABCache))
		got := ""
		for _, a := range q.Attributes {
			got += a.ID + "=" + string(a.Value.AppendJSON(nil)) + " "
		}
		require.Equal(t, want, got, attributes)
	}
}

// Steps before the prediction, in order; none of them asks. Source: decide.md 4.4
// and 6, cmab.md section 2, CM-3, CM-4; row 55, 56.
func TestBanditIsNotAsked(t *testing.T) {
	sticky := &Env{Profiles: &fakeProfiles{stored: &Profile{UserID: "u", Entries: map[string]ProfileEntry{"1": {VariationID: "12"}}}}}
	group := func(allocation string) object {
		f := banditFile(nil)
		bandit := f["experiments"].(array)[0]
		f["experiments"] = f["experiments"].(array)[1:]
		f["groups"] = array{object{"id": "G", "policy": "random", "trafficAllocation": traffic(allocation), "experiments": array{bandit}}}
		return f
	}
	admission := func(end int) object {
		return banditFile(object{"cmab": object{"attributeIds": array{}, "trafficAllocation": end}})
	}
	bucket := Bucket(Hash("u1"))
	for name, row := range map[string]struct {
		file object
		user string
		env  *Env
		set  func(u *User)
		want string
		asks int
	}{
		"asked":                 {banditFile(nil), "u", nil, nil, "v1 r1 feature-test", 1},
		"paused":                {banditFile(object{"status": "Paused"}), "u", nil, nil, "v2 r2 feature-test", 0},
		"forced variation":      {banditFile(nil), "u", &Env{Forced: forcedVariations{"u/1": "12"}}, nil, "w1 r1 feature-test", 0},
		"whitelist":             {banditFile(nil), "w", nil, nil, "w1 r1 feature-test", 0},
		"profile":               {banditFile(nil), "u", sticky, nil, "w1 r1 feature-test", 0},
		"audience":              {banditFile(object{"audienceIds": array{"41"}}), "u", nil, nil, "v2 r2 feature-test", 0},
		"group: none":           {group(""), "u", nil, nil, "v2 r2 feature-test", 0},
		"group: another":        {group("9:10000"), "u", nil, nil, "v2 r2 feature-test", 0},
		"group: this":           {group("1:10000"), "u", nil, nil, "v1 r1 feature-test", 1},
		"admission 0":           {admission(0), "u", nil, nil, "v2 r2 feature-test", 0},
		"admission at bucket":   {admission(bucket), "u", nil, nil, "v2 r2 feature-test", 0},
		"admission past bucket": {admission(bucket + 1), "u", nil, nil, "v1 r1 feature-test", 1},
		"negative admission":    {admission(-1), "u", nil, nil, "v2 r2 feature-test", 0},
		"forced decision":       {banditFile(nil), "u", nil, func(u *User) { u.SetForcedDecision("f", "r1", "w1") }, "w1 r1 feature-test", 0},
		"bucketing id":          {admission(Bucket(Hash("x1")) + 1), "u", nil, func(u *User) { u.SetAttribute(bucketingKey, String("x")) }, "v1 r1 feature-test", 1},
	} {
		p := compiled(t, row.file)
		env := row.env
		if env == nil {
			env = &Env{}
		}
		f := answering("11")
		env.Predictor = f
		u := userOf(t, p, row.user, "")
		if row.set != nil {
			row.set(u)
		}
		d := p.Decide(t.Context(), u, "f", 0, env)
		require.Equal(t, row.want, outcome(&d), name)
		require.Len(t, f.queries, row.asks, name)
		if row.asks == 0 {
			require.Empty(t, d.CMABUUID(), "%s: CM-24", name)
		}
	}
	f := answering("11")
	sticky.Predictor = f
	p := compiled(t, banditFile(nil))
	require.Equal(t, "v1 r1 feature-test", decided(userOf(t, p, "u", ""), "f", IgnoreUserProfileService, sticky))
	require.Len(t, f.queries, 1)
}

// An id that isn't one of the rule's: no variation, the walk goes on.
// Source: decide.md section 6.4, row 57.
func TestBanditUnknownVariation(t *testing.T) {
	p := compiled(t, banditFile(nil))
	for _, id := range []string{"", "nope", "21", "v1"} {
		d := p.Decide(t.Context(), userOf(t, p, "u", ""), "f", IncludeReasons, &Env{Predictor: answering(id)})
		require.Equal(t, "v2 r2 feature-test", outcome(&d), id)
		require.Empty(t, d.CMABUUID())
		require.Contains(t, codes(d.Reasons()), "cmab_unknown_variation")
		require.NotContains(t, string(AppendImpressions(nil, []Decision{d})[0].AppendVisitor(nil, userOf(t, p, "u", ""), testUUID, 1)), "cmab")
	}
}

// A failure is the flag's alone. Source: decide.md section 6.3, 9, DC-39; cmab.md
// CM-20, CM-21; row 58.
func TestBanditFailure(t *testing.T) {
	f := banditFile(nil)
	f["sendFlagDecisions"] = true
	p := compiled(t, f)
	failing := &fakePredictor{failing: map[string]bool{"1": true}}
	for name, env := range map[string]*Env{"fails": {Predictor: failing}, "no predictor": {}, "no env": nil} {
		u := userOf(t, p, "u", `{"$opt_bucketing_id":5}`)
		for _, options := range []Options{0, IncludeReasons, EnabledFlagsOnly, ExcludeVariables} {
			all := p.DecideAll(t.Context(), nil, u, options, env)
			d := &all[0]
			require.Equal(t, CMABFetchFailed, d.Err(), name)
			require.Equal(t, "cmab_fetch_failed", d.Err().String())
			_, hasVariation := d.VariationKey()
			_, hasRule := d.RuleKey()
			require.False(t, hasVariation || hasRule || d.Enabled())
			require.Equal(t, "{}", d.VariablesJSON())
			require.True(t, d.IsListed(), "CM-21: also under ENABLED_FLAGS_ONLY")
			require.False(t, d.IsDispatched())
			require.Equal(t, []string{"bucketing_id_ignored", "audience_met", "cmab_fetch_failed"}, codes(d.Reasons()), "all reasons, whatever the options")
			require.Equal(t, "Failed to fetch CMAB data for experiment r1.", d.Reasons()[2].String())
			require.Equal(t, "v2 r2 feature-test", outcome(&all[1]), "other flags are unaffected")
			require.Equal(t, options == IncludeReasons, len(all[1].Reasons()) > 0)
			require.Equal(t, []string{"2·21·feature-test"}, sent(all...), "no impression of the failed one")
		}
		require.Equal(t, "error cmab_fetch_failed", decided(u, "f", EnabledFlagsOnly, env))
	}
}

// Never saved, though other rules of the call are. Source: CM-3, DC-33.
func TestBanditIsNotSaved(t *testing.T) {
	p := compiled(t, banditFile(nil))
	profiles := &fakeProfiles{}
	env := &Env{Profiles: profiles, Predictor: answering("11")}
	require.Equal(t, "v1 r1 feature-test", decided(userOf(t, p, "u", ""), "f", 0, env))
	require.Empty(t, profiles.saved)
	p.DecideAll(t.Context(), nil, userOf(t, p, "u", ""), 0, env)
	require.Len(t, profiles.saved, 1)
	require.Equal(t, map[string]ProfileEntry{"2": {VariationID: "21"}}, profiles.saved[0].Entries)

	// A failure keeps what other flags added.
	profiles.saved = nil
	env.Predictor = &fakePredictor{failing: map[string]bool{"1": true}}
	p.DecideAll(t.Context(), nil, userOf(t, p, "u", ""), 0, env)
	require.Len(t, profiles.saved, 1)
}

// The rule's own traffic doesn't count. Source: BK-15.
func TestBanditTraffic(t *testing.T) {
	for _, allocation := range []string{"", "11:10000", ":10000", "zz:10000"} {
		p := compiled(t, banditFile(object{"trafficAllocation": traffic(allocation)}))
		require.Equal(t, "w1 r1 feature-test", decided(userOf(t, p, "u", ""), "f", 0, &Env{Predictor: answering("12")}), allocation)
	}
	p := compiled(t, banditFile(nil))
	d := p.Explain(t.Context(), userOf(t, p, "u", ""), "f", 0, &Env{Predictor: answering("12")})
	require.Equal(t, []RangeTrace{{EntityID: "$", End: 10000, IsHit: true}}, d.Steps[0].Bucket.Ranges)
	require.Equal(t, fmt.Sprint(Bucket(Hash("u1"))), fmt.Sprint(d.Steps[0].Bucket.Bucket))
}
