package decision

import (
	"encoding/json"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A reference judges conditions as audiences.md is written: on the JSON tree
// itself, with names looked up in maps and numbers as fractions.
type reference struct {
	audiences  map[string]any
	attributes map[string]any // decoded with number literals
	segments   []string
}

func (r *reference) tree(v any, leaf func(any) truth) truth {
	list, ok := v.([]any)
	if !ok {
		return leaf(v)
	}
	if len(list) == 0 {
		return isUnknown // AU-P1
	}
	op, operands := "or", list
	if s, ok := list[0].(string); ok && slices.Contains([]string{"and", "or", "not"}, s) {
		op, operands = s, list[1:]
	}
	var results []truth
	for _, o := range operands {
		results = append(results, r.tree(o, leaf))
	}
	switch op {
	case "and":
		switch {
		case slices.Contains(results, isFalse):
			return isFalse
		case slices.Contains(results, isUnknown):
			return isUnknown
		}
		return isTrue
	case "or":
		switch {
		case slices.Contains(results, isTrue):
			return isTrue
		case slices.Contains(results, isUnknown):
			return isUnknown
		}
		return isFalse
	}
	if len(results) == 0 {
		return isUnknown
	}
	return map[truth]truth{isTrue: isFalse, isFalse: isTrue, isUnknown: isUnknown}[results[0]]
}

// rule judges a tree over audience ids.
func (r *reference) rule(v any) truth {
	if v == nil {
		return isTrue
	}
	if list, ok := v.([]any); ok && len(list) == 0 {
		return isTrue
	}
	return r.tree(v, func(v any) truth {
		id, ok := v.(string)
		if !ok {
			return isUnknown
		}
		conditions, ok := r.audiences[id]
		if !ok {
			return isUnknown
		}
		return r.tree(conditions, r.leaf)
	})
}

func (r *reference) leaf(v any) truth {
	m, ok := v.(map[string]any)
	if !ok {
		return isUnknown
	}
	if m["type"] != "custom_attribute" && m["type"] != "third_party_dimension" {
		return isUnknown
	}
	match := m["match"]
	if match == nil {
		match = "exact"
	}
	c := m["value"]
	if match == "qualified" {
		s, ok := c.(string)
		if !ok {
			return isUnknown
		}
		return truthOf(slices.Contains(r.segments, s))
	}
	var a any
	if name, ok := m["name"].(string); ok {
		a = r.attributes[name]
	}
	if match == "exists" {
		return truthOf(a != nil)
	}
	if a == nil {
		return isUnknown
	}
	cs, cIsText := c.(string)
	as, aIsText := a.(string)
	cn, an := inRange(c), inRange(a)
	switch match {
	case "exact":
		_, cIsBool := c.(bool)
		_, aIsBool := a.(bool)
		switch {
		case cIsText && aIsText:
			return truthOf(cs == as)
		case cIsBool && aIsBool:
			return truthOf(c == a)
		case cn != nil && an != nil:
			return truthOf(an.Cmp(cn) == 0)
		}
	case "gt", "ge", "lt", "le":
		if cn != nil && an != nil {
			d := an.Cmp(cn)
			return truthOf(map[any]bool{"gt": d > 0, "ge": d >= 0, "lt": d < 0, "le": d <= 0}[match])
		}
	case "substring":
		if cIsText && aIsText {
			return truthOf(strings.Contains(as, cs))
		}
	case "semver_eq", "semver_gt", "semver_ge", "semver_lt", "semver_le":
		if cIsText && aIsText {
			t, ok := referenceSplit(cs)
			u, uok := referenceSplit(as)
			if ok && uok {
				d := referenceCompare(t, u)
				return truthOf(map[any]bool{
					"semver_eq": d == 0, "semver_gt": d > 0, "semver_ge": d >= 0, "semver_lt": d < 0, "semver_le": d <= 0,
				}[match])
			}
		}
	}
	return isUnknown
}

// inRange is the value of a number of at most 2^53, nil for anything else. What
// is written as an integer keeps all its digits, the rest is a double.
func inRange(v any) *big.Float {
	n, ok := v.(json.Number)
	if !ok {
		return nil
	}
	out := new(big.Float).SetPrec(4096)
	if strings.ContainsAny(n.String(), ".eE") {
		f, err := n.Float64()
		if err != nil {
			return nil // beyond all doubles
		}
		out.SetFloat64(f)
	} else if _, ok := out.SetString(n.String()); !ok {
		return nil
	}
	if new(big.Float).Abs(out).Cmp(big.NewFloat(1<<53)) > 0 {
		return nil
	}
	return out
}

// A source makes choices from fuzz data; without data it always makes the first.
type source struct {
	data []byte
	rand func(n int) int // instead of data, if set
}

func (s *source) pick(n int) int {
	if s.rand != nil {
		return s.rand(n)
	}
	if len(s.data) == 0 {
		return 0
	}
	c := s.data[0]
	s.data = s.data[1:]
	return int(c) % n
}

func choose[T any](s *source, list ...T) T { return list[s.pick(len(list))] }

// value is a JSON value, often one that compares equal to another it gives.
func (s *source) value() any {
	return choose[any](s,
		"a", "", "1", "1.0", "2.0.0-beta", "2.0", "2.0.0+b", "é", "ba", true, false, nil,
		json.Number("1"), json.Number("1.0"), json.Number("-1"), json.Number("0"), json.Number("1.5"), json.Number("1e3"), json.Number("1000"),
		json.Number("9007199254740992"), json.Number("9007199254740993"), json.Number("9007199254740993.0"), json.Number("-9007199254740993"),
		json.Number("1e400"), json.Number("0.1"), json.Number("1e-1"), []any{}, []any{"a"}, map[string]any{}, map[string]any{"a": json.Number("1")})
}

var matchesToTry = []any{
	nil, "exact", "gt", "ge", "lt", "le", "substring", "exists", "qualified",
	"semver_eq", "semver_gt", "semver_ge", "semver_lt", "semver_le", "", "EXACT", json.Number("1"), true,
}

func (s *source) condition() any {
	m := map[string]any{
		"type":  choose[any](s, "custom_attribute", "custom_attribute", "third_party_dimension", "other", nil),
		"match": choose(s, matchesToTry...),
		"name":  choose[any](s, "p", "q", "r", "", nil, json.Number("1")),
		"value": s.value(),
	}
	if s.pick(8) == 7 {
		delete(m, choose(s, "type", "match", "name", "value"))
	}
	return m
}

// tree is a random tree. isStrict keeps out what datafile.md DF-P4 refuses at
// rule level.
func (s *source) tree(depth int, isStrict bool, leaf func() any) any {
	switch k := s.pick(10); {
	case depth == 0 || k < 3:
		return leaf()
	case k == 9 && !isStrict:
		return choose[any](s, nil, json.Number("5"), true, "text", map[string]any{}, []any{})
	default:
		list := []any{}
		switch s.pick(5) {
		case 0:
			list = append(list, "and")
		case 1:
			list = append(list, "or")
		case 2:
			list = append(list, "not")
		case 3:
			list = append(list, choose[any](s, "AND", "xor", "t"))
		}
		for range s.pick(4) {
			list = append(list, s.tree(depth-1, isStrict, leaf))
		}
		return list
	}
}

// checkConditions makes audiences, a rule's tree and a user from s and compares
// the engine's truth with the reference's.
func checkConditions(t *testing.T, s *source) {
	ref := &reference{audiences: map[string]any{}, attributes: map[string]any{}}
	typed := array{}
	for _, id := range []string{"t", "u", "v"} {
		conditions := s.tree(3, false, s.condition)
		ref.audiences[id] = conditions
		typed = append(typed, object{"id": id, "name": id, "conditions": conditions})
	}
	rule := s.tree(3, true, func() any { return choose[any](s, "t", "u", "v", "nobody", "", "and") })
	p := compiled(t, file(object{
		"typedAudiences": typed,
		"experiments":    array{ruleOf("1", object{"audienceConditions": rule})},
		"featureFlags":   array{flagOf("f", "", "1")},
	}))
	var u User
	u.Reset(p, "u")
	for _, name := range []string{"p", "q", ""} {
		if s.pick(4) > 0 {
			v := s.value()
			ref.attributes[name] = v
			u.SetAttribute(name, valueOf(marshal(t, v)))
		}
	}
	if s.pick(3) > 0 {
		ref.segments = choose(s, []string{}, []string{"a"}, []string{"a", "", "é"})
		u.SetSegments(ref.segments)
	}
	for i := range p.audiences {
		require.Equal(t, ref.tree(ref.audiences[p.audiences[i].id], ref.leaf), p.eval(p.audiences[i].root, &u), "audience %s", marshal(t, typed[i]))
	}
	d := p.Decide(t.Context(), &u, "f", 0, nil)
	require.Equal(t, ref.rule(rule) == isTrue, d.VariationID() == "11", "rule %s", marshal(t, rule))

	e := p.Explain(t.Context(), &u, "f", 0, nil)
	require.Equal(t, d, e.Decision)
	if _, err := json.Marshal(e); err != nil {
		t.Fatalf("explanation doesn't marshal: %v", err)
	}
	if cond := p.rules[p.flags[0].experiments.start].cond; cond != none {
		require.Equal(t, ref.rule(rule).String(), e.Steps[0].Audience.Result)
	}
}

func FuzzConditions(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{5, 0, 3, 0, 0, 1, 0, 4, 12, 0, 5, 2, 1, 9, 4, 30, 1, 1, 1, 1})
	f.Add([]byte("a longer seed that visits several operators, leaves and users; 0123456789 ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
	f.Fuzz(func(t *testing.T, data []byte) { checkConditions(t, &source{data: data}) })
}
