package decision

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// wirerules.go reads the entities that hold rules: experiments, groups,
// rollouts, flags, holdouts, and the audiences they name.

func (r *reader) legacyAudience(at *place, m map[string]any) wireAudience {
	a := wireAudience{at: at.field("conditions"), id: r.text(at, m, "id", required), name: r.text(at, m, "name", required)}
	text, ok := m["conditions"].(string)
	if !ok {
		r.text(at, m, "conditions", required) // reports
		return a
	}
	tree, err := parseTree([]byte(text))
	if err != nil {
		r.fault(a.at, "is not valid JSON text: %v", err)
	}
	a.conditions, a.text = tree, text
	return a
}

func (r *reader) typedAudience(at *place, m map[string]any) wireAudience {
	a := wireAudience{at: at.field("conditions"), id: r.text(at, m, "id", required), name: r.text(at, m, "name", required)}
	conditions, ok := m["conditions"]
	if !ok {
		r.fault(a.at, "is missing: an array or a condition object is required")
	}
	a.conditions = conditions
	return a
}

func listOf(v any) []any {
	list, _ := v.([]any)
	return list
}

// parseTree decodes one JSON text, keeping number literals.
func parseTree(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("empty text")
		}
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more text follows the first value")
	}
	return v, nil
}

// rule reads an experiment or a delivery rule. schema is required where the
// schema step checks the section. Source: datafile.md sections 2 and 4.1.
func (r *reader) rule(at *place, m map[string]any, schema need) *wireRule {
	if _, ok := m["id"].(string); !ok {
		r.hasLost = true
	}
	out := &wireRule{
		at: at,
		id: r.text(at, m, "id", required), key: r.text(at, m, "key", required),
		layerID: r.text(at, m, "layerId", required), status: r.text(at, m, "status", required),
		typ:        r.text(at, m, "type", optional),
		conditions: r.conditions(at, m),
		hasTree:    m["audienceConditions"] != nil,
		variations: r.variations(at, m),
		traffic:    r.traffic(at, m, schema),
		forced:     map[string]string{},
	}
	switch forced := m["forcedVariations"].(type) {
	case map[string]any:
		for user, v := range forced {
			key, ok := v.(string)
			if !ok {
				r.fault(at.field("forcedVariations"), "must name variation keys, not %s", typeName(v))
				continue
			}
			out.forced[user] = key
		}
	case nil:
		if _, ok := m["forcedVariations"]; !ok {
			r.fault(at.field("forcedVariations"), "is missing: an object is required")
		} else {
			r.warn(at.field("forcedVariations"), "is null; taken as empty")
		}
	default:
		r.fault(at.field("forcedVariations"), "must be an object, not %s", typeName(forced))
	}
	out.bandit = r.bandit(at, m)
	return out
}

// conditions returns the audience tree of a rule or holdout, nil for everyone.
// Source: audiences.md AU-1, AU-2, datafile.md DF-P4.
func (r *reader) conditions(at *place, m map[string]any) any {
	ids := r.strings(at, m, "audienceIds", required, true)
	tree := m["audienceConditions"]
	if tree == nil {
		list := make([]any, len(ids))
		for i, id := range ids {
			list[i] = id
		}
		tree = list
	}
	r.checkTree(at.field("audienceConditions"), tree)
	if list, ok := tree.([]any); ok && len(list) == 0 {
		return nil
	}
	return tree
}

func (r *reader) checkTree(at *place, tree any) {
	switch t := tree.(type) {
	case string:
	case []any:
		for i, v := range t {
			switch v.(type) {
			case string:
			default:
				r.checkTree(at.elem(i), v)
			}
		}
	default:
		r.fault(at, "must be an audience id or an array, not %s", typeName(tree))
	}
}

func (r *reader) bandit(at *place, m map[string]any) *wireBandit {
	v, ok := m["cmab"]
	if !ok || v == nil {
		return nil
	}
	at = at.field("cmab")
	b := r.object(at, v)
	if len(b) == 0 {
		return nil
	}
	out := &wireBandit{attributeIDs: r.strings(at, b, "attributeIds", optional, true)}
	traffic, ok := b["trafficAllocation"]
	if !ok {
		r.fault(at.field("trafficAllocation"), "is missing: an integer from 0 to 10000 is required")
		return out
	}
	out.traffic, _ = r.integer(at.field("trafficAllocation"), traffic)
	return out
}

func (r *reader) variations(at *place, m map[string]any) []wireVariation {
	list := r.list(at, m, "variations", required, false)
	out := make([]wireVariation, 0, len(list))
	for i, v := range list {
		at := at.field("variations").elem(i)
		m := r.object(at, v)
		if m == nil {
			continue
		}
		w := wireVariation{id: r.text(at, m, "id", required), key: r.text(at, m, "key", required)}
		w.enabled, w.hasEnabled = r.boolean(at, m, "featureEnabled")
		for i, u := range r.list(at, m, "variables", optional, true) {
			at := at.field("variables").elem(i)
			if m := r.object(at, u); m != nil {
				if w.usages == nil {
					w.usages = map[string]string{}
				}
				w.usages[r.text(at, m, "id", required)] = r.text(at, m, "value", required)
			}
		}
		out = append(out, w)
	}
	return out
}

// traffic reads an allocation list; an entry without an end is left out, as it
// never matches. Source: bucketing.md BK-8, BK-9.
func (r *reader) traffic(at *place, m map[string]any, schema need) []wireRange {
	list := r.list(at, m, "trafficAllocation", required, false)
	out := make([]wireRange, 0, len(list))
	for i, v := range list {
		at := at.field("trafficAllocation").elem(i)
		m := r.object(at, v)
		if m == nil {
			continue
		}
		end := m["endOfRange"]
		entity := r.text(at, m, "entityId", schema)
		switch {
		case end != nil:
			if n, ok := r.integer(at.field("endOfRange"), end); ok {
				out = append(out, wireRange{entity, n})
			}
		case schema == required:
			r.fault(at.field("endOfRange"), "is missing: an integer is required")
		default:
			r.warn(at.field("endOfRange"), "is missing: the entry is left out")
		}
	}
	return out
}

func (r *reader) group(at *place, m map[string]any) wireGroup {
	g := wireGroup{at: at, id: r.text(at, m, "id", required), policy: r.text(at, m, "policy", required), traffic: r.traffic(at, m, r.schema())}
	g.experiments = r.rules(at, m, r.schema())
	return g
}

func (r *reader) rollout(at *place, m map[string]any) wireRollout {
	out := wireRollout{id: r.text(at, m, "id", required)}
	out.rules = r.rules(at, m, optional)
	return out
}

// rules reads the rules inside a group or rollout.
func (r *reader) rules(at *place, m map[string]any, schema need) []*wireRule {
	if _, ok := m["experiments"].([]any); !ok {
		r.hasLost = true
	}
	var out []*wireRule
	for i, v := range r.list(at, m, "experiments", required, false) {
		at := at.field("experiments").elem(i)
		if m := r.object(at, v); m != nil {
			out = append(out, r.rule(at, m, schema))
		} else {
			r.hasLost = true
		}
	}
	return out
}

func (r *reader) flag(at *place, m map[string]any) wireFlag {
	f := wireFlag{
		at: at, id: r.text(at, m, "id", required), key: r.text(at, m, "key", required),
		experimentIDs: r.strings(at, m, "experimentIds", required, false),
		rolloutID:     r.text(at, m, "rolloutId", required),
	}
	for i, v := range listOf(m["experimentIds"]) {
		if _, ok := v.(string); ok {
			f.experimentAt = append(f.experimentAt, i)
		}
	}
	for i, v := range r.list(at, m, "variables", required, false) {
		at := at.field("variables").elem(i)
		m := r.object(at, v)
		if m == nil {
			continue
		}
		f.variables = append(f.variables, variable{
			id: r.text(at, m, "id", required), key: r.text(at, m, "key", required),
			kind:     variableKind(r.text(at, m, "type", required), r.text(at, m, "subType", optional)),
			fallback: r.text(at, m, "defaultValue", required),
		})
	}
	return f
}

// holdout reads a holdout, global or local. Source: datafile.md section 4.5.
func (r *reader) holdout(at *place, m map[string]any) *wireRule {
	return &wireRule{
		at: at,
		id: r.text(at, m, "id", required), key: r.text(at, m, "key", required), status: r.text(at, m, "status", required),
		conditions: r.conditions(at, m), variations: r.variations(at, m), traffic: r.traffic(at, m, optional),
	}
}
