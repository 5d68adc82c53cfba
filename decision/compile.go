package decision

import (
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"
)

// A CompileOption changes how strict [Compile] is.
type CompileOption func(*reader)

// SkipSchemaValidation leaves the schema step out, as the SDKs' option
// skip_json_validation does: top-level sections and ids that decisions don't
// need may be missing, and ids may be numbers. Source: datafile.md section 2.1.
func SkipSchemaValidation() CompileOption { return func(r *reader) { r.isStrict = false } }

// Compile validates a datafile of version 2, 3 or 4 and builds its Project. The
// error is a [*DatafileError] that lists every fault found; whatever the input,
// it never panics. The Project keeps the datafile, which must not be modified
// afterwards. Source: datafile.md.
func Compile(datafile []byte, options ...CompileOption) (*Project, error) {
	r := &reader{isStrict: true}
	for _, o := range options {
		o(r)
	}
	root, version := r.root(datafile)
	if root == nil {
		return nil, &DatafileError{Faults: r.faults}
	}
	w := r.file(root)
	w.meta.version = version
	c := &compiler{
		reader: r, w: w, emptySlot: none,
		slotByKey: map[string]uint32{}, segmentByName: map[string]uint32{},
		flagByKey: map[string]uint32{}, listedUsers: map[string]uint32{},
		p: &Project{raw: datafile, meta: w.meta, events: map[string]string{}, holdoutVariables: map[[2]uint32]string{}},
	}
	c.compile() // also after faults, to find those of references
	if len(r.faults) > 0 {
		return nil, &DatafileError{Faults: r.faults, version: version == ""}
	}
	c.p.digest, c.p.warnings = digestOf(datafile), r.warnings
	c.p.config = sync.OnceValue(func() *Config { return makeConfig(datafile, c.p.meta) })
	return c.p, nil
}

// root parses the text and checks the version; root is nil if the text is no
// object, version is "" if it is none that is known. Source: datafile.md DF-1, DF-3, DF-P1.
func (r *reader) root(datafile []byte) (root map[string]any, version string) {
	if !utf8.Valid(datafile) {
		r.fault(nil, "is not UTF-8 text")
		return nil, ""
	}
	tree, err := parseTree(datafile)
	if err != nil {
		r.fault(nil, "is not one JSON object: %v", err)
		return nil, ""
	}
	root = r.object(nil, tree)
	if root == nil {
		return nil, ""
	}
	at := (*place)(nil).field("version")
	switch version := root["version"].(type) {
	case string:
		if version == "2" || version == "3" || version == "4" {
			return root, version
		}
		r.fault(at, "is %q; this program reads versions \"2\", \"3\" and \"4\"", version)
	default:
		r.fault(at, "must be the string \"2\", \"3\" or \"4\", not %s", typeName(version))
	}
	return root, "" // the other faults are told all the same
}

// A compiler turns every id into an index.
type compiler struct {
	*reader
	p             *Project
	w             *wireFile
	attributeByID map[string]string // id to key
	audienceByID  map[string]uint32
	experiments   map[string]*wireRule
	rollouts      map[string]*wireRollout
	groupOf       map[*wireRule]uint32
	firstRule     map[*wireRule]uint32 // experiment to its rule in the first flag that lists it
	locals        map[string][]uint32  // rule id to the local holdouts on it
	emptySlot     uint32
	slotByKey     map[string]uint32
	segmentByName map[string]uint32
	flagByKey     map[string]uint32
	listedUsers   map[string]uint32
	firstByID     map[string]uint32 // scratch of flag: variation id to its first variation
}

func (c *compiler) compile() {
	c.attributes()
	c.audiences()
	c.indexRules()
	flags := c.uniqueFlags()
	c.injectFeatureRollouts(flags)
	c.holdouts()
	for _, w := range flags {
		c.flag(w)
	}
	c.legacyExperiments()
	c.overrideHoldoutVariables()
	for _, e := range c.w.events {
		c.p.events[e.key] = e.id
	}
	c.finishSlots()
	c.p.slotByKey, c.p.segmentByName = newNameTable(c.slotByKey), newNameTable(c.segmentByName)
	c.p.flagByKey, c.p.listedUsers = newNameTable(c.flagByKey), newNameTable(c.listedUsers)
	c.p.numSegments = len(c.segmentByName)
	c.p.eventFragments = make([]atomic.Pointer[[]byte], c.p.fragmentOf(uint32(len(c.p.flags)), 0))
}

// attributes gives every declared attribute its slot. Of entries with one key
// the last counts, and so of entries with one id.
func (c *compiler) attributes() {
	c.attributeByID = map[string]string{}
	c.p.bucketingSlot = c.slot(bucketingKey)
	for _, a := range c.w.attributes {
		c.p.slots[c.slot(a.key)].entityID = a.id
		c.attributeByID[a.id] = a.key
	}
}

// finishSlots renders what events say of each attribute. Source: events.md EV-22.
func (c *compiler) finishSlots() {
	declared := map[string]bool{}
	for _, a := range c.w.attributes {
		declared[a.key] = true
	}
	c.p.numAttributes = len(declared)
	for i := range c.p.slots {
		s := &c.p.slots[i]
		if !declared[s.key] && strings.HasPrefix(s.key, "$opt_") {
			s.entityID = s.key
		}
		if s.entityID != "" {
			s.fragment = string(appendAttributeHead(nil, s.entityID, s.key))
		}
	}
}

// audiences compiles every audience: typed ones replace legacy ones of the same
// id, later ones earlier ones. Source: datafile.md section 5.
func (c *compiler) audiences() {
	all := append(append([]wireAudience(nil), c.w.audiences...), c.w.typed...)
	c.audienceByID = make(map[string]uint32, len(all))
	final := make(map[string]int, len(all))
	for i, a := range all {
		final[a.id] = i
	}
	for i, a := range all {
		if final[a.id] == i {
			c.audienceByID[a.id] = uint32(len(c.p.audiences))
			c.p.audiences = append(c.p.audiences, audience{id: a.id, name: a.name})
		}
	}
	for i, a := range all {
		if final[a.id] == i {
			c.p.audiences[c.audienceByID[a.id]].root = c.emit(a.at, a.conditions, c.conditionLeaf)
		}
	}
	seen := map[string]bool{}
	legacy := len(c.w.audiences)
	for _, from := range [][2]int{{legacy, len(all)}, {0, legacy}} {
		for i := from[0]; i < from[1]; i++ {
			if final[all[i].id] == i {
				c.collectSegments(all[i].conditions, seen)
			}
		}
	}
}

// collectSegments adds the segments a tree asks for. Source: datafile.md DF-26.
func (c *compiler) collectSegments(tree any, seen map[string]bool) {
	switch t := tree.(type) {
	case []any:
		for _, v := range t {
			c.collectSegments(v, seen)
		}
	case map[string]any:
		if name, _ := t["value"].(string); t["match"] == "qualified" && name != "" && !seen[name] {
			seen[name] = true
			c.p.segments = append(c.p.segments, name)
		}
	}
}

// indexRules builds the lookups of experiments, groups and rollouts. An
// experiment id found only among delivery rules is legal, as in Python.
// Source: datafile.md section 5, DF-P9, DF-11, DF-12.
func (c *compiler) indexRules() {
	c.experiments = map[string]*wireRule{}
	c.rollouts = make(map[string]*wireRollout, len(c.w.rollouts))
	c.groupOf = map[*wireRule]uint32{}
	c.firstRule = map[*wireRule]uint32{}
	for i := range c.w.rollouts {
		ro := &c.w.rollouts[i]
		c.rollouts[ro.id] = ro
		for _, w := range ro.rules {
			c.experiments[w.id] = w
		}
	}
	for _, w := range c.w.experiments {
		c.experiments[w.id] = w
	}
	trafficOf := map[string][]wireRange{} // of the last group with an id
	for i := range c.w.groups {
		trafficOf[c.w.groups[i].id] = c.w.groups[i].traffic
	}
	for i := range c.w.groups {
		g := &c.w.groups[i]
		for _, w := range g.experiments {
			c.experiments[w.id] = w
		}
		if g.policy != "random" {
			continue
		}
		index := uint32(len(c.p.groups))
		for _, w := range g.experiments {
			c.groupOf[w] = index
		}
		start := uint32(len(c.p.ranges))
		for _, t := range trafficOf[g.id] {
			c.p.ranges = append(c.p.ranges, trafficRange{end: t.end, variation: none, entityID: t.entityID})
		}
		c.p.groups = append(c.p.groups, group{id: g.id, ranges: span{start, uint32(len(c.p.ranges))}})
	}
}

// injectFeatureRollouts lets experiments of type "fr" fall through to the first
// variation of their flag's everyone-else rule. Source: datafile.md section 4.4.
func (c *compiler) injectFeatureRollouts(flags []*wireFlag) {
	for i, f := range flags {
		ro := c.rollouts[f.rolloutID]
		if ro == nil || len(ro.rules) == 0 {
			continue
		}
		last := ro.rules[len(ro.rules)-1]
		if len(last.variations) == 0 {
			continue
		}
		everyone := last.variations[0]
		everyone.injectedBy = i + 1
		for _, id := range f.experimentIDs {
			if w := c.experiments[id]; w != nil && w.typ == "fr" {
				w.variations = append(w.variations, everyone)
				w.traffic = append(w.traffic, wireRange{everyone.id, numBuckets})
			}
		}
	}
}

// uniqueFlags keeps the last content of a repeated flag key at its first
// position. Source: datafile.md section 5, DF-P13.
func (c *compiler) uniqueFlags() []*wireFlag {
	var out []*wireFlag
	for i := range c.w.flags {
		f := &c.w.flags[i]
		if at, ok := c.flagByKey[f.key]; ok {
			c.warn(f.at.field("key"), "is used before: the last flag of a key counts")
			out[at] = f
			continue
		}
		c.flagByKey[f.key] = uint32(len(out))
		out = append(out, f)
	}
	return out
}
