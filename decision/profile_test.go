package decision

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// Sticky profiles. Source: decide.md section 7.

// A profileStore keeps profiles as JSON, as a service would.
type profileStore struct {
	stored    string // "": none
	lookupErr error
	saveErr   error
	looked    []string // user ids
	saved     []string // JSON
}

func (s *profileStore) Lookup(_ context.Context, userID string) (*Profile, error) {
	s.looked = append(s.looked, userID)
	if s.lookupErr != nil || s.stored == "" {
		return nil, s.lookupErr
	}
	return ParseProfile([]byte(s.stored))
}

func (s *profileStore) Save(_ context.Context, p *Profile) error {
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	s.saved = append(s.saved, string(data))
	return s.saveErr
}

// sticky has flags f and g on experiment 1 (v1, then w1), h on experiment 2.
func stickyProject(t *testing.T) *Project {
	return compiled(t, file(object{
		"experiments": array{
			ruleOf("1", object{
				"variations":        array{object{"id": "11", "key": "v1"}, object{"id": "12", "key": "w1", "featureEnabled": true}},
				"trafficAllocation": traffic("11:10000"),
				"forcedVariations":  object{"w": "w1"},
			}),
			ruleOf("2", nil),
		},
		"rollouts":     array{rolloutOf("R", ruleOf("3", nil))},
		"featureFlags": array{flagOf("f", "", "1"), flagOf("g", "", "1"), flagOf("h", "", "2"), flagOf("d", "R"), flagOf("none", "")},
	}))
}

// One lookup and at most one save per call. Source: DC-8, DC-30, DC-32.
func TestProfileOncePerCall(t *testing.T) {
	p := stickyProject(t)
	u := userOf(t, p, "u", `{"$opt_bucketing_id":"elsewhere"}`)
	call := func(options Options, keys ...string) *profileStore {
		s := &profileStore{}
		p.DecideKeys(t.Context(), nil, u, keys, options, &Env{Profiles: s})
		return s
	}
	s := call(0, "f", "g", "h", "d", "f", "nope")
	require.Equal(t, []string{"u"}, s.looked, "DC-34: by user id")
	require.Len(t, s.saved, 1)
	require.JSONEq(t, `{"user_id":"u","experiment_bucket_map":{"1":{"variation_id":"11"},"2":{"variation_id":"21"}}}`, s.saved[0])
	for _, keys := range [][]string{{"none"}, {"d"}, {"nope"}} {
		s = call(0, keys...)
		require.Len(t, s.looked, 1, "even when no flag needs it")
		require.Empty(t, s.saved)
	}
	s = call(0)
	require.Empty(t, s.looked, "no keys, no access")
	s = call(IgnoreUserProfileService, "f", "h")
	require.Empty(t, s.looked)
	require.Empty(t, s.saved)

	s = &profileStore{}
	p.DecideAll(t.Context(), nil, u, 0, &Env{Profiles: s})
	require.Len(t, s.looked, 1)
	require.Len(t, s.saved, 1)
	s = &profileStore{}
	p.Decide(t.Context(), u, "h", 0, &Env{Profiles: s})
	require.Equal(t, []string{`{"user_id":"u","experiment_bucket_map":{"2":{"variation_id":"21"}}}`}, s.saved)
	s = &profileStore{}
	p.Explain(t.Context(), u, "h", 0, &Env{Profiles: s})
	require.Len(t, s.looked, 1)
	require.Empty(t, s.saved, "an explanation changes nothing")
}

// What was decided for one flag is seen by the next. Source: DC-30.
func TestProfileIsShared(t *testing.T) {
	p := stickyProject(t)
	s := &profileStore{}
	all := p.DecideAll(t.Context(), nil, userOf(t, p, "u", ""), IncludeReasons, &Env{Profiles: s})
	require.Equal(t, []string{"audience_met", "bucketed"}, codes(all[0].Reasons()))
	require.Equal(t, []string{"sticky"}, codes(all[1].Reasons()))
	require.Equal(t, "v1 r1 feature-test", outcome(&all[1]))
}

// Source: DC-29, DC-31, DC-34.
func TestProfileIsMerged(t *testing.T) {
	p := stickyProject(t)
	for stored, want := range map[string]string{
		// unknown experiments are kept with what they hold, members of the profile aren't
		`{"user_id":"u","experiment_bucket_map":{"99":{"variation_id":"7","x":[1.0]}},"extra":1}`: `{"user_id":"u","experiment_bucket_map":{"99":{"variation_id":"7","x":[1.0]},"1":{"variation_id":"11"}}}`,
		// an unknown variation is replaced, other members of the entry with it
		`{"user_id":"u","experiment_bucket_map":{"1":{"variation_id":"nope","x":1}}}`: `{"user_id":"u","experiment_bucket_map":{"1":{"variation_id":"11"}}}`,
		`{"user_id":"other","experiment_bucket_map":{}}`:                              `{"user_id":"other","experiment_bucket_map":{"1":{"variation_id":"11"}}}`,
		`{"user_id":"u","experiment_bucket_map":{"99":5}}`:                            `{"user_id":"u","experiment_bucket_map":{"99":5,"1":{"variation_id":"11"}}}`,
		`{"user_id":"","experiment_bucket_map":{"2":{"variation_id":"11"}}}`:          `{"user_id":"","experiment_bucket_map":{"1":{"variation_id":"11"},"2":{"variation_id":"11"}}}`,
	} {
		s := &profileStore{stored: stored}
		require.Equal(t, "v1 r1 feature-test", decided(userOf(t, p, "u", ""), "f", 0, &Env{Profiles: s}))
		require.Len(t, s.saved, 1, stored)
		require.JSONEq(t, want, s.saved[0])
		if want != stored {
			require.NotContains(t, s.saved[0], "extra")
		}
	}
}

// A profile that was looked up isn't changed by saving: a cache may share it.
func TestProfileIsNotModified(t *testing.T) {
	p := stickyProject(t)
	stored := &Profile{UserID: "u", Entries: map[string]ProfileEntry{"99": {VariationID: "7"}}}
	f := &fakeProfiles{stored: stored}
	require.Equal(t, "v1 r1 feature-test", decided(userOf(t, p, "u", ""), "f", 0, &Env{Profiles: f}))
	require.Equal(t, map[string]ProfileEntry{"99": {VariationID: "7"}}, stored.Entries)
	require.Len(t, f.saved[0].Entries, 2)
}

// A stored variation of the rule counts; nothing is saved then. Source: 4.4 step 4.
func TestStickyHit(t *testing.T) {
	p := stickyProject(t)
	s := &profileStore{stored: `{"user_id":"u","experiment_bucket_map":{"1":{"variation_id":"12","x":1}}}`}
	require.Equal(t, "w1 r1 feature-test", decided(userOf(t, p, "u", ""), "f", 0, &Env{Profiles: s}))
	require.Empty(t, s.saved)
	require.Equal(t, "v1 r1 feature-test", decided(userOf(t, p, "u", ""), "f", IgnoreUserProfileService, &Env{Profiles: s}))
}

// Whatever is wrong with a profile, the decision goes on as without one.
// Source: DC-35, DC-36, DC-P6, row 80.
func TestMalformedProfiles(t *testing.T) {
	p := stickyProject(t)
	const fresh = `{"user_id":"u","experiment_bucket_map":{"1":{"variation_id":"11"}}}`
	for _, stored := range []string{
		`null`, `[]`, `5`, `"x"`, `{`, `{}`, `{"user_id":"u"}`, `{"experiment_bucket_map":{"1":{"variation_id":"12"}}}`, `{"user_id":null,"experiment_bucket_map":{"1":{"variation_id":"12"}}}`,
		`{"user_id":"u","experiment_bucket_map":[]}`, `{"user_id":"u","experiment_bucket_map":"x"}`, `{"user_id":"u","experiment_bucket_map":null}`, `{"user_id":"u","experiment_bucket_map":{}}`,
		`{"USER_ID":"u","experiment_bucket_map":{"1":{"variation_id":"12"}}}`, `{"user_id":"u","Experiment_Bucket_Map":{"1":{"variation_id":"12"}}}`, // names are exact
	} {
		s := &profileStore{stored: stored}
		require.Equal(t, "v1 r1 feature-test", decided(userOf(t, p, "u", ""), "f", 0, &Env{Profiles: s}), stored)
		require.Equal(t, []string{fresh}, s.saved, stored)
	}
	for _, entry := range []string{
		`5`, `"12"`, `["12"]`, `null`, `true`, `{}`, `{"variation_id":null}`, `{"variation_id":12}`, `{"variation_id":""}`, `{"variation_id":["12"]}`, `{"variation_id":"nope"}`,
		`{"VARIATION_ID":"12"}`, `{"variation_id":"21"}`, `{"variation_id":"w1"}`,
	} {
		s := &profileStore{stored: `{"user_id":"u","experiment_bucket_map":{"1":` + entry + `}}`}
		require.Equal(t, "v1 r1 feature-test", decided(userOf(t, p, "u", ""), "f", 0, &Env{Profiles: s}), entry)
		require.Equal(t, []string{fresh}, s.saved, entry)
	}
	s := &profileStore{lookupErr: errors.New("down"), saveErr: errors.New("down")}
	d := p.Decide(t.Context(), userOf(t, p, "u", ""), "f", IncludeReasons, &Env{Profiles: s})
	require.Equal(t, "v1 r1 feature-test", outcome(&d))
	require.Equal(t, []string{"audience_met", "bucketed"}, codes(d.Reasons()), "DC-36: no reasons of the service")
	require.Equal(t, []string{fresh}, s.saved)
}

// Attributes can't make a decision sticky, as they can in one SDK. Source:
// sdk-differences.md row 81.
func TestStickyAttribute(t *testing.T) {
	p := stickyProject(t)
	u := userOf(t, p, "u", `{"$opt_experiment_bucket_map":{"1":{"variation_id":"12"}}}`)
	require.Equal(t, "v1 r1 feature-test", decided(u, "f", 0, nil))
	require.Equal(t, "v1 r1 feature-test", decided(u, "f", 0, &Env{Profiles: &profileStore{}}))
}

// Not saved: whatever didn't come from bucketing an experiment. Source: DC-33.
func TestNotSaved(t *testing.T) {
	p := stickyProject(t)
	s := &profileStore{}
	env := &Env{Profiles: s}
	require.Equal(t, "w1 r1 feature-test", decided(userOf(t, p, "w", ""), "f", 0, env), "whitelist")
	require.Equal(t, "v3 r3 rollout", decided(userOf(t, p, "u", ""), "d", 0, env), "delivery rule")
	require.Equal(t, "w1 r1 feature-test", decided(userOf(t, p, "u", ""), "f", 0, &Env{Profiles: s, Forced: forcedVariations{"u/1": "12"}}), "forced variation")
	u := userOf(t, p, "u", "")
	u.SetForcedDecision("f", "", "w1")
	u.SetForcedDecision("g", "r1", "w1")
	require.Equal(t, "w1 - feature-test", decided(u, "f", 0, env), "forced for the flag")
	require.Equal(t, "w1 r1 feature-test", decided(u, "g", 0, env), "forced for the rule")
	require.Empty(t, s.saved)
	require.Len(t, s.looked, 5, "a flag forced as a whole doesn't spare the lookup")

	f := file(object{"experiments": array{ruleOf("1", nil)}, "featureFlags": array{flagOf("f", "", "1")}, "holdouts": array{holdout("8", nil)}})
	require.Equal(t, "held8 h8 holdout", decided(userOf(t, compiled(t, f), "u", ""), "f", 0, env), "holdout")
	require.Empty(t, s.saved)
}
