package client

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// recorded_test.go makes the calls that testdata/record.py made of the Python SDK
// 5.7.0, and compares results, events and notifications, the order included.

type recordedCall struct {
	SendFlagDecisions bool           `json:"send_flag_decisions"`
	Call              string         `json:"call"`
	Key               string         `json:"key"`
	Keys              []string       `json:"keys"`
	Variable          string         `json:"variable"`
	User              string         `json:"user"`
	Attributes        map[string]any `json:"attributes"`
	Segments          []string       `json:"segments"`
	Forced            [][3]*string   `json:"forced"`
	Options           []string       `json:"options"`
	Tags              map[string]any `json:"tags"`
	Steps             [][]*string    `json:"steps"`
	Result            any            `json:"result"`
	Events            []any          `json:"events"`
	Notifications     []any          `json:"notifications"`
}

func recordedCalls(tb testing.TB) []recordedCall {
	file, err := os.Open("testdata/calls.ndjson.gz")
	require.NoError(tb, err)
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	require.NoError(tb, err)
	lines := bufio.NewScanner(unpacked)
	lines.Buffer(nil, 1<<20)
	var out []recordedCall
	for lines.Scan() {
		var call recordedCall
		d := json.NewDecoder(strings.NewReader(lines.Text()))
		d.UseNumber() // 7 and 7.0 are different tags
		require.NoError(tb, d.Decode(&call))
		out = append(out, call)
	}
	require.NoError(tb, lines.Err())
	require.NotEmpty(tb, out)
	return out
}

// listen keeps notifications in the form of the recording.
func listen(tb testing.TB, n *Notifications) *[]any {
	seen := &[]any{}
	stripped := func(e LogEvent) any {
		out := tree(tb, e).(map[string]any)
		params := out["params"].(map[string]any)
		delete(params, "client_name")
		delete(params, "client_version")
		for _, v := range params["visitors"].([]any) {
			stripVisitor(v)
		}
		return out
	}
	n.OnDecision(func(d DecisionNotification) { *seen = append(*seen, tree(tb, map[string]any{"decision": d})) })
	n.OnActivate(func(a ActivateNotification) {
		entity := func(e *Entity) any {
			if e == nil {
				return nil
			}
			return map[string]any{"id": e.ID, "key": e.Key}
		}
		*seen = append(*seen, tree(tb, map[string]any{"activate": map[string]any{
			"experiment": entity(&a.Experiment), "user_id": a.UserID, "attributes": a.Attributes,
			"variation": entity(a.Variation), "event": stripped(a.Event),
		}}))
	})
	n.OnTrack(func(t TrackNotification) {
		*seen = append(*seen, tree(tb, map[string]any{"track": map[string]any{
			"event_key": t.EventKey, "user_id": t.UserID, "attributes": t.Attributes, "event_tags": t.EventTags, "event": stripped(t.Event),
		}}))
	})
	return seen
}

// make makes a call and returns its result in the form of the recording.
func (call *recordedCall) make(tb testing.TB, c *Client) any {
	ctx := tb.Context()
	orNil := func(value any, err error) any {
		if err != nil || value == "" {
			return nil
		}
		return value
	}
	if strings.HasPrefix(call.Call, "decide") || call.Call == "track_event" {
		u := c.NewUser(call.User, call.Attributes)
		u.SetQualifiedSegments(call.Segments)
		for _, f := range call.Forced {
			at := DecisionContext{FlagKey: *f[0]}
			if f[1] != nil {
				at.RuleKey = *f[1]
			}
			u.SetForcedDecision(at, ForcedDecision{*f[2]})
		}
		var options DecideOptions
		for _, name := range call.Options {
			o, ok := ParseDecideOption(name)
			require.True(tb, ok, name)
			options |= o
		}
		switch call.Call {
		case "decide":
			return u.Decide(ctx, call.Key, options)
		case "decide_for_keys":
			return u.DecideForKeys(ctx, call.Keys, options)
		case "decide_all":
			return u.DecideAll(ctx, options)
		default:
			return orNil(nil, u.TrackEvent(ctx, call.Key, call.Tags))
		}
	}
	switch call.Call {
	case "activate":
		return orNil(c.Activate(ctx, call.Key, call.User, call.Attributes))
	case "get_variation":
		return orNil(c.Variation(ctx, call.Key, call.User, call.Attributes))
	case "is_feature_enabled":
		isOn, _ := c.IsFeatureEnabled(ctx, call.Key, call.User, call.Attributes)
		return isOn
	case "get_enabled_features":
		return orNil(c.EnabledFeatures(ctx, call.User, call.Attributes))
	case "get_all_feature_variables":
		return orNil(c.AllFeatureVariables(ctx, call.Key, call.User, call.Attributes))
	case "get_feature_variable":
		return orNil(c.FeatureVariable(ctx, call.Key, call.Variable, call.User, call.Attributes))
	case "get_feature_variable_boolean":
		return orNil(c.FeatureVariableBool(ctx, call.Key, call.Variable, call.User, call.Attributes))
	case "get_feature_variable_integer":
		return orNil(c.FeatureVariableInt(ctx, call.Key, call.Variable, call.User, call.Attributes))
	case "get_feature_variable_double":
		return orNil(c.FeatureVariableDouble(ctx, call.Key, call.Variable, call.User, call.Attributes))
	case "get_feature_variable_string":
		return orNil(c.FeatureVariableString(ctx, call.Key, call.Variable, call.User, call.Attributes))
	case "get_feature_variable_json":
		return orNil(c.FeatureVariableJSON(ctx, call.Key, call.Variable, call.User, call.Attributes))
	case "get_optimizely_config":
		return c.OptimizelyConfig()
	case "forced_variation":
		var results []any
		for _, step := range call.Steps {
			switch key := *step[1]; {
			case *step[0] == "get":
				variation, ok := c.ForcedVariation(key, call.User)
				if !ok {
					results = append(results, nil)
				} else {
					results = append(results, variation)
				}
			case *step[0] == "variation":
				results = append(results, orNil(c.Variation(ctx, key, call.User, call.Attributes)))
			case step[2] == nil:
				results = append(results, c.RemoveForcedVariation(key, call.User) == nil)
			default:
				results = append(results, c.SetForcedVariation(key, call.User, *step[2]) == nil)
			}
		}
		return results
	}
	tb.Fatalf("unknown call %q", call.Call)
	return nil
}

// outcome is what is compared of a call.
type outcome struct{ result, events, notifications any }

// sort brings what was recorded into the order of stripVisitor.
func (o *outcome) sort() {
	for _, v := range o.events.([]any) {
		stripVisitor(v)
	}
	for _, n := range o.notifications.([]any) {
		for _, payload := range n.(map[string]any) {
			event, ok := payload.(map[string]any)["event"].(map[string]any)
			if !ok {
				continue
			}
			for _, v := range event["params"].(map[string]any)["visitors"].([]any) {
				stripVisitor(v)
			}
		}
	}
}

func TestRecordedCalls(t *testing.T) {
	same, byRule := 0, map[string]int{}
	calls := recordedCalls(t)
	for i := range calls {
		call := &calls[i]
		datafile := worked(t)
		datafile["sendFlagDecisions"] = call.SendFlagDecisions
		c, events := newClient(t, datafile)
		seen := listen(t, c.Notifications())
		result := call.make(t, c)
		got := outcome{tree(t, result), tree(t, events.take(t)), tree(t, *seen)}
		want := outcome{tree(t, call.Result), tree(t, call.Events), tree(t, call.Notifications)}
		want.sort()
		if reflect.DeepEqual(got, want) {
			same++
			continue
		}
		rule := call.explain(t, &got, &want)
		byRule[rule]++
		if !reflect.DeepEqual(got, want) {
			t.Errorf("line %d: %s %s%v of %s, %v\ngot  %s\nwant %s", i+1, call.Call, call.Key, call.Keys, call.User, call.Attributes,
				text(t, []any{got.result, got.events, got.notifications}), text(t, []any{want.result, want.events, want.notifications}))
			if t.Failed() && byRule[""] > 3 {
				break
			}
		}
	}
	t.Logf("of %d recorded calls %d are the same; others differ by a rule of ours: %v", len(calls), same, byRule)
	require.Greater(t, same, len(calls)*9/10)
}

// explain names the rule by which a call may differ from Python's, and takes what
// the rule is about out of the comparison.
func (call *recordedCall) explain(t *testing.T, got, want *outcome) (rule string) {
	switch call.Call {
	case "get_optimizely_config":
		// Audience conditions are JSON in a text, and delivery rules have their values.
		for _, o := range []*outcome{got, want} {
			config := o.result.(map[string]any)
			for _, a := range config["audiences"].([]any) {
				audience := a.(map[string]any)
				audience["conditions"] = tree(t, json.RawMessage(audience["conditions"].(string)))
			}
			for _, f := range config["features_map"].(map[string]any) {
				for _, r := range f.(map[string]any)["delivery_rules"].([]any) {
					for _, v := range r.(map[string]any)["variations_map"].(map[string]any) {
						for _, variable := range v.(map[string]any)["variables_map"].(map[string]any) {
							delete(variable.(map[string]any), "value")
						}
					}
				}
			}
		}
		return "LG-P4"
	case "activate", "get_variation":
		if call.Key == "everyone" {
			require.Equal(t, outcome{nil, []any{}, []any{}}, *got)
			*want = *got
			return "LG-P1"
		}
	case "decide_for_keys":
		entry := func(o *outcome) map[string]any { return o.result.(map[string]any)["nope"].(map[string]any) }
		require.Equal(t, []any{`No flag was found for key "nope".`}, entry(got)["reasons"])
		delete(entry(got), "reasons")
		delete(entry(want), "reasons")
		return "DC-P8"
	case "is_feature_enabled", "get_enabled_features":
		// A holdout sends its impression.
		numHoldouts := 0
		keep := func(list any) any {
			kept := []any{}
			for _, e := range list.([]any) {
				if strings.Contains(string(text(t, e)), `"rule_type":"holdout"`) {
					numHoldouts++
				} else {
					kept = append(kept, e)
				}
			}
			return kept
		}
		got.events, got.notifications = keep(got.events), keep(got.notifications)
		require.Positive(t, numHoldouts)
		return "LG-P2"
	}
	return ""
}
