package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"sortition/decision"
)

// The worked example of decide.md section 12, every row.
func TestWorkedExample(t *testing.T) {
	c, events := newClient(t, worked(t))
	file, err := os.Open("../decision/testdata/worked.ndjson")
	require.NoError(t, err)
	defer file.Close()
	rows := 0
	for lines := bufio.NewScanner(file); lines.Scan(); rows++ {
		var row struct {
			Row        int
			Flag, User string
			Attributes map[string]any
			Segments   []string
			Forced     [][3]*string // flag, rule or null, variation
			Variation  *string
			Enabled    bool
			Rule       *string
			Variables  json.RawMessage
			Event      *struct {
				ExperimentID string  `json:"experiment_id"`
				VariationID  *string `json:"variation_id"`
				RuleType     string  `json:"rule_type"`
			}
		}
		require.NoError(t, json.Unmarshal(lines.Bytes(), &row))
		u := c.NewUser(row.User, row.Attributes)
		u.SetQualifiedSegments(row.Segments)
		for _, f := range row.Forced {
			u.SetForcedDecision(DecisionContext{*f[0], orEmpty(f[1])}, ForcedDecision{*f[2]})
		}
		d := u.Decide(t.Context(), row.Flag)
		require.Equal(t, orEmpty(row.Variation), d.VariationKey, "row %d", row.Row)
		require.Equal(t, row.Enabled, d.Enabled, "row %d", row.Row)
		require.Equal(t, orEmpty(row.Rule), d.RuleKey, "row %d", row.Row)
		if row.Variables != nil {
			require.JSONEq(t, string(row.Variables), d.Variables.JSON(), "row %d", row.Row)
		}
		sent := events.take(t)
		if row.Event == nil {
			require.Empty(t, sent, "row %d", row.Row)
			continue
		}
		require.Len(t, sent, 1, "row %d", row.Row)
		decided := sent[0].(map[string]any)["snapshots"].([]any)[0].(map[string]any)["decisions"].([]any)[0].(map[string]any)
		require.Equal(t, row.Event.ExperimentID, decided["experiment_id"], "row %d", row.Row)
		require.Equal(t, row.Event.RuleType, decided["metadata"].(map[string]any)["rule_type"], "row %d", row.Row)
		require.Equal(t, tree(t, row.Event.VariationID), decided["variation_id"], "row %d", row.Row)
	}
	require.Equal(t, 34, rows)
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// Source: decide.md section 9, config.md CF-18.
func TestNotReady(t *testing.T) {
	book := &logBook{}
	c, err := New(WithSDKKey("k"), WithLogger(book.logger()))
	require.NoError(t, err)
	defer c.Close(context.Background())
	ctx := t.Context()
	require.False(t, c.IsReady())
	require.Nil(t, c.OptimizelyConfig())
	require.Nil(t, c.Datafile())

	u := c.NewUser("u1", map[string]any{"plan": "pro"})
	u.SetAttribute("age", 3)
	require.True(t, u.SetForcedDecision(DecisionContext{FlagKey: "main"}, ForcedDecision{"a"}))
	d := u.Decide(ctx, "main")
	require.Equal(t, []string{"Optimizely SDK not configured properly yet."}, d.Reasons)
	require.ErrorIs(t, d.Err, ErrNotReady)
	require.JSONEq(t, `{"variation_key":null,"enabled":false,"variables":{},"rule_key":null,"flag_key":"main",
		"user_context":{"user_id":"u1","attributes":{"plan":"pro","age":3}},"reasons":["Optimizely SDK not configured properly yet."]}`, string(text(t, d)))
	require.Zero(t, u.DecideForKeys(ctx, []string{"main"}).Len())
	require.Zero(t, u.DecideAll(ctx).Len())
	require.JSONEq(t, `{}`, string(text(t, u.DecideAll(ctx))))
	require.ErrorIs(t, u.TrackEvent(ctx, "bought", nil), ErrNotReady)
	require.ErrorIs(t, c.Track(ctx, "bought", "u1", nil, nil), ErrNotReady)

	variation, err := c.Activate(ctx, "exp", "u1", nil)
	require.ErrorIs(t, err, ErrNotReady)
	require.Empty(t, variation)
	_, err = c.Variation(ctx, "exp", "u1", nil)
	require.ErrorIs(t, err, ErrNotReady)
	isOn, err := c.IsFeatureEnabled(ctx, "main", "u1", nil)
	require.ErrorIs(t, err, ErrNotReady)
	require.False(t, isOn)
	features, err := c.EnabledFeatures(ctx, "u1", nil)
	require.ErrorIs(t, err, ErrNotReady)
	require.Empty(t, features)
	_, err = c.FeatureVariable(ctx, "main", "size", "u1", nil)
	require.ErrorIs(t, err, ErrNotReady)
	_, err = c.AllFeatureVariables(ctx, "main", "u1", nil)
	require.ErrorIs(t, err, ErrNotReady)
	require.ErrorIs(t, c.SetForcedVariation("exp", "u1", "a"), ErrNotReady)
	require.ErrorIs(t, c.RemoveForcedVariation("exp", "u1"), ErrNotReady)
	_, ok := c.ForcedVariation("exp", "u1")
	require.False(t, ok)
	require.Contains(t, book.String(), "not ready")
	require.NotContains(t, book.String(), "u1")
	require.Equal(t, 1, strings.Count(book.String(), "not ready"), "once a second, not for each call")
}

// Source: decide.md section 9, DC-39, DC-P8; pages.md U-4.
func TestUnknownKeys(t *testing.T) {
	c, events := newClient(t, worked(t))
	u := c.NewUser("u1", nil)
	for _, key := range []string{"nope", "", "MAIN"} {
		d := u.Decide(t.Context(), key)
		require.ErrorIs(t, d.Err, ErrFlagNotFound)
		require.Equal(t, []string{`No flag was found for key "` + key + `".`}, d.Reasons)
		require.Equal(t, "{}", d.Variables.JSON())
		require.Equal(t, key, d.FlagKey)
		require.False(t, d.Enabled)
	}
	all := u.DecideForKeys(t.Context(), []string{"nope", "empty"}, EnabledFlagsOnly)
	require.Equal(t, "[nope]", keysOf(all), "errors are listed, flags that are off are not")
	d, _ := all.Get("nope")
	require.NotEmpty(t, d.Reasons)
	require.Len(t, events.take(t), 1, "of the flag that is off")
	require.ErrorIs(t, u.TrackEvent(t.Context(), "nope", nil), ErrEventNotFound)
	require.ErrorIs(t, u.TrackEvent(t.Context(), "", nil), ErrEmptyKey)
	require.Empty(t, events.take(t))
	require.Zero(t, u.DecideForKeys(t.Context(), nil).Len())
}

// Source: decide.md section 3, DC-6, DC-9, DC-P3, events.md EV-8.
func TestDecideOptions(t *testing.T) {
	c, events := newClient(t, worked(t), WithDefaultDecideOptions(EnabledFlagsOnly, ExcludeVariables))
	u := c.NewUser("u6", map[string]any{"plan": "pro"})
	d := u.Decide(t.Context(), "main", EnabledFlagsOnly, EnabledFlagsOnly) // in both lists, and twice
	require.Equal(t, "b", d.VariationKey)
	require.False(t, d.Enabled)
	require.Equal(t, "{}", d.Variables.JSON())
	require.Empty(t, d.Reasons)
	require.NotEmpty(t, u.Decide(t.Context(), "main", IncludeReasons).Reasons)
	events.take(t)
	all := u.DecideAll(t.Context())
	require.Equal(t, "[grouped rollout_fr]", keysOf(all), "the default is still there")
	require.Len(t, events.take(t), 4, "what isn't listed sent its impression")
	u.DecideAll(t.Context(), DisableDecisionEvent)
	require.Empty(t, events.take(t))
	for name, want := range map[string]DecideOptions{"ENABLED_FLAGS_ONLY": EnabledFlagsOnly, "INCLUDE_REASONS": IncludeReasons} {
		o, ok := ParseDecideOption(name)
		require.True(t, ok)
		require.Equal(t, want, o)
	}
	_, ok := ParseDecideOption("NOPE")
	require.False(t, ok)
}

// Source: decide.md DC-7, DC-P2: twice decided and reported, listed once.
func TestRepeatedKeys(t *testing.T) {
	n := NewNotifications()
	told := 0
	n.OnDecision(func(DecisionNotification) { told++ })
	c, events := newClient(t, worked(t), WithNotifications(n))
	all := c.NewUser("u1", nil).DecideForKeys(t.Context(), []string{"main", "empty", "main"})
	require.Equal(t, "[main empty]", keysOf(all))
	require.Len(t, events.take(t), 3)
	require.Equal(t, 3, told)
	require.Equal(t, 1, events.calls, "one call of the processor")
}

func TestDecisions(t *testing.T) {
	c, _ := newClient(t, worked(t))
	u := c.NewUser("u1", map[string]any{"plan": "pro"})
	all := u.DecideAll(t.Context())
	require.Equal(t, []string{"main", "grouped", "rollout_fr", "empty"}, all.Keys())
	require.Equal(t, 4, all.Len())
	require.Equal(t, "grouped", all.At(1).FlagKey)
	require.Len(t, all.Map(), 4)
	_, ok := all.Get("nope")
	require.False(t, ok)
	var order []string
	for key, d := range all.All() {
		require.Equal(t, key, d.FlagKey)
		if order = append(order, key); len(order) == 2 {
			break
		}
	}
	require.Equal(t, []string{"main", "grouped"}, order)
	require.Regexp(t, `^\{"main":\{.*"grouped":\{.*"rollout_fr":\{.*"empty":\{`, string(text(t, all)))
	var empty Decisions
	require.Zero(t, empty.Len())
	_, ok = empty.Get("main")
	require.False(t, ok)
	require.Empty(t, empty.Keys())
}

func TestVariables(t *testing.T) {
	datafile := worked(t)
	variables := []any{}
	for i, v := range [][3]string{
		{"bool", "boolean", "true"}, {"int", "integer", "12"}, {"huge", "integer", "123456789012345678901234567890"}, {"double", "double", "1"},
		{"text", "string", "a\"b"}, {"json", "json", `{"n":[1,2.5,12345678901234567890],"null":null}`}, {"bad", "integer", "x"}, {"list", "json", "[1]"},
	} {
		variables = append(variables, map[string]any{"id": string(rune('a' + i)), "key": v[0], "type": v[1], "defaultValue": v[2]})
	}
	datafile["featureFlags"].([]any)[3].(map[string]any)["variables"] = variables
	c, _ := newClient(t, datafile)
	v := c.NewUser("u", nil).Decide(t.Context(), "empty").Variables
	want := map[string]any{
		"bool": true, "int": int64(12), "huge": json.Number("123456789012345678901234567890"), "double": 1.0, "text": "a\"b",
		"json": map[string]any{"n": []any{int64(1), 2.5, json.Number("12345678901234567890")}, "null": nil}, "bad": nil, "list": []any{int64(1)},
	}
	require.Equal(t, want, v.Map())
	v.Map()["int"] = 13
	for key, value := range want {
		got, ok := v.Get(key)
		require.True(t, ok)
		require.Equal(t, value, got)
	}
	_, ok := v.Get("nope")
	require.False(t, ok)
	var typed struct {
		Int  int
		Text string
		JSON struct{ N []json.Number }
		List []int
	}
	require.NoError(t, v.Unmarshal(&typed))
	require.Equal(t, 12, typed.Int)
	require.Equal(t, json.Number("12345678901234567890"), typed.JSON.N[2])
	require.Error(t, v.Unmarshal(&struct{ Text int }{}))
	require.Equal(t, v.JSON(), v.String())
	var none Variables
	require.Equal(t, "{}", none.JSON())
	require.Empty(t, none.Map())
}

type predictorFunc func(*decision.PredictionQuery) (decision.Prediction, error)

func (f predictorFunc) Predict(_ context.Context, q *decision.PredictionQuery) (decision.Prediction, error) {
	return f(q)
}

// Contextual bandits: the prediction decides; its failure is the flag's alone.
// Source: decide.md section 6 and 9, legacy-api.md LG-6, LG-14.
func TestBandits(t *testing.T) {
	text, err := os.ReadFile("../decision/testdata/events.json")
	require.NoError(t, err)
	var datafile map[string]any
	require.NoError(t, json.Unmarshal(text, &datafile))
	datafile["featureFlags"].([]any)[2].(map[string]any)["variables"] = []any{map[string]any{"id": "v", "key": "v", "type": "string", "defaultValue": "default"}}
	down := errors.New("down")
	answer, failure := "50012", error(nil)
	predictor := predictorFunc(func(q *decision.PredictionQuery) (decision.Prediction, error) {
		return decision.Prediction{VariationID: answer, UUID: "11111111-2222-4333-8444-555555555555"}, failure
	})
	errs := &errorLog{}
	n := NewNotifications()
	var told []DecisionNotification
	n.OnDecision(func(d DecisionNotification) { told = append(told, d) })
	c, events := newClient(t, datafile, WithPredictor(predictor), WithErrorHandler(errs.handle), WithNotifications(n))
	u := c.NewUser("u", nil)
	require.Equal(t, "reco_b", u.Decide(t.Context(), "reco").VariationKey)
	require.Contains(t, string(events.events[0].Body), `"cmab_uuid":"11111111-2222-4333-8444-555555555555"`)
	events.take(t)
	variation, err := c.Activate(t.Context(), "reco_cmab", "u", nil)
	require.NoError(t, err)
	require.Equal(t, "reco_b", variation)
	require.NotContains(t, string(events.events[0].Body), "cmab_uuid")
	events.take(t)

	failure, told = down, nil
	d := u.Decide(t.Context(), "reco")
	require.ErrorIs(t, d.Err, ErrPrediction)
	require.Contains(t, d.Reasons, "Failed to fetch CMAB data for experiment reco_cmab.")
	require.Empty(t, told)
	require.ErrorIs(t, errs.all()[0], down)
	all := u.DecideAll(t.Context())
	require.Equal(t, 5, all.Len())
	failed, _ := all.Get("reco")
	require.ErrorIs(t, failed.Err, ErrPrediction)
	fine, _ := all.Get("checkout")
	require.NoError(t, fine.Err)
	events.take(t)

	told = nil
	_, err = c.Variation(t.Context(), "reco_cmab", "u", nil)
	require.ErrorIs(t, err, ErrPrediction)
	require.Equal(t, &ExperimentInfo{ExperimentKey: "reco_cmab"}, told[0].Info)
	isOn, err := c.IsFeatureEnabled(t.Context(), "reco", "u", nil)
	require.NoError(t, err)
	require.False(t, isOn)
	require.Empty(t, events.take(t))
	value, err := c.FeatureVariableString(t.Context(), "reco", "v", "u", nil)
	require.NoError(t, err)
	require.Equal(t, "default", value)
	variables, err := c.AllFeatureVariables(t.Context(), "reco", "u", nil)
	require.NoError(t, err)
	require.JSONEq(t, `{"v":"default"}`, variables.JSON())
}

// Source: decide.md DC-29 to DC-36.
func TestUserProfileService(t *testing.T) {
	service := &oneProfile{}
	errs := &errorLog{}
	failing := &failingProfiles{}
	c, _ := newClient(t, worked(t), WithUserProfileService(service))
	u := c.NewUser("u1", map[string]any{"plan": "pro"})
	u.DecideAll(t.Context())
	require.Equal(t, 1, service.lookups)
	require.Len(t, service.saved, 1, "one save for three experiments")
	require.Len(t, service.saved[0].Entries, 3)
	service.stored = &decision.Profile{UserID: "u1", Entries: map[string]decision.ProfileEntry{"611": {VariationID: "6112"}}}
	require.Equal(t, "b", u.Decide(t.Context(), "main").VariationKey)
	require.Equal(t, "a", u.Decide(t.Context(), "main", IgnoreUserProfileService).VariationKey)
	variation, err := c.Variation(t.Context(), "exp", "u1", nil)
	require.NoError(t, err)
	require.Equal(t, "b", variation)

	c, _ = newClient(t, worked(t), WithUserProfileService(failing), WithErrorHandler(errs.handle))
	d := c.NewUser("u1", map[string]any{"plan": "pro"}).Decide(t.Context(), "main")
	require.Equal(t, "a", d.VariationKey)
	require.NoError(t, d.Err)
	require.Len(t, errs.all(), 2, "lookup and save")
}

type failingProfiles struct{}

func (*failingProfiles) Lookup(context.Context, string) (*decision.Profile, error) {
	return nil, errors.New("no lookup")
}
func (*failingProfiles) Save(context.Context, *decision.Profile) error { return errors.New("no save") }
