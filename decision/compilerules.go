package decision

import (
	"cmp"
	"slices"
	"strings"
)

// holdouts compiles the holdouts that run; they take the first places among
// rules and variations. Source: datafile.md section 4.5.
func (c *compiler) holdouts() {
	c.locals = map[string][]uint32{}
	add := func(w *wireRule) (uint32, bool) {
		if w.status != "Running" {
			return none, false
		}
		i := c.rule(w, RuleHoldout, nil)
		c.p.rules[i].isBypassable = w.excludesTargeted
		return i, true
	}
	for _, w := range c.w.holdouts {
		if i, ok := add(w); ok {
			c.p.globals = append(c.p.globals, i)
		}
	}
	for _, w := range c.w.local {
		i, ok := add(w)
		if !ok {
			continue
		}
		for _, id := range w.includedRules {
			c.locals[id] = append(c.locals[id], i)
		}
	}
	c.p.numHoldoutVariations = uint32(len(c.p.variations))
}

// flag compiles one flag and the rules it visits.
func (c *compiler) flag(w *wireFlag) {
	f := flag{key: w.key, id: w.id, variables: uniqueVariables(w.variables)}
	f.defaults = renderVariables(f.variables, false, nil)

	f.experiments.start = uint32(len(c.p.rules))
	for i, id := range w.experimentIDs {
		e := c.experiments[id]
		if e == nil {
			if c.hasLost {
				continue
			}
			c.fault(w.at.field("experimentIds").elem(w.experimentAt[i]), "names experiment %q, which exists nowhere in the datafile", id)
			continue
		}
		at := c.rule(e, RuleExperiment, &f)
		f.hasBandit = f.hasBandit || e.bandit != nil
		if _, ok := c.firstRule[e]; !ok {
			c.firstRule[e] = at
		}
	}
	f.experiments.end = uint32(len(c.p.rules))

	f.deliveries.start = f.experiments.end
	if ro := c.rollouts[w.rolloutID]; ro != nil {
		for _, d := range ro.rules {
			c.rule(d, RuleDelivery, &f)
		}
	} else if w.rolloutID != "" { // DF-P2
		c.warn(w.at.field("rolloutId"), "names rollout %q, which doesn't exist: the flag has none", w.rolloutID)
	}
	f.deliveries.end = uint32(len(c.p.rules))

	c.flagVariations(&f)
	c.p.flags = append(c.p.flags, f)
}

// flagVariations lists the variations of a flag's rules, the first of each id, and
// gives every variation what events say of it: the first key of its id. What a
// later flag lent to an experiment they share isn't among them, though users get
// it; events don't name it then, nor a variation whose id is "". Source: datafile.md section 5, events.md EV-21.
func (c *compiler) flagVariations(f *flag) {
	if c.firstByID == nil {
		c.firstByID = map[string]uint32{}
	}
	clear(c.firstByID)
	if f.experiments.start == f.deliveries.end {
		return
	}
	// The variations of consecutive rules are consecutive.
	start, end := c.p.rules[f.experiments.start].variations.start, c.p.rules[f.deliveries.end-1].variations.end
	number := uint32(len(c.p.flags) + 1)
	for v := start; v < end; v++ {
		if _, ok := c.firstByID[c.p.variations[v].id]; !ok && c.p.variations[v].injectedBy <= number {
			c.firstByID[c.p.variations[v].id] = v
			f.variations = append(f.variations, v)
		}
	}
	for v := start; v < end; v++ {
		if c.p.variations[v].id == "" {
			continue
		}
		if first, ok := c.firstByID[c.p.variations[v].id]; ok {
			c.p.variations[v].eventKey = c.p.variations[first].key
		} else {
			c.p.variations[v].eventKey, c.p.variations[v].eventID = "", ""
		}
	}
}

// legacyExperiments gives experiments their keys, and a rule to those that no
// flag lists. Source: datafile.md section 5, legacy-api.md LG-5.
func (c *compiler) legacyExperiments() {
	c.p.numFlagRules = uint32(len(c.p.rules))
	byKey := map[string]uint32{}
	c.eachExperiment(func(w *wireRule) {
		i, ok := c.firstRule[w]
		if !ok {
			i = c.rule(w, RuleExperiment, nil)
		}
		byKey[w.key] = i
	})
	c.p.experimentByKey = newNameTable(byKey)
}

// uniqueVariables keeps the last content of a repeated key at its first place.
func uniqueVariables(list []variable) []variable {
	at := make(map[string]int, len(list))
	out := list[:0]
	for _, v := range list {
		if i, ok := at[v.key]; ok {
			out[i] = v
			continue
		}
		at[v.key] = len(out)
		out = append(out, v)
	}
	return out
}

// rule compiles one rule as flag f visits it, or a holdout (f is nil).
func (c *compiler) rule(w *wireRule, ruleType RuleType, f *flag) uint32 {
	p := c.p
	index := uint32(len(p.rules))
	r := rule{
		id: w.id, key: w.key, ruleType: ruleType, group: none, cond: none,
		isRunning: w.status == "Running", isTargeted: w.typ == "td",
		campaignID: w.layerID,
	}
	if r.campaignID == "" || ruleType == RuleHoldout { // EV-16
		r.campaignID = w.id
	}
	if w.conditions != nil {
		r.cond = c.emit(w.at.field("audienceConditions"), w.conditions, c.audienceLeaf)
	}

	r.variations.start = uint32(len(p.variations))
	for _, v := range w.variations {
		out := variation{id: v.id, key: v.key, enabled: v.enabled, rule: index, usages: v.usages, injectedBy: uint32(v.injectedBy)}
		if isDigits(v.id) { // EV-17
			out.eventID = v.id
		}
		if v.id != "" {
			out.eventKey = v.key
		}
		if f != nil {
			out.variables = f.defaults
			if v.enabled && len(v.usages) > 0 {
				out.variables = renderVariables(f.variables, true, v.usages)
			}
		}
		p.variations = append(p.variations, out)
	}
	r.variations.end = uint32(len(p.variations))

	r.ranges.start = uint32(len(p.ranges))
	for _, t := range w.traffic {
		p.ranges = append(p.ranges, trafficRange{t.end, p.variationByID(&r, t.entityID), t.entityID})
	}
	r.ranges.end = uint32(len(p.ranges))

	if ruleType == RuleExperiment {
		if g, ok := c.groupOf[w]; ok {
			r.group = g
		}
		for user, key := range w.forced {
			i, ok := c.listedUsers[user]
			if !ok {
				i = uint32(len(c.listedUsers))
				c.listedUsers[user] = i
			}
			r.whitelist = append(r.whitelist, listing{i, p.variationByKey(&r, key)})
		}
		slices.SortFunc(r.whitelist, func(a, b listing) int { return cmp.Compare(a.user, b.user) })
	}
	if w.bandit != nil {
		r.isBandit, r.banditTraffic = true, w.bandit.traffic
		for i, id := range w.bandit.attributeIDs {
			if key, ok := c.attributeByID[id]; ok && !slices.Contains(w.bandit.attributeIDs[:i], id) {
				r.banditAttributes = append(r.banditAttributes, banditAttribute{id, c.slot(key)})
			}
		}
	}
	r.locals = c.locals[w.id]
	if ruleType == RuleHoldout {
		r.locals = nil
	}
	if strings.TrimSpace(w.key) == "" {
		c.warn(w.at.field("key"), "is blank")
	}
	p.rules = append(p.rules, r)
	return index
}

// variationByID finds a variation of the rule by id; the last of several counts.
// "" finds nothing: it marks unallocated traffic. Source: bucketing.md BK-9,
// datafile.md DF-P10.
func (p *Project) variationByID(r *rule, id string) uint32 {
	if id != "" {
		for v := r.variations.end; v > r.variations.start; v-- {
			if p.variations[v-1].id == id {
				return v - 1
			}
		}
	}
	return none
}

// variationByKey finds a variation of the rule by key; the last of several counts.
func (p *Project) variationByKey(r *rule, key string) uint32 {
	for v := r.variations.end; v > r.variations.start; v-- {
		if p.variations[v-1].key == key {
			return v - 1
		}
	}
	return none
}

// overrideHoldoutVariables renders the variables of flags for which an enabled
// holdout variation has values of its own. Source: decide.md DC-P5.
func (c *compiler) overrideHoldoutVariables() {
	for v := range c.p.numHoldoutVariations {
		held := &c.p.variations[v]
		if !held.enabled || len(held.usages) == 0 {
			continue
		}
		for i := range c.p.flags {
			f := &c.p.flags[i]
			if text := renderVariables(f.variables, true, held.usages); text != f.defaults {
				c.p.holdoutVariables[[2]uint32{uint32(i), v}] = text
			}
		}
	}
}
