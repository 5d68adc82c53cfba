package schemas

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// MappingError lists everything wrong with a mapping.
type MappingError struct{ Faults []MappingFault }

// MappingFault is one fault of a mapping; Field is the mapping's key.
type MappingFault struct{ Field, Message string }

func (e *MappingError) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = f.Field + ": " + f.Message
	}
	return "compile activity mapping: " + strings.Join(lines, "; ")
}

// CompileMapping compiles activities.mapping of the configuration. A key of
// spec is a field of the activity, its value where that field comes from:
//
//	user_id: payload.user.id                        # a path: keys and array indexes
//	id: headers.0.value
//	timestamp: {from: payload.ts, unit: s}          # numbers in s, ms, us or ns; fractions are cut off
//	attributes: {from: payload.traits, rename: {subscription: plan}}
//	attributes.channel: {const: web}                # besides the object, and instead of its member
//	decide: {const: [checkout, banner]}
//	events.0.key: payload.event                     # without a payload.event there is no event 0
//	events.0.tags.sku: payload.items.0.sku
//	context: $                                      # $ is the whole record
//
// A dot, dollar sign or backslash that belongs to a key is written after a
// backslash. user_id must be mapped. An object field may be given as a whole,
// member by member, or both; a list as a whole or by index, where an element
// is left out when its source is missing, and an element made of fields when
// its key, action or flag_key is. rename is for objects. Renaming onto a key
// that the object has as well is a duplicate_key of that record.
//
// The error is a *MappingError with every fault.
func CompileMapping(spec map[string]any) (*Mapping, error) {
	c := mappingCompiler{
		Mapping: &Mapping{paths: &pathNode{}, build: &buildNode{shape: object, always: true}},
	}
	for _, field := range slices.Sorted(maps.Keys(spec)) {
		c.field(field, spec[field])
	}
	if _, ok := spec["user_id"]; !ok {
		c.fault("user_id", "must be mapped")
	}
	c.complete(c.build, mapActivity, "")
	if len(c.faults) > 0 {
		return nil, &MappingError{c.faults}
	}
	sortParts(c.build)
	return c.Mapping, nil
}

// complete finds elements mapped field by field without a field they need.
func (c *mappingCompiler) complete(n *buildNode, kind *mappable, path string) {
	for _, part := range n.parts {
		next, ok := c.step(kind, part.name)
		if !ok {
			continue
		}
		c.complete(part.node, next, path+part.name+".")
	}
	if len(n.parts) == 0 || n.from != nil {
		return
	}
	for _, name := range kind.needs {
		if !slices.ContainsFunc(n.parts, func(p buildPart) bool { return p.name == name }) {
			c.fault(path+name, "must be mapped when other fields of %s are", strings.TrimSuffix(path, "."))
		}
	}
}

type mappingCompiler struct {
	*Mapping
	faults []MappingFault
}

func (c *mappingCompiler) fault(field, format string, args ...any) {
	c.faults = append(c.faults, MappingFault{field, fmt.Sprintf(format, args...)})
}

// mappable is a field, or a kind of member or element, that can be mapped.
type mappable struct {
	shape   buildShape
	convert conversion
	needs   []string // parts that must be mapped; without the first there is no object
	// members by name, "*" for any name, "#" for the elements of an array.
	parts map[string]*mappable
}

var (
	mapText    = &mappable{convert: numberToText}
	mapString  = &mappable{}
	mapTime    = &mappable{convert: shiftToMillis}
	mapStrings = &mappable{shape: array, parts: map[string]*mappable{"#": mapString}}
	mapObject  = &mappable{shape: object, parts: map[string]*mappable{"*": mapString}}
	mapTexts   = &mappable{shape: object, convert: membersToText, parts: map[string]*mappable{"*": mapText}}

	mapActivity = &mappable{shape: object, parts: map[string]*mappable{
		"user_id":     mapText,
		"id":          mapText,
		"timestamp":   mapTime,
		"attributes":  mapObject,
		"identifiers": mapTexts,
		"segments":    mapStrings,
		"decide":      mapStrings,
		"options":     mapStrings,
		"forced_decisions": {shape: array, parts: map[string]*mappable{"#": {shape: object, needs: []string{"flag_key", "variation_key"}, parts: map[string]*mappable{
			"flag_key": mapString, "rule_key": mapString, "variation_key": mapString,
		}}}},
		"events": {shape: array, parts: map[string]*mappable{"#": {shape: object, needs: []string{"key"}, parts: map[string]*mappable{
			"key": mapString, "tags": mapObject, "timestamp": mapTime,
		}}}},
		"odp_events": {shape: array, parts: map[string]*mappable{"#": {shape: object, needs: []string{"action"}, parts: map[string]*mappable{
			"type": mapString, "action": mapString, "identifiers": mapTexts, "data": mapObject,
		}}}},
		"context": mapObject,
	}}
)

// field compiles one line of the mapping.
func (c *mappingCompiler) field(field string, value any) {
	steps := splitPath(field)
	if steps == nil {
		c.fault(field, "is not a path")
		return
	}
	n, kind := c.build, mapActivity
	for depth, step := range steps {
		if n.from != nil && n.shape == array {
			c.fault(field, "%s is already mapped as a whole", strings.Join(steps[:depth], "."))
			return
		}
		part, ok := c.step(kind, step)
		if !ok {
			c.fault(field, "%s", unknownPart(kind, steps[:depth], step))
			return
		}
		if n.from != nil && len(kind.needs) > 0 {
			c.fault(field, "%s is already mapped as a whole", strings.Join(steps[:depth], "."))
			return
		}
		n, kind = n.part(step, part), part
	}
	if n.from != nil {
		c.fault(field, "is mapped twice")
		return
	}
	if len(n.parts) > 0 && (kind.shape == array || len(kind.needs) > 0) {
		c.fault(field, "is mapped both as a whole and in parts")
		return
	}
	n.from = c.origin(field, steps, kind, value)
}

func (c *mappingCompiler) step(kind *mappable, step string) (*mappable, bool) {
	if kind.shape == array {
		return kind.parts["#"], pathIndex(step) >= 0
	}
	if part, ok := kind.parts[step]; ok && step != "*" {
		return part, true
	}
	part, ok := kind.parts["*"]
	return part, ok
}

func unknownPart(kind *mappable, parent []string, step string) string {
	switch {
	case kind.shape == array:
		return fmt.Sprintf("%q is not an index from 0 to %d", step, maxMappedIndex)
	case len(kind.parts) == 0:
		return strings.Join(parent, ".") + " has no parts; a dot inside a key is written \\."
	}
	return fmt.Sprintf("unknown field %q, want one of %s", step, strings.Join(slices.Sorted(maps.Keys(kind.parts)), ", "))
}

// part returns n's part of that name, adding it when it is new.
func (n *buildNode) part(step string, kind *mappable) *buildNode {
	for i := range n.parts {
		if n.parts[i].name == step {
			return n.parts[i].node
		}
	}
	next := &buildNode{shape: kind.shape, convert: kind.convert}
	if len(kind.needs) > 0 {
		next.needs = kind.needs[0]
	}
	n.parts = append(n.parts, buildPart{name: step, quoted: AppendString(nil, step), index: pathIndex(step), node: next})
	return next
}

// sortParts puts array elements in the order of their indexes.
func sortParts(n *buildNode) {
	if n.shape == array {
		slices.SortFunc(n.parts, func(a, b buildPart) int { return a.index - b.index })
	}
	for _, p := range n.parts {
		sortParts(p.node)
	}
}

// origin compiles the right side of a line. It returns something even after a
// fault, so that later lines are judged as if this one were right.
func (c *mappingCompiler) origin(field string, steps []string, kind *mappable, value any) *origin {
	o := &origin{}
	switch value := value.(type) {
	case string:
		o.slot = c.source(field, value)
		return o
	case map[string]any:
		c.originObject(o, field, steps, kind, value)
		return o
	}
	c.fault(field, "want a source path, {const: ...} or {from: ...}")
	return o
}

func (c *mappingCompiler) originObject(o *origin, field string, steps []string, kind *mappable, value map[string]any) {
	constant, isConst := value["const"]
	from, isFrom := value["from"]
	if isConst == isFrom {
		c.fault(field, "want exactly one of const and from")
		return
	}
	for _, key := range slices.Sorted(maps.Keys(value)) {
		switch {
		case key == "const" || key == "from":
		case key == "rename" && isFrom && kind.shape == object:
			c.rename(o, field, value[key])
		case key == "unit" && isFrom && kind.convert == shiftToMillis:
			c.unit(o, field, value[key])
		default:
			c.fault(field, "%s has no meaning here", key)
		}
	}
	if isConst {
		c.constant(o, field, steps, kind, constant)
		return
	}
	path, ok := from.(string)
	if !ok {
		c.fault(field, "from wants a source path")
		return
	}
	o.slot = c.source(field, path)
}

func (c *mappingCompiler) source(field, path string) int {
	if path == "$" {
		return c.addPath(nil)
	}
	steps := splitPath(strings.TrimPrefix(path, "$."))
	if steps == nil {
		c.fault(field, "%q is not a source path", path)
		return 0
	}
	if strings.HasSuffix(path, "]") && !strings.HasSuffix(path, `\]`) {
		c.fault(field, "%q: an index is written as a step, such as items.0", path)
		return 0
	}
	return c.addPath(steps)
}

func (c *mappingCompiler) rename(o *origin, field string, value any) {
	names, ok := value.(map[string]any)
	if !ok {
		c.fault(field, "rename wants an object of key: new key")
		return
	}
	o.rename = make(map[string][]byte, len(names))
	taken := make(map[string]bool, len(names))
	for _, key := range slices.Sorted(maps.Keys(names)) {
		name, ok := names[key].(string)
		if !ok {
			c.fault(field, "rename of %q wants a string", key)
			continue
		}
		if taken[name] {
			c.fault(field, "two keys are renamed to %q", name)
		}
		taken[name] = true
		o.rename[key] = AppendString(nil, name)
	}
}

func (c *mappingCompiler) unit(o *origin, field string, value any) {
	name, _ := value.(string)
	places, ok := map[string]int{"s": 3, "ms": 0, "us": -3, "ns": -6}[name]
	if !ok {
		c.fault(field, "unit wants s, ms, us or ns")
		return
	}
	o.unit = &places
}

// constant checks a constant by decoding an activity that has nothing else.
func (c *mappingCompiler) constant(o *origin, field string, steps []string, kind *mappable, value any) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		c.fault(field, "const is no JSON value: %v", err)
		return
	}
	raw := bytes.TrimSuffix(text.Bytes(), []byte("\n"))
	if string(raw) == "null" {
		c.fault(field, "const null is the same as no mapping; leave it out")
		return
	}
	o.constant = raw
	var d Decoder
	fitted := d.appendConverted(nil, raw, &buildNode{shape: kind.shape, convert: kind.convert, from: o})
	if err := d.Decode(probe(steps, fitted), new(Activity)); err != nil {
		c.fault(field, "const does not fit the field: %v", err)
	}
}

// probe is an activity with one field, and what an activity and a list's
// element cannot do without.
func probe(steps []string, value []byte) []byte {
	companions := map[string]string{
		"user_id":          "",
		"events":           `"key":"",`,
		"odp_events":       `"action":"",`,
		"forced_decisions": `"flag_key":"","variation_key":"",`,
	}
	text := string(value)
	for depth := len(steps) - 1; depth >= 0; depth-- {
		step := steps[depth]
		switch {
		case depth == 1 && pathIndex(step) >= 0 && mapActivity.parts[steps[0]].shape == array:
			text = "[" + text + "]"
		case depth == 2:
			others := strings.Replace(companions[steps[0]], string(AppendString(nil, step))+`:"",`, "", 1)
			text = "{" + others + string(AppendString(nil, step)) + ":" + text + "}"
		case depth == 0 && step != "user_id":
			text = `{"user_id":"",` + string(AppendString(nil, step)) + ":" + text + "}"
		default:
			text = "{" + string(AppendString(nil, step)) + ":" + text + "}"
		}
	}
	return []byte(text)
}
