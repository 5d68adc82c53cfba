package main

import (
	"bytes"
	"encoding/json"
)

// A rule names a rule of the specification by which engine and SDK differ on
// purpose.
type rule string

// The rules that the generator meets.
const (
	// The SDK compares the number in a user's version with a text in the target and
	// raises; ours is smaller (audiences.md AU-P4).
	ruleVersionText rule = "AU-P4 a version's number against a text"
	// A double that is not finite, or JSON that holds one, is null (decide.md DC-P4).
	ruleNotFinite rule = "DC-P4 a variable that is not finite"
	// An enabled holdout variation has its values or the defaults; the SDK has nulls (decide.md DC-P5).
	ruleEnabledHoldout rule = "DC-P5 variables of an enabled holdout"
)

var rules = []rule{ruleVersionText, ruleNotFinite, ruleEnabledHoldout}

// isVersionText tells whether the SDK has no answer for the reason of
// ruleVersionText.
func isVersionText(r *raised) bool {
	return r.Exception == "ValueError" && r.In == "compare_user_version_with_target_version"
}

// holdoutKeys reads the keys of a datafile's holdouts.
func holdoutKeys(datafile string) (map[string]bool, error) {
	var d struct {
		Holdouts, LocalHoldouts []struct{ Key string }
	}
	if err := json.Unmarshal([]byte(datafile), &d); err != nil {
		return nil, err
	}
	keys := map[string]bool{}
	for _, h := range append(d.Holdouts, d.LocalHoldouts...) {
		keys[h.Key] = true
	}
	return keys, nil
}

// adopt turns the SDK's answer into what it would be by the rules about
// variables, and returns the rules used. Where neither side has the decision of
// the other, nothing is adopted.
func adopt(ours, sdk *answer, isHoldout map[string]bool) ([]rule, error) {
	if len(ours.Decisions) != len(sdk.Decisions) {
		return nil, nil
	}
	used := map[rule]bool{}
	for i := range sdk.Decisions {
		d, o := &sdk.Decisions[i], &ours.Decisions[i]
		if d.FlagKey != o.FlagKey {
			return nil, nil
		}
		var variables map[string]json.RawMessage
		if err := json.Unmarshal(d.Variables, &variables); err != nil {
			return nil, err
		}
		if d.Enabled && d.RuleKey != nil && isHoldout[*d.RuleKey] && len(variables) > 0 && areNothing(variables) {
			d.Variables = o.Variables
			used[ruleEnabledHoldout] = true
			continue
		}
		hasChanged := false
		for key, v := range variables {
			if bytes.Contains(v, []byte(`{"not_finite": `)) {
				variables[key] = json.RawMessage("null")
				used[ruleNotFinite], hasChanged = true, true
			}
		}
		if hasChanged {
			d.Variables = mustMarshal(variables)
		}
	}
	var out []rule
	for _, r := range rules {
		if used[r] {
			out = append(out, r)
		}
	}
	return out, nil
}

// areNothing tells whether all variables are what the SDK has for no value: null,
// or false.
func areNothing(variables map[string]json.RawMessage) bool {
	for _, v := range variables {
		if s := string(v); s != "null" && s != "false" {
			return false
		}
	}
	return true
}
