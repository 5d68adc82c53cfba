package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// A difference names a part of the answers and what each side says there.
type difference struct {
	Part string          `json:"part"`
	Ours json.RawMessage `json:"ours"`
	SDK  json.RawMessage `json:"sdk"`
}

// compare returns the differences of two answers by the rules of the package
// comment.
func compare(ours, sdk *answer) ([]difference, error) {
	var out []difference
	add := func(part string, a, b any) {
		if !equal(a, b) {
			out = append(out, difference{part, mustMarshal(a), mustMarshal(b)})
		}
	}
	trees := [2]struct {
		decisions, profile, asked any
		impressions, conversions  []any
	}{}
	for i, a := range []*answer{ours, sdk} {
		t := &trees[i]
		var err error
		if t.decisions, err = tree(mustMarshal(a.Decisions)); err != nil {
			return nil, err
		}
		if a.Profile != nil {
			if t.profile, err = tree(a.Profile); err != nil {
				return nil, err
			}
		}
		if t.asked, err = tree(mustMarshal(append([]asked{}, a.Asked...))); err != nil {
			return nil, err
		}
		if t.impressions, t.conversions, err = events(a.Events); err != nil {
			return nil, err
		}
	}
	if len(ours.Decisions)+len(sdk.Decisions) > 0 { // nil and empty are the same
		add("decisions", trees[0].decisions, trees[1].decisions)
	}
	add("impressions", trees[0].impressions, trees[1].impressions)
	add("conversions", trees[0].conversions, trees[1].conversions)
	add("profile", trees[0].profile, trees[1].profile)
	add("asked", trees[0].asked, trees[1].asked)
	return out, nil
}

// events splits requests into impressions, which it sorts, and conversions. What
// has no meaning or differs by client goes.
func events(requests []request) (impressions, conversions []any, err error) {
	for _, r := range requests {
		body, err := tree(r.Body)
		if err != nil {
			return nil, nil, err
		}
		root, ok := body.(map[string]any)
		if !ok {
			return nil, nil, fmt.Errorf("an event body is no object: %s", r.Body)
		}
		delete(root, "client_name")
		delete(root, "client_version")
		isImpression := false
		for _, visitor := range list(root["visitors"]) {
			v, _ := visitor.(map[string]any)
			attributes := list(v["attributes"])
			slices.SortStableFunc(attributes, func(a, b any) int { return cmp.Compare(attributeKey(a), attributeKey(b)) })
			for _, snapshot := range list(v["snapshots"]) {
				s, _ := snapshot.(map[string]any)
				for _, event := range list(s["events"]) {
					e, _ := event.(map[string]any)
					for _, name := range []string{"uuid", "timestamp"} {
						if _, ok := e[name]; !ok {
							return nil, nil, fmt.Errorf("an event has no %s: %s", name, r.Body)
						}
						delete(e, name)
					}
					isImpression = isImpression || e["key"] == "campaign_activated"
				}
			}
		}
		all := map[string]any{"url": r.URL, "method": r.Method, "body": root}
		if isImpression {
			impressions = append(impressions, all)
		} else {
			conversions = append(conversions, all)
		}
	}
	// Within a case only the decisions differ, which are texts.
	slices.SortStableFunc(impressions, func(a, b any) int { return strings.Compare(decisionsOf(a), decisionsOf(b)) })
	return impressions, conversions, nil
}

func decisionsOf(event any) string {
	root, _ := event.(map[string]any)
	body, _ := root["body"].(map[string]any)
	var all []any
	for _, visitor := range list(body["visitors"]) {
		v, _ := visitor.(map[string]any)
		for _, snapshot := range list(v["snapshots"]) {
			s, _ := snapshot.(map[string]any)
			all = append(all, s["decisions"])
		}
	}
	return string(mustMarshal(all))
}

// attributeKey sorts an attribute; a key may stand twice, once from the user and
// once of bot filtering.
func attributeKey(attribute any) string {
	m, _ := attribute.(map[string]any)
	return fmt.Sprintf("%v %T %v", m["key"], m["value"], m["value"])
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

// tree parses JSON, keeping number literals.
func tree(raw []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("an answer is not JSON: %w: %s", err, raw)
	}
	return v, nil
}

// equal compares trees: integers exactly, other numbers as float64.
func equal(a, b any) bool {
	switch a := a.(type) {
	case json.Number:
		b, ok := b.(json.Number)
		return ok && equalNumbers(string(a), string(b))
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, equal)
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k, v := range a {
			if w, ok := b[k]; !ok || !equal(v, w) {
				return false
			}
		}
		return true
	default: // string, bool, nil; all else stands above
		switch b.(type) {
		case []any, map[string]any:
			return false
		}
		return a == b
	}
}

func equalNumbers(a, b string) bool {
	x, isInt := new(big.Int).SetString(a, 10)
	y, isToo := new(big.Int).SetString(b, 10)
	if isInt && isToo {
		return x.Cmp(y) == 0
	}
	f, err := json.Number(a).Float64()
	g, otherErr := json.Number(b).Float64()
	return err == nil && otherErr == nil && f == g
}

// mustMarshal encodes what was decoded from JSON or is made of such.
func mustMarshal(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("BUG: oracle: encode: %v", err))
	}
	return raw
}
