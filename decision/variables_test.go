package decision

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// typed is the value of one variable text, as JSON.
func typed(kind, subType, text string) string {
	return string(variableKind(kind, subType).appendJSON(nil, text))
}

// Source: decide.md DC-27, DC-P4; sdk-differences.md rows 74 to 78.
func TestVariableTexts(t *testing.T) {
	for kind, texts := range map[string]map[string]string{
		"boolean": {"true": "true", "TRUE": "false", "1": "false", "yes": "false", "": "false", " true": "false", "true ": "false", "True": "false", "false": "false", "t": "false", "null": "false"},
		"integer": {
			"5": "5", " 5\n": "5", "+5": "5", "-5": "-5", "1_000": "1000", "007": "7", "-007": "-7", "-0": "0", "+0": "0", "000": "0", "0_0": "0",
			"123456789012345678901234567890": "123456789012345678901234567890", "-99999999999999999999": "-99999999999999999999",
			"\u00a05\u2003": "5", " \t\n5\v\f\r": "5", "\u0085\u30005": "5",
			"5.0": "null", "5.5": "null", "1e3": "null", "0x10": "null", "5abc": "null", "": "null", " ": "null", "_5": "null", "5_": "null", "5__0": "null",
			"- 5": "null", "--5": "null", "+-5": "null", "-": "null", "+": "null", "٣": "null", "５": "null", "5 5": "null", "\u200b5": "null", "\x1c5": "null", "5\x00": "null", "true": "null", "Infinity": "null",
		},
		"double": {
			"5": "5.0", "5.5": "5.5", ".5": "0.5", "5.": "5.0", "1e3": "1000.0", "1E3": "1000.0", "-1.5e-3": "-0.0015", "+.5e-1": "0.05", " 1.5 ": "1.5", "1_0.5_0": "10.5", "1e1_0": "10000000000.0",
			"1e21": "1e+21", "1e-7": "1e-07", "-0": "-0.0", "0.1": "0.1", "1e-400": "0.0", "123456789012345678901234567890": "1.2345678901234568e+29", "00.5": "0.5",
			"": "null", "abc": "null", "1,5": "null", "1.5abc": "null", "0x1p-2": "null", "nan": "null", "NaN": "null", "-nan": "null", "inf": "null", "-Infinity": "null", "INF": "null", "infinity": "null",
			"1e400": "null", "-1e400": "null", ".": "null", "1e": "null", "1e+": "null", "1_.5": "null", "1._5": "null", "1e_5": "null", "1_e5": "null", "1__0": "null", "_1": "null", "1_": "null",
			"1.5.5": "null", "1e5.5": "null", "- 5": "null", "+": "null", "٣.٥": "null", "e5": "null", "\x1c5": "null", "._5": "null", "+-1": "null",
		},
		"json": {
			"{}": "{}", `{"a": [1, 2.0 , null]}`: `{"a":[1,2.0,null]}`, "[ ]": "[]", `"x"`: `"x"`, "5": "5", "true": "true", "null": "null", " {} ": "{}", "\n5\t": "5",
			"12345678901234567890123": "12345678901234567890123", "1.10": "1.10", `"é\u00e9<>&"`: `"é\u00e9<>&"`, `{"a":{"b":"c d"}}`: `{"a":{"b":"c d"}}`,
			`{"a":1,"a":2}`: `{"a":2}`, `[{"a":1,"b":[{"c":1,"c":{"d":1,"d":3}}]}]`: `[{"a":1,"b":[{"c":{"d":3}}]}]`, `{"a":{"a":1},"b":["a","a"]}`: `{"a":{"a":1},"b":["a","a"]}`,
			`{"a":1,"\u0061":2}`: `{"a":2}`,
			"1e400":              "null", `{"a":[1,-1.5E999]}`: "null", "1e-400": "1e-400", `{"a":1e400,"a":1}`: `{"a":1}`,
			"": "null", " ": "null", "{": "null", "{'a':1}": "null", "NaN": "null", `{"a":NaN}`: "null", "Infinity": "null", "[-Infinity]": "null", "True": "null", "{} x": "null", "[1,]": "null", "01": "null", "\ufeff{}": "null", "\u00a0{}": "null", "{}{}": "null",
			"\"a\tb\"": "null",
		},
		"string": {"": `""`, "x": `"x"`, "5": `"5"`, " a\n": `" a\n"`, "é😀": `"é😀"`, `"`: `"\""`, "\x00\x1f\x7f": "\"\\u0000\\u001f\x7f\""},
	} {
		for text, want := range texts {
			got := typed(kind, "", text)
			require.Equal(t, want, got, "%s %q", kind, text)
			require.True(t, json.Valid([]byte(got)), "%s %q", kind, text)
		}
	}
}

// Source: datafile.md DF-13.
func TestVariableTypes(t *testing.T) {
	require.Equal(t, `{"a":1}`, typed("string", "json", `{"a": 1}`))
	require.Equal(t, `{"a":1}`, typed("json", "", `{"a": 1}`))
	require.Equal(t, `{"a":1}`, typed("json", "odd", `{"a": 1}`))
	for _, row := range [][2]string{{"string", ""}, {"string", "JSON"}, {"string", "odd"}, {"odd", ""}, {"", ""}, {"Boolean", ""}, {"number", "json"}, {"INTEGER", ""}} {
		require.Equal(t, `"5"`, typed(row[0], row[1], "5"), "%v", row)
	}
	require.Equal(t, "5", typed("integer", "json", "5"))
}

// withVariables is flag f with a variable of each type and rule 1, whose usages
// and featureEnabled are given.
func withVariables(t *testing.T, enabled bool, usages string, members object) *Project {
	f := flagOf("f", "", "1")
	f["variables"] = parsed(t, `[{"id":"b","key":"bool","type":"boolean","defaultValue":"true"},{"id":"i","key":"int","type":"integer","defaultValue":"1"},
		{"id":"d","key":"double","type":"double","defaultValue":"0.5"},{"id":"s","key":"text","type":"string","defaultValue":"x"},
		{"id":"j","key":"json","type":"string","subType":"json","defaultValue":"{\"a\": 1}"}]`)
	all := file(object{
		"experiments": array{ruleOf("1", object{
			"variations": array{object{"id": "11", "key": "v", "featureEnabled": enabled, "variables": parsed(t, usages)}},
		})},
		"featureFlags": array{f},
	})
	for k, v := range members {
		all[k] = v
	}
	return compiled(t, all)
}

// Source: decide.md DC-25, DC-26.
func TestVariables(t *testing.T) {
	const defaults = `{"bool":true,"int":1,"double":0.5,"text":"x","json":{"a":1}}`
	usages := `[{"id":"b","value":"false"},{"id":"i","value":""},{"id":"s","value":""},{"id":"j","value":"[]"},{"id":"unknown","value":"9"},{"id":"d","value":"7"},{"id":"d","value":"8"}]`
	for _, row := range []struct {
		enabled      bool
		usages, want string
	}{
		{true, `[]`, defaults},
		{true, usages, `{"bool":false,"int":null,"double":8.0,"text":"","json":[]}`}, // an empty text is a usage
		{false, usages, defaults}, // usages of a disabled variation are ignored
		{true, `null`, defaults},
		{true, `[{"id":"int","value":"9"}]`, defaults}, // usages name ids, not keys
	} {
		p := withVariables(t, row.enabled, row.usages, nil)
		u := userOf(t, p, "u", "")
		d := p.Decide(t.Context(), u, "f", 0, nil)
		require.Equal(t, row.want, d.VariablesJSON())
		require.Equal(t, row.enabled, d.Enabled())
		d = p.Decide(t.Context(), u, "f", ExcludeVariables, nil)
		require.Equal(t, "{}", d.VariablesJSON())
		require.Equal(t, "v r1 feature-test", outcome(&d))
		u.SetForcedDecision("f", "", "v")
		d = p.Decide(t.Context(), u, "f", 0, nil)
		require.Equal(t, row.want, d.VariablesJSON(), "forced")
	}
	p := withVariables(t, true, usages, object{"experiments": array{ruleOf("1", object{"trafficAllocation": array{}})}})
	d := p.Decide(t.Context(), userOf(t, p, "u", ""), "f", 0, nil)
	require.Equal(t, defaults, d.VariablesJSON(), "no rule")
	d = p.Decide(t.Context(), userOf(t, p, "u", ""), "nope", 0, nil)
	require.Equal(t, "{}", d.VariablesJSON(), "unknown flag")
}

// An enabled holdout variation has variables as any other. Source: decide.md
// DC-P5, row 79.
func TestHoldoutVariables(t *testing.T) {
	held := func(enabled any, usages string) object {
		return object{"holdouts": array{holdout("8", object{
			"variations": array{object{"id": "81", "key": "held", "featureEnabled": enabled, "variables": parsed(t, usages)}},
		})}}
	}
	const defaults = `{"bool":true,"int":1,"double":0.5,"text":"x","json":{"a":1}}`
	for _, row := range []struct {
		members object
		want    string
		enabled bool
	}{
		{held(false, `[{"id":"i","value":"9"}]`), defaults, false},
		{held(nil, `[{"id":"i","value":"9"}]`), defaults, false},
		{held(true, `[]`), defaults, true},
		{held(true, `[{"id":"i","value":"9"}]`), strings.Replace(defaults, `"int":1`, `"int":9`, 1), true},
		{held(true, `[{"id":"i","value":"1"}]`), defaults, true},
	} {
		p := withVariables(t, true, `[]`, row.members)
		d := p.Decide(t.Context(), userOf(t, p, "u", ""), "f", 0, nil)
		require.Equal(t, "held h8 holdout", outcome(&d))
		require.Equal(t, row.want, d.VariablesJSON())
		require.Equal(t, row.enabled, d.Enabled())
	}
}

// Of variables with one key the last counts, at the first place.
func TestRepeatedVariables(t *testing.T) {
	f := flagOf("f", "", "1")
	f["variables"] = parsed(t, `[{"id":"1","key":"a","type":"integer","defaultValue":"1"},{"id":"2","key":"b","type":"integer","defaultValue":"2"},{"id":"3","key":"a","type":"string","defaultValue":"3"}]`)
	p := compiled(t, file(object{"experiments": array{ruleOf("1", nil)}, "featureFlags": array{f}}))
	d := p.Decide(t.Context(), userOf(t, p, "u", ""), "f", 0, nil)
	require.Equal(t, `{"a":"3","b":2}`, d.VariablesJSON())
}
