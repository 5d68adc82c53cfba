package decision

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Truths are written T, F and N (unknown), as in audiences.md.

func letter(t truth) string { return map[truth]string{isTrue: "T", isFalse: "F", isUnknown: "N"}[t] }

// audienceOf evaluates the conditions of an audience for a user. Its truth shows
// three values, which a decision doesn't.
func audienceOf(t testing.TB, conditions string, set func(u *User)) string {
	t.Helper()
	f := file(nil)
	f["typedAudiences"] = array{object{"id": "1", "name": "a", "conditions": parsed(t, conditions)}}
	p := compiled(t, f)
	u := userOf(t, p, "u", "")
	set(u)
	got := p.eval(p.audiences[0].root, u)

	// A legacy audience says the same.
	f["typedAudiences"], f["audiences"] = array{}, array{object{"id": "1", "name": "a", "conditions": conditions}}
	p = compiled(t, f)
	u = userOf(t, p, "u", "")
	set(u)
	require.Equal(t, got, p.eval(p.audiences[0].root, u), "legacy form of %s", conditions)
	return letter(got)
}

// ruleTree evaluates audienceConditions of a rule in which the audiences t, f and
// n are true, false and unknown.
func ruleTree(t testing.TB, tree string) string {
	t.Helper()
	f := file(object{
		"typedAudiences": array{
			object{"id": "t", "name": "t", "conditions": parsed(t, `{"name":"p","type":"custom_attribute","match":"exists"}`)},
			object{"id": "f", "name": "f", "conditions": parsed(t, `["not",{"name":"p","type":"custom_attribute","match":"exists"}]`)},
			object{"id": "n", "name": "n", "conditions": parsed(t, `{"name":"q","type":"custom_attribute","match":"gt","value":1}`)},
		},
		"experiments":  array{ruleOf("1", object{"audienceConditions": parsed(t, tree)})},
		"featureFlags": array{flagOf("f", "", "1")},
	})
	p := compiled(t, f)
	u := userOf(t, p, "u", `{"p":1}`)
	root := p.rules[p.flags[0].experiments.start].cond
	got := isTrue
	if root != none {
		got = p.eval(root, u)
	}
	require.Equal(t, got == isTrue, decided(u, "f", 0, nil) == "v1 r1 feature-test", "AU-6: only true is in")
	return letter(got)
}

// Source: audiences.md section 3.1, AU-11, AU-12.
func TestLogic(t *testing.T) {
	and := map[string]string{"TT": "T", "TF": "F", "TN": "N", "FT": "F", "FF": "F", "FN": "F", "NT": "N", "NF": "F", "NN": "N"}
	or := map[string]string{"TT": "T", "TF": "T", "TN": "T", "FT": "T", "FF": "F", "FN": "N", "NT": "T", "NF": "N", "NN": "N"}
	for pair, want := range and {
		a, b := strings.ToLower(pair[:1]), strings.ToLower(pair[1:])
		require.Equal(t, want, ruleTree(t, fmt.Sprintf(`["and",%q,%q]`, a, b)), "and %s", pair)
		require.Equal(t, or[pair], ruleTree(t, fmt.Sprintf(`["or",%q,%q]`, a, b)), "or %s", pair)
		require.Equal(t, or[pair], ruleTree(t, fmt.Sprintf(`[%q,%q]`, a, b)), "implicit or %s", pair)
	}
	for operand, want := range map[string]string{"t": "F", "f": "T", "n": "N"} {
		require.Equal(t, want, ruleTree(t, fmt.Sprintf(`["not",%q]`, operand)))
	}
}

// Examples, empty operators, positions of operators. Source: audiences.md
// sections 2 and 3, AU-2 to AU-9.
func TestTrees(t *testing.T) {
	for tree, want := range map[string]string{
		`["f","t"]`: "T", `[["or","t"],"f"]`: "T", `["not","f","t"]`: "T", `["not",["and","n","f"]]`: "T",
		`["and",["not","n"],"t"]`: "N", `["or",["or",["or","t"]]]`: "T",
		`["xor","t"]`: "T", `["xor","f"]`: "N", `["and","xor","t"]`: "N",

		`["and"]`: "T", `["or"]`: "F", `["not"]`: "N",
		`["and",["or"]]`: "F", `["or",["and"]]`: "T", `["not",["or"]]`: "T", `["not",["not"]]`: "N", `["or",["not"],"t"]`: "T",

		`null`: "T", `[]`: "T", // the whole input: everyone
		`[[]]`: "N", `["and",[]]`: "N", `["or",[],"t"]`: "T", `["not",[]]`: "N", `[[],"f"]`: "N", `["and","f",[]]`: "F",
		`"t"`: "T", `"f"`: "F", `""`: "N", `"nobody"`: "N", `["nobody","t"]`: "T", `["not","nobody"]`: "N",

		`["f",["or","t"]]`: "T", `[["and","t","f"],["or","t"]]`: "T", `[["or","1"]]`: "N", `[[["t"]]]`: "T",
		`["AND","t"]`: "T", `["AND","f"]`: "N", `["Or","t","f"]`: "T", // operators are lower case: an unknown audience
		`["t","and","f"]`: "T", `["f","and","f"]`: "N", `["or","not","f"]`: "N", `["and","t","or"]`: "N", `["not","and","t"]`: "N",
		`["and","t","t","t","f"]`: "F", `["or","f","f","n","f"]`: "N", `["and","t",["or","f",["and","t",["not","f"]]]]`: "T",
		`["not","n","t"]`: "N", `["not","t","f"]`: "F",
	} {
		require.Equal(t, want, ruleTree(t, tree), tree)
	}
}

// audienceConditions replaces audienceIds if it is there and not null.
// Source: audiences.md AU-1, AU-3; datafile.md section 4.1.
func TestConditionsBeforeIDs(t *testing.T) {
	for _, row := range []struct{ conditions, ids, want string }{
		{`"absent"`, `["41"]`, "-"}, {`null`, `["41"]`, "-"}, {`[]`, `["41"]`, "v1"}, {`[]`, `["nobody"]`, "v1"},
		{`["not","41"]`, `[]`, "-"}, {`null`, `[]`, "v1"}, {`null`, `null`, "v1"}, {`null`, `["nobody"]`, "-"},
		{`"absent"`, `["nobody","42"]`, "v1"}, {`"absent"`, `["42","41"]`, "v1"}, {`["and","41","42"]`, `["42"]`, "-"},
	} {
		rule := ruleOf("1", object{"audienceIds": parsed(t, row.ids), "audienceConditions": parsed(t, row.conditions)})
		if row.conditions == `"absent"` {
			delete(rule, "audienceConditions")
		}
		f := file(object{"experiments": array{rule}, "featureFlags": array{flagOf("f", "", "1")}})
		f["typedAudiences"] = append(f["typedAudiences"].(array), object{"id": "42", "name": "all", "conditions": parsed(t, `["and"]`)})
		d := decided(userOf(t, compiled(t, f), "u", ""), "f", 0, nil)
		require.Equal(t, row.want, strings.Fields(d)[0], "%+v", row)
	}
}

// The columns of the table of section 5.
var seenValues = []struct {
	name  string
	value Value
}{
	{`"a"`, String("a")}, {`""`, String("")}, {`"1"`, String("1")}, {`1`, Number("1")}, {`1.5`, Number("1.5")}, {`0`, Number("0")},
	{`true`, Bool(true)}, {`false`, Bool(false)}, {`[1]`, Composite("[1]")}, {`{}`, Composite("{}")},
	{`2^53`, Number("9007199254740992")}, {`2^53+1`, Number("9007199254740993")},
}

// Source: audiences.md section 5, the whole observed table.
func TestMatches(t *testing.T) {
	for _, row := range []struct{ match, values, want string }{
		{"exact", `"a"`, "TFFNNNNNNNNN"}, {"exact", `""`, "FTFNNNNNNNNN"}, {"exact", `"1"`, "FFTNNNNNNNNN"},
		{"exact", `1`, "NNNTFFNNNNFN"}, {"exact", `1.0`, "NNNTFFNNNNFN"}, {"exact", `true`, "NNNNNNTFNNNN"}, {"exact", `false`, "NNNNNNFTNNNN"},
		{"exact", `9007199254740992`, "NNNFFFNNNNTN"}, {"exact", `9007199254740993`, "NNNNNNNNNNNN"},
		{"exact", `null|[1]||{}|{"a":1}`, "NNNNNNNNNNNN"},
		{"gt", `1`, "NNNFTFNNNNTN"}, {"ge", `1`, "NNNTTFNNNNTN"}, {"lt", `1`, "NNNFFTNNNNFN"}, {"le", `1`, "NNNTFTNNNNFN"},
		{"gt", `"1"|true|null||[1]|{}|9007199254740993`, "NNNNNNNNNNNN"}, {"ge", `"1"|true|null||9007199254740993`, "NNNNNNNNNNNN"},
		{"lt", `"1"|true|null||-9007199254740993`, "NNNNNNNNNNNN"}, {"le", `"1"|true|null|`, "NNNNNNNNNNNN"},
		{"substring", `"a"`, "TFFNNNNNNNNN"}, {"substring", `""`, "TTTNNNNNNNNN"}, {"substring", `1|true|null||["a"]`, "NNNNNNNNNNNN"},
		{"exists", `"a"|1|null||[1]|{}`, "TTTTTTTTTTTT"},
		{"semver_eq", `"1"`, "NNTNNNNNNNNN"}, {"semver_eq", `1|true|null||""|"a"`, "NNNNNNNNNNNN"},
		{"semver_gt", `"0.9"`, "NNTNNNNNNNNN"}, {"semver_ge", `"1"`, "NNTNNNNNNNNN"}, {"semver_lt", `"1"`, "NNFNNNNNNNNN"}, {"semver_le", `"1"`, "NNTNNNNNNNNN"},
		{"|EXACT|Exact|foo|exact |regex", `"a"`, "NNNNNNNNNNNN"}, // AU-14: unknown text
	} {
		for _, match := range strings.Split(row.match, "|") {
			for _, value := range strings.Split(row.values, "|") {
				condition := fmt.Sprintf(`{"name":"p","type":"custom_attribute","match":%q,"value":%s}`, match, value)
				if value == "" {
					condition = fmt.Sprintf(`{"name":"p","type":"custom_attribute","match":%q}`, match)
				}
				got := ""
				for _, a := range seenValues {
					got += audienceOf(t, condition, func(u *User) { u.SetAttribute("p", a.value) })
				}
				require.Equal(t, row.want, got, condition)

				// Missing or null: only exists knows.
				want := "N"
				if match == "exists" {
					want = "F"
				}
				require.Equal(t, want, audienceOf(t, condition, func(*User) {}), "missing: %s", condition)
				require.Equal(t, want, audienceOf(t, condition, func(u *User) { u.SetAttribute("p", Null()) }), "null: %s", condition)
			}
		}
	}
}

// Source: audiences.md AU-13, AU-14, AU-P2; sdk-differences.md rows 33 to 36, 39.
func TestLeaves(t *testing.T) {
	for condition, want := range map[string]string{
		`{"name":"p","type":"custom_attribute","value":"x"}`:                                       "T", // match missing
		`{"name":"p","type":"custom_attribute","match":null,"value":"x"}`:                          "T",
		`{"name":"p","type":"custom_attribute","match":"","value":"x"}`:                            "N",
		`{"name":"p","type":"custom_attribute","match":1,"value":"x"}`:                             "N",
		`{"name":"p","type":"custom_attribute","match":["exact"],"value":"x"}`:                     "N",
		`{"name":"p","type":"third_party_dimension","match":"exact","value":"x"}`:                  "T",
		`{"name":"p","type":"third_party_dimension","match":"exact","value":"y"}`:                  "F",
		`{"name":"p","type":"custom_attribute","match":"qualified","value":"s1"}`:                  "T",
		`{"name":"p","type":"third_party_dimension","match":"qualified","value":"s1"}`:             "T",
		`{"type":"third_party_dimension","match":"qualified","value":"s1"}`:                        "T", // name is ignored
		`{"name":"p","type":"custom_dimension","match":"exists"}`:                                  "N",
		`{"name":"p","type":"","match":"exists"}`:                                                  "N",
		`{"name":"p","type":null,"match":"exists"}`:                                                "N",
		`{"name":"p","match":"exists"}`:                                                            "N",
		`{"name":"p","type":"Custom_Attribute","match":"exists"}`:                                  "N",
		`{"type":"custom_attribute","match":"exists"}`:                                             "F", // no name finds nothing
		`{"name":null,"type":"custom_attribute","match":"exists"}`:                                 "F",
		`{"name":null,"type":"custom_attribute","match":"exact","value":"x"}`:                      "N",
		`{"name":"P","type":"custom_attribute","match":"exact","value":"x"}`:                       "N", // exact key
		`{"name":" p","type":"custom_attribute","match":"exact","value":"x"}`:                      "N",
		`{"name":"p","type":"custom_attribute","match":"exact","value":{"a":1}}`:                   "N",
		`{"name":"n","type":"custom_attribute","match":"exact","value":{"a":1}}`:                   "N",
		`{"name":"n","type":"custom_attribute","match":"gt","value":{"a":1}}`:                      "N",
		`{"name":"p","type":"custom_attribute","match":"exact","value":"x","extra":1,"value2":[]}`: "T",
		`{"name":"","type":"custom_attribute","match":"exact","value":"e"}`:                        "T", // "" is a key like any other
		`{}`: "N",
	} {
		got := audienceOf(t, condition, func(u *User) {
			u.SetAttribute("p", String("x"))
			u.SetAttribute("n", Number("1"))
			u.SetAttribute("", String("e"))
			u.SetSegments([]string{"s1", ""})
		})
		require.Equal(t, want, got, condition)
	}
}

// Source: audiences.md section 5, "qualified"; section 8, AU-P5.
func TestQualified(t *testing.T) {
	for value, want := range map[string]string{
		`"s1"`: "T", `""`: "T", `"s2"`: "F", `"S1"`: "F", `1`: "N", `true`: "N", `null`: "N", `["s1"]`: "N", `{}`: "N",
	} {
		condition := `{"name":"odp.audiences","type":"third_party_dimension","match":"qualified","value":` + value + `}`
		require.Equal(t, want, audienceOf(t, condition, func(u *User) { u.SetSegments([]string{"s1", ""}) }), value)
		unknown := "F"
		if want == "N" {
			unknown = "N"
		}
		require.Equal(t, unknown, audienceOf(t, condition, func(*User) {}), "never set: %s", value)
		require.Equal(t, unknown, audienceOf(t, condition, func(u *User) { u.SetSegments([]string{}) }), "none: %s", value)
		require.Equal(t, unknown, audienceOf(t, condition, func(u *User) {
			u.SetSegments([]string{"s1", ""})
			u.SetSegments(nil) // replaces the earlier list
		}), "replaced: %s", value)
	}
	require.Equal(t, "N", audienceOf(t, `{"type":"third_party_dimension","match":"qualified"}`, func(*User) {}), "value missing")
}

// Source: audiences.md section 9.
func TestAudienceVectors(t *testing.T) {
	leaf := func(match, value string) string {
		return fmt.Sprintf(`{"name":"p","type":"custom_attribute","match":%q,"value":%s}`, match, value)
	}
	for _, row := range []struct {
		conditions string
		p          Value
		want       string
	}{
		{`["or",` + leaf("exact", `"x"`) + `]`, String("x"), "T"},
		{`["or",` + leaf("exact", `"x"`) + `]`, String("X"), "F"},
		{`["or",` + leaf("exact", `"x"`) + `]`, Null(), "N"},
		{`["or",` + leaf("exact", `"x"`) + `]`, Int(1), "N"},
		{`{"name":"p","type":"custom_attribute","value":true}`, Bool(true), "T"},
		{`["not",{"name":"p","type":"custom_attribute","match":"exists"}]`, Null(), "T"},
		{`["not",` + leaf("gt", "3") + `]`, Null(), "N"},
		{`["not",` + leaf("gt", "3") + `]`, Int(3), "T"},
		{`["and",` + leaf("ge", "1") + `,` + leaf("lt", "2") + `]`, Float(1.99), "T"},
		{`["or",` + leaf("semver_ge", `"2.1"`) + `]`, String("2.1.0-rc"), "F"},
		{`["or",` + leaf("semver_ge", `"2.1.0-rc"`) + `]`, String("2.1.0"), "T"},
		{`["or",` + leaf("substring", `"é"`) + `]`, String("cafe\u0301"), "F"},
		{`["or",` + leaf("substring", `"é"`) + `]`, String("café"), "T"},
	} {
		require.Equal(t, row.want, audienceOf(t, row.conditions, func(u *User) { u.SetAttribute("p", row.p) }), row.conditions)
	}
	qualified := `["and",["or",["not",["or",{"name":"odp.audiences","type":"third_party_dimension","match":"qualified","value":"s"}]]]]`
	require.Equal(t, "T", audienceOf(t, qualified, func(u *User) { u.SetSegments([]string{}) }))
}

// Numbers at and beyond the range, on both sides, however written.
// Source: audiences.md AU-19, AU-20; sdk-differences.md row 37.
func TestNumberRange(t *testing.T) {
	for _, row := range []struct {
		literal string
		inRange bool
	}{
		{"9007199254740992", true}, {"9007199254740993", false}, {"-9007199254740992", true}, {"-9007199254740993", false},
		{"9007199254740993.0", true}, // parses to 2^53
		{"9007199254740994.0", false}, {"9007199254740992.5", true}, {"9.007199254740992e15", true}, {"9.007199254740994e15", false},
		{"1e16", false}, {"1e400", false}, {"-1e400", false}, {"100000000000000000000000000", false}, {"-0", true}, {"0.0", true}, {"1e-400", true},
	} {
		exists := `{"name":"p","type":"custom_attribute","match":"exists"}`
		set := func(u *User) { u.SetAttribute("p", Number(row.literal)) }
		require.Equal(t, "T", audienceOf(t, exists, set), row.literal)
		want := "T"
		if !row.inRange {
			want = "N"
		}
		either := `["or",` + `{"name":"p","type":"custom_attribute","match":"ge","value":0},{"name":"p","type":"custom_attribute","match":"lt","value":0}]`
		require.Equal(t, want, audienceOf(t, either, set), row.literal)

		condition := `{"name":"p","type":"custom_attribute","match":"exact","value":` + row.literal + `}`
		require.Equal(t, want, audienceOf(t, condition, set), "as condition value: %s", row.literal)
		want = "F"
		if !row.inRange {
			want = "N"
		}
		require.Equal(t, want, audienceOf(t, condition, func(u *User) { u.SetAttribute("p", Float(0.123)) }), row.literal)
	}
	either := `["or",{"name":"p","type":"custom_attribute","match":"ge","value":0},{"name":"p","type":"custom_attribute","match":"exact","value":0}]`
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		require.Equal(t, "N", audienceOf(t, either, func(u *User) { u.SetAttribute("p", Float(f)) }))
		require.Equal(t, "T", audienceOf(t, `{"name":"p","type":"custom_attribute","match":"exists"}`, func(u *User) { u.SetAttribute("p", Float(f)) }))
	}
	for _, n := range []int64{math.MinInt64, math.MaxInt64, maxSafe + 1, -maxSafe - 1} {
		require.Equal(t, "N", audienceOf(t, either, func(u *User) { u.SetAttribute("p", Int(n)) }), n)
	}
	require.Equal(t, "T", audienceOf(t, either, func(u *User) { u.SetAttribute("p", Int(maxSafe)) }))
}

// Malformed pieces inside an audience are unknown, and said once.
// Source: audiences.md AU-P1; sdk-differences.md rows 25, 27 to 29.
func TestMalformedAudiences(t *testing.T) {
	yes, no := `{"name":"p","type":"custom_attribute","match":"exists"}`, `{"name":"q","type":"custom_attribute","match":"exists"}`
	for conditions, want := range map[string]string{
		`[]`: "N", `null`: "N", `5`: "N", `true`: "N", `"x"`: "N", `["or",[]]`: "N", `["or",null]`: "N", `["or",5,` + yes + `]`: "T",
		`["and",` + yes + `,"x"]`: "N", `["and",` + no + `,"x"]`: "F", `["xor",` + yes + `]`: "T", `["xor",` + no + `]`: "N",
		`["not",[]]`: "N", `["not",null]`: "N", `[` + yes + `]`: "T", `[` + no + `,` + yes + `]`: "T", `[[` + no + `],` + yes + `]`: "T",
		`[` + no + `,"and",` + no + `]`: "N", `["or",` + yes + `,[]]`: "T",
	} {
		require.Equal(t, want, audienceOf(t, conditions, func(u *User) { u.SetAttribute("p", Bool(true)) }), conditions)
	}
	// A typed audience whose conditions are JSON text stays a string: unknown.
	p := compiled(t, file(object{"typedAudiences": array{object{"id": "1", "name": "a", "conditions": `["or",` + yes + `]`}}}))
	u := userOf(t, p, "u", `{"p":true}`)
	require.Equal(t, isUnknown, p.eval(p.audiences[0].root, u))
	require.Len(t, p.Warnings(), 1)
	require.Equal(t, "$.typedAudiences[0].conditions", p.Warnings()[0].Path)
}

// A later attribute changes the answer of an audience asked for before.
// Source: decide.md DC-43.
func TestAudienceIsAskedAgain(t *testing.T) {
	p := compiled(t, file(object{
		"experiments":  array{ruleOf("1", object{"audienceIds": array{"41"}})},
		"featureFlags": array{flagOf("f", "", "1")},
	}))
	u := userOf(t, p, "u", "")
	require.Equal(t, "- - rollout", decided(u, "f", 0, nil))
	u.SetAttribute("plan", String("pro"))
	require.Equal(t, "v1 r1 feature-test", decided(u, "f", 0, nil))
	u.SetAttribute("plan", String("free"))
	require.Equal(t, "- - rollout", decided(u, "f", 0, nil))
	u.SetAttribute("plan", Null())
	require.Equal(t, "- - rollout", decided(u, "f", 0, nil))
	u.Reset(p, "u")
	u.SetAttribute("plan", String("pro"))
	require.Equal(t, "v1 r1 feature-test", decided(u, "f", 0, nil))
}
