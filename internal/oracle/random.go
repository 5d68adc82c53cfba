package main

import (
	"encoding/json"
	"math/rand/v2"
)

// object is a JSON object in the making.
type object = map[string]any

// A random draws what the generators need. The sequence depends on the seed alone,
// and on the version of Go, which may change how bounded numbers are drawn.
type random struct{ *rand.Rand }

func seeded(seed, index uint64) random { return random{rand.New(rand.NewPCG(seed, index))} }

// chance is true in percent of 100 cases.
func (r random) chance(percent int) bool { return r.IntN(100) < percent }

// between returns a number in [lo, hi].
func (r random) between(lo, hi int) int { return lo + r.IntN(hi-lo+1) }

// pick returns one of the choices, all equally likely.
func pick[T any](r random, choices []T) T { return choices[r.IntN(len(choices))] }

// some returns up to n different choices, in random order.
func some[T any](r random, choices []T, n int) []T {
	order := r.Perm(len(choices))
	out := []T{}
	for _, i := range order[:min(n, len(order))] {
		out = append(out, choices[i])
	}
	return out
}

// What attributes and conditions meet at: few values, so that they do.
var (
	texts = []string{"a", "b", "A", "", "abc", "ab", "é", "e\u0301", "日本", "1", "true", " a", `x"y\`, "\u0001", "😀"}
	// AU-19 is about the neighbours of 2^53; 1e400 is no finite number.
	numbers = []json.Number{
		"0", "1", "1.0", "1.5", "-1", "2", "2.5e0", "10", "1e1", "0.1", "-0", "-0.0", "1e300", "1e400", "-1e400",
		"9007199254740992", "9007199254740993", "-9007199254740992", "-9007199254740993", "9007199254740993.0", "9007199254740992.5",
		"123456789012345678901234567890",
	}
	versions = []string{
		"2", "2.0", "2.0.0", "2.1", "2.1.5", "2.0.10", "02.0", "3", "1.9.9", "2.0.0-beta", "2.0.0-beta.1", "2.0.0-alpha", "2.0.0-", "2-beta",
		"2.0.0+build", "2.0.0+b2", "2.0.0+", "2.0.0-beta+b1", "2.0.0+beta", "2.0.0+a+b", "2.0.0--x", "2.0.0-rc-1",
		"99999999999999999999.1", "99999999999999999998.1", "", "a", "2.", ".2", "2..0", "2.0.0.0", "2 .0", " 2", "v2", "-", "+",
	}
	// A number in a version's tail is rare: against a text the SDK raises (AU-P4).
	rareVersions = []string{"2.0.0-1", "2.0.0-10", "2.0.0+7"}
	segments     = []string{"s1", "s2", "", "vip é", "s3"}
	userIDs      = []string{"wally", "lost", "", "é", "😀", "user with space", "u\u0000v", `"quoted"`, "日本語", "U"}
	awkward      = []string{"", " ", "é", "日本", "😀", `"`, `\`, "\n", "<&>", "\u2028", "$opt"}
)

// composite is an array or object as a value.
func (r random) composite() any {
	return pick(r, []any{[]any{}, object{}, []any{json.Number("1")}, []any{"a", nil}, object{"a": json.Number("1")}})
}

// version draws the text of a version.
func (r random) version() string {
	switch {
	case r.chance(2):
		return pick(r, rareVersions)
	case r.chance(60): // well formed
		return pick(r, versions[:24])
	}
	return pick(r, versions)
}

// The texts of variables by type, well formed and not. Digits beyond
// ASCII are left out (DC-P4).
var variableTexts = map[string][]string{
	"boolean": {"true", "false", "True", "TRUE", "1", "", " true", "yes"},
	"integer": {
		"0", "1", "-7", "+5", " 12 ", "\t3\n", "1_000", "1__0", "_1", "1_", "007", "-0", "5.0", "5.5", "1e3", "0x10", "5abc", "", " ", "+", "--1",
		"9223372036854775807", "-9223372036854775809", "123456789012345678901234567890", "true", "\u00a05\u2003", "\x1c5\x1f", "\u200b5", "5\x00",
	},
	"double": {
		"0", "1", "1.5", "-2.25", "+.5", "5.", ".", "1e3", "1E-3", " 2.5 ", "1_0.5", "1._5", "1e1_0", "", "abc", "1,5", "1.5abc", "0x1p-2", "1e", "e5",
		"\u30001.5\u0085", "\x1d1.5", "\ufeff1.5", "1e308", "1e-400", "4.9e-324", "0.1", "123456789.123456789", "nan", "-inf", "Infinity", "1e400", "9007199254740993",
	},
	"json": {
		"{}", "[]", "null", "true", " 1 ", `"text"`, `{"a":1,"a":2}`, `{"n":[1,2.50,1e2,{"x":null}]}`, "{", "", "nul", "{'a':1}", `[1,]`, "01", "+1", "1.", ".5",
		"123456789012345678901234567890", `"\ud83d\ude00"`, `"é"`, `{"b":1,"a":{"c":"\u0000"}}`, `"\x"`, "\"\t\"", "NaN", `[-Infinity]`, "1e400", `{"a":[-1.5e999]}`, `{"a":1} x`, "\n{\"k\" : [ ] }\t",
	},
	"string": {"", "text", " spaced ", "é日本😀", `"quoted" \ back`, "\u0001\n\u2028", "true", "5", "<b>&amp;</b>"},
	"other":  {"", "text", "5"},
}
