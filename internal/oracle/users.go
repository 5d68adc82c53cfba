package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
)

// The calls of a case.
const (
	callOne  = "decide"
	callKeys = "decide_for_keys"
	callAll  = "decide_all"
	callNone = "none"
)

// makeCase makes a user of a project and what is asked about them.
func (p *project) makeCase(r random, id string) testCase {
	c := testCase{ID: id, UserID: p.userID(r)}
	p.giveAttributes(r, &c)
	if r.chance(45) {
		list := some(r, segments, r.IntN(4))
		c.Segments = &list
	}
	if r.chance(30) {
		p.forceDecisions(r, &c)
	}
	if len(p.experiments) > 0 && r.chance(8) {
		e := pick(r, p.experiments)
		v := pick(r, slices.Concat(e.variations, e.lent))
		if v.key != "" { // refused by the legacy call
			c.ForcedVariations = []forcedVariation{{e.key, v.key}}
		}
	}
	if r.chance(40) {
		c.Options = some(r, []string{
			"DISABLE_DECISION_EVENT", "ENABLED_FLAGS_ONLY", "IGNORE_USER_PROFILE_SERVICE", "INCLUDE_REASONS", "EXCLUDE_VARIABLES",
		}, r.between(1, 2))
	}
	if r.chance(10) {
		c.DefaultOptions = some(r, []string{
			"DISABLE_DECISION_EVENT", "ENABLED_FLAGS_ONLY", "IGNORE_USER_PROFILE_SERVICE", "INCLUDE_REASONS", "EXCLUDE_VARIABLES",
		}, r.between(1, 2))
		if slices.Contains(c.DefaultOptions, "ENABLED_FLAGS_ONLY") { // twice, the SDK raises (DC-P3)
			c.Options = slices.DeleteFunc(c.Options, func(o string) bool { return o == "ENABLED_FLAGS_ONLY" })
		}
	}
	p.predict(r, &c)
	if r.chance(40) {
		c.UserProfile = p.profile(r, c.UserID)
	}
	p.ask(r, &c)
	if r.chance(45) {
		for range r.between(1, 3) {
			c.Track = append(c.Track, p.conversion(r))
		}
	}
	return c
}

func (p *project) userID(r random) string {
	switch {
	case len(p.listed) > 0 && r.chance(25):
		return pick(r, p.listed)
	case r.chance(10):
		return pick(r, userIDs)
	default:
		return "u" + strconv.Itoa(r.IntN(1_000_000))
	}
}

func (p *project) giveAttributes(r random, c *testCase) {
	if r.chance(8) {
		return
	}
	c.Attributes = map[string]any{}
	for _, key := range p.attributes {
		if r.chance(25) {
			continue
		}
		if wanted := p.wanted[key]; len(wanted) > 0 && r.chance(75) {
			c.Attributes[key] = pick(r, wanted)
			if r.chance(50) {
				c.Attributes[key] = kin(r, c.Attributes[key])
			}
			continue
		}
		c.Attributes[key] = someValue(r)
	}
	if r.chance(20) {
		c.Attributes["$opt_bucketing_id"] = pick(r, []any{"", "b", " u ", "é", "b" + strconv.Itoa(r.IntN(1000)), json.Number("5"), true, nil, []any{"a"}, object{}})
	}
	for _, key := range []string{"$opt_user_agent", "$opt_bot_filtering", "$opt_declared", "$opt_", "$opt_x", "stranger", ""} {
		if r.chance(6) {
			c.Attributes[key] = someValue(r)
		}
	}
}

// predict says what is predicted for the user: mostly a variation of the rule.
func (p *project) predict(r random, c *testCase) {
	for _, e := range p.experiments {
		if !e.isBandit || r.chance(15) {
			continue
		}
		if c.Predictions == nil {
			c.Predictions = map[string]string{}
		}
		c.Predictions[e.id] = pick(r, slices.Concat(e.variations, e.lent)).id
		if r.chance(15) {
			c.Predictions[e.id] = pick(r, []string{"", "no such variation"})
		}
	}
}

// kin is a value that can be compared with v.
func kin(r random, v any) any {
	switch v := v.(type) {
	case bool:
		return !v
	case json.Number:
		return pick(r, numbers)
	case string:
		if v != "" && v[0]-'0' <= 9 {
			return r.version()
		}
		return pick(r, texts)
	default:
		return v
	}
}

func someValue(r random) any {
	switch r.IntN(8) {
	case 0, 1:
		return pick(r, texts)
	case 2, 3:
		return pick(r, numbers)
	case 4:
		return r.version()
	case 5:
		return r.chance(50)
	case 6:
		return json.Number(strconv.Itoa(r.between(-20, 20)))
	default:
		return pick(r, []any{nil, r.composite()})
	}
}

// forceDecisions forces flags and rules. A rule key "" is left out: it means the flag to us
// (sdk-differences.md row 71).
func (p *project) forceDecisions(r random, c *testCase) {
	for range r.between(1, 3) {
		if len(p.flags) == 0 {
			return
		}
		f := pick(r, p.flags)
		d := forcedDecision{FlagKey: f.key, VariationKey: "no such variation"}
		if len(f.variations) > 0 && r.chance(75) {
			d.VariationKey = pick(r, f.variations)
		}
		if len(f.ruleKeys) > 0 && r.chance(70) {
			rule := pick(r, f.ruleKeys)
			d.RuleKey = &rule
		}
		if r.chance(5) {
			rule := "no such rule"
			d.RuleKey = &rule
		}
		if r.chance(5) {
			d.FlagKey = "no such flag"
		}
		c.ForcedDecisions = append(c.ForcedDecisions, d)
	}
}

// profile makes what the user profile service knows, null included. Entries that
// are no objects are left out: the SDK raises (DC-P6).
func (p *project) profile(r random, userID string) json.RawMessage {
	if r.chance(15) {
		return json.RawMessage("null")
	}
	entries := object{}
	for _, e := range some(r, p.experiments, r.between(0, 4)) {
		entry := object{"variation_id": pick(r, slices.Concat(e.variations, e.lent)).id}
		switch r.IntN(12) {
		case 0, 4, 5:
			entry["variation_id"] = "no such variation"
		case 1:
			entry["variation_id"] = nil
		case 2:
			delete(entry, "variation_id")
		case 3:
			entry["since"] = 5
		}
		entries[e.id] = entry
	}
	if r.chance(20) {
		entries["no such experiment"] = object{"variation_id": "1", "more": []any{}}
	}
	profile := object{"user_id": userID, "experiment_bucket_map": entries}
	switch r.IntN(25) {
	case 0:
		profile["user_id"] = "somebody else"
	case 1:
		delete(profile, "user_id")
	case 2:
		delete(profile, "experiment_bucket_map")
	case 3:
		profile["experiment_bucket_map"] = nil
	case 4:
		profile["more"] = 1
	}
	return mustMarshal(profile)
}

func (p *project) ask(r random, c *testCase) {
	key := func() string {
		if r.chance(5) || len(p.flags) == 0 {
			return pick(r, []string{"no such flag", "", "FLAG0"})
		}
		return pick(r, p.flags).key
	}
	switch shape := r.IntN(100); {
	case shape < 40:
		c.Call = callAll
	case shape < 75:
		c.Call = callKeys
		c.Keys = []string{}
		for range r.between(0, 4) {
			c.Keys = append(c.Keys, key())
		}
	case shape < 95:
		c.Call, c.Keys = callOne, []string{key()}
	default:
		c.Call = callNone
	}
}

// What conversions carry as revenue and value: accepted, converted, refused.
var (
	revenues = []string{"4200", "0", "-5", "-0", "42.0", "4.2e1", `"42"`, "true", "null", "[1]", "123456789012345678901234567890"}
	values   = []string{
		"10", "9.5", "-0.0", "1e3", `"12.50"`, `" 7 "`, `"1e3"`, `".5"`, `"5."`, `"1_000"`, `"1__0"`, `"1,234"`, `"abc"`, `"nan"`, `"-Infinity"`, `"0x10"`, `"\u00a07\u3000"`, `"\u001c7"`, `"\ufeff7"`, `""`,
		"true", "null", "[1]", "{}", "9007199254740993", "123456789012345678901234567890", `"1e400"`,
	}
	// EV-4: null under some names goes at any depth, under others it stays.
	others = []string{
		"null", "1", `"é"`, "[1,null]", `{"value":null,"x":null}`, `{"tags":null,"revenue":{"decisions":null}}`, `[{"decisions":null},{"y":1.50}]`, "true", `"<&>"`,
	}
)

func (p *project) conversion(r random) conversion {
	c := conversion{EventKey: "no such event"}
	if len(p.events) > 0 && r.chance(90) {
		c.EventKey = pick(r, p.events)
	}
	if r.chance(5) {
		c.EventKey = ""
	}
	if r.chance(25) {
		return c
	}
	raw := []byte{'{'}
	add := func(name, value string) {
		if len(raw) > 1 {
			raw = append(raw, ',')
		}
		raw = fmt.Appendf(raw, "%q:%s", name, value)
	}
	if r.chance(60) {
		add("revenue", pick(r, revenues))
	}
	if r.chance(60) {
		add("value", pick(r, values))
	}
	for _, name := range []string{"category", "quantity", "tags", "decisions", ""} {
		if r.chance(20) {
			add(name, pick(r, others))
		}
	}
	c.Tags = append(raw, '}')
	return c
}
