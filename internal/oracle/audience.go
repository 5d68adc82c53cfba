package main

import "encoding/json"

// makeAudiences makes typed audiences and legacy ones, whose conditions are text.
func (b *builder) makeAudiences() {
	b.audiences, b.typed = []any{}, []any{}
	for range b.between(2, 6) {
		id := b.id()
		b.audienceIDs = append(b.audienceIDs, id)
		if b.chance(30) {
			b.audiences = append(b.audiences, b.legacy(id))
			continue
		}
		b.typed = append(b.typed, object{"id": id, "name": "typed " + id, "conditions": b.conditions()})
		if b.chance(10) { // the typed one counts, as in real datafiles
			b.audiences = append(b.audiences, b.legacy(id))
		}
		if b.chance(4) { // the last counts
			b.typed = append(b.typed, object{"id": id, "name": "again " + id, "conditions": b.conditions()})
		}
	}
}

func (b *builder) legacy(id string) object {
	raw, err := json.Marshal(b.conditions())
	if err != nil {
		panic("BUG: oracle: encode conditions: " + err.Error())
	}
	return object{"id": id, "name": "legacy " + id, "conditions": string(raw)}
}

// conditions is a tree over conditions, or one condition. Malformed pieces, at which
// the SDK raises, are left out (AU-P1).
func (b *builder) conditions() any {
	leaf := func() any { return b.condition() }
	if b.chance(5) {
		return leaf()
	}
	return b.tree(b.between(1, 4), leaf)
}

// condition is a leaf. Its value is no object (AU-P2).
func (b *builder) condition() object {
	name := pick(b.random, b.project.attributes)
	match := pick(b.random, []string{
		"exact", "exact", "exact", "exists", "substring", "gt", "ge", "lt", "le",
		"semver_eq", "semver_gt", "semver_ge", "semver_lt", "semver_le", "qualified", "qualified",
	})
	c := object{"name": name, "type": "custom_attribute", "match": match}
	if match == "qualified" {
		c["type"] = "third_party_dimension"
		if b.chance(70) {
			c["name"] = "odp.audiences"
		}
	}
	var value any
	switch {
	case b.chance(6):
		value = pick(b.random, []any{nil, true, "1", json.Number("1"), []any{json.Number("1")}})
		if _, isList := value.([]any); isList && match == "qualified" {
			value = nil // the SDK raises while it collects the segments
		}
	case match == "exact":
		value = pick(b.random, []any{pick(b.random, texts), pick(b.random, numbers), b.chance(50)})
	case match == "qualified":
		value = pick(b.random, segments)
	case match == "substring":
		value = pick(b.random, texts)
	case match == "exists":
	case match == "gt" || match == "ge" || match == "lt" || match == "le":
		value = pick(b.random, numbers)
	default:
		value = b.version()
	}
	if number, ok := value.(json.Number); ok && (number == "1e400" || number == "-1e400") {
		value = json.Number("1e308") // the datafile's JSON has finite numbers only
	}
	if value != nil || b.chance(50) {
		c["value"] = value
	}
	if value != nil {
		b.project.wanted[name] = append(b.project.wanted[name], value)
	}
	b.maybe(c, 4, "type", "custom_attribute", "third_party_dimension", "custom_dimension", nil)
	b.maybe(c, 4, "match", nil, "", "EXACT", "regex")
	if b.chance(4) {
		delete(c, "match")
	}
	if b.chance(1) {
		delete(c, "name")
	}
	return c
}
