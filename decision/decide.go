package decision

import (
	"context"
	"slices"
)

// Decide decides one flag. EnabledFlagsOnly has no effect, so there is always a
// decision to look at; an unknown key gives one with FlagNotFound. env may be
// nil. It doesn't allocate unless reasons are asked for or env takes part. Safe
// for concurrent use with different users. Source: decide.md DC-5, DC-6.
func (p *Project) Decide(ctx context.Context, u *User, key string, options Options, env *Env) Decision {
	var c call
	var d Decision
	c.begin(ctx, p, u, options&^EnabledFlagsOnly, env)
	c.decideKey(&d, key)
	c.end()
	return d
}

// DecideKeys decides flags in the order of keys and returns dst with one
// decision appended per key. A key given twice is decided twice, and the second
// decision isn't listed. Allocations and concurrency are those of Decide, if dst
// has room. Source: decide.md DC-5, DC-7.
func (p *Project) DecideKeys(ctx context.Context, dst []Decision, u *User, keys []string, options Options, env *Env) []Decision {
	if len(keys) == 0 {
		return dst
	}
	var c call
	c.begin(ctx, p, u, options, env)
	var seen keySet
	for i, key := range keys {
		dst = append(dst, Decision{})
		d := &dst[len(dst)-1]
		c.decideKey(d, key)
		d.isHidden = d.isHidden || seen.repeats(keys, i)
	}
	c.end()
	return dst
}

// A keySet finds repeats in a list of keys that is read from front to back: by
// comparison while it is short, by a map once that would take long.
type keySet map[string]struct{}

func (s *keySet) repeats(keys []string, i int) bool {
	const short = 32
	if i < short {
		return slices.Contains(keys[:i], keys[i])
	}
	if *s == nil {
		*s = make(keySet, len(keys))
		for _, k := range keys[:i] {
			(*s)[k] = struct{}{}
		}
	}
	_, ok := (*s)[keys[i]]
	(*s)[keys[i]] = struct{}{}
	return ok
}

// DecideAll decides every flag in datafile order and returns dst with NumFlags
// decisions appended. Otherwise it is DecideKeys of all keys.
func (p *Project) DecideAll(ctx context.Context, dst []Decision, u *User, options Options, env *Env) []Decision {
	if len(p.flags) == 0 {
		return dst
	}
	var c call
	c.begin(ctx, p, u, options, env)
	for i := range p.flags {
		dst = append(dst, Decision{})
		c.decideFlag(&dst[len(dst)-1], uint32(i), p.flags[i].key)
	}
	c.end()
	return dst
}

// A call is the state of one Decide, DecideKeys or DecideAll.
type call struct {
	p       *Project
	u       *User
	ctx     context.Context
	options Options
	env     *Env
	sticky  *stickiness // nil: no profile service, or ignored
	rec     *recorder   // nil: nobody wants reasons
}

func (c *call) begin(ctx context.Context, p *Project, u *User, options Options, env *Env) {
	if u.p != p {
		panic("BUG: user of another project")
	}
	c.p, c.u, c.ctx, c.options, c.env = p, u, ctx, options, env
	if env != nil && env.Profiles != nil && !options.Has(IgnoreUserProfileService) {
		c.sticky = loadProfile(ctx, env.Profiles, u.id)
	}
}

func (c *call) end() {
	if c.sticky != nil {
		c.sticky.save(c.ctx, c.env.Profiles)
	}
}

func (c *call) decideKey(d *Decision, key string) {
	if i := c.p.flagByKey.find(key); i != none {
		c.decideFlag(d, i, key)
		return
	}
	*d = Decision{p: c.p, key: key, flag: none, rule: none, variation: none, bypassed: none, err: FlagNotFound}
	d.extras = &decisionExtras{reasons: []Reason{{Code: ReasonFlagNotFound, Detail: key}}}
}

// decideFlag decides a known flag: a decision forced for the whole flag, or the
// walk; then what the options make of it.
func (c *call) decideFlag(d *Decision, i uint32, key string) {
	d.p, d.key, d.flag, d.rule, d.variation, d.bypassed = c.p, key, i, none, none, none
	f := &c.p.flags[i]
	wantsReasons := c.options.Has(IncludeReasons)
	if wantsReasons || f.hasBandit || c.rec != nil { // a failed bandit always tells its reasons; rec: an explanation
		c.record()
	}
	if v := c.forced(i, ""); v != none {
		d.variation = v
	} else {
		c.walk(d, f)
	}
	if wantsReasons || d.err != NoError {
		d.more().reasons = c.rec.reasons
	}
	if d.err != NoError {
		return
	}
	d.hasNoVariables = c.options.Has(ExcludeVariables)
	d.isHidden = c.options.Has(EnabledFlagsOnly) && !d.Enabled()
	if !c.options.Has(DisableDecisionEvent) {
		source := d.RuleType()
		d.isDispatched = source != RuleDelivery || c.p.meta.sendFlagDecisions || d.bypassed != none
	}
}

// walk is decide.md section 4: global holdouts, experiment rules, delivery rules.
func (c *call) walk(d *Decision, f *flag) {
	rules := c.p.rules
	for _, h := range c.p.globals {
		v := c.holdout(h)
		if v == none {
			continue
		}
		if !rules[h].isBypassable {
			c.note(ReasonHeldOut, h, v)
			d.rule, d.variation = h, v
			return
		}
		c.note(ReasonHoldoutBypassed, h, v) // DC-17a
		d.bypassed, d.bypassedVariation = h, v
		break
	}

	for i := f.experiments.start; i < f.experiments.end; i++ {
		if d.bypassed != none && !rules[i].isTargeted {
			c.note(ReasonSkippedByHoldout, i, none)
			continue
		}
		c.visit(i)
		if (len(c.u.forced) > 0 || len(rules[i].locals) > 0) && c.forcedOrHeld(d, i) {
			if rules[d.rule].ruleType == RuleHoldout {
				d.bypassed = none
			}
			return
		}
		v := c.experiment(d, i)
		if d.err != NoError {
			d.bypassed = none
			return
		}
		if v != none {
			d.rule, d.variation = i, v
			return
		}
	}

	if f.deliveries.start == f.deliveries.end {
		c.noteFlag(ReasonNoDeliveryRules)
	}
	last := f.deliveries.end - 1
	for i := f.deliveries.start; i < f.deliveries.end; i++ {
		c.visit(i)
		if (len(c.u.forced) > 0 || len(rules[i].locals) > 0) && c.forcedOrHeld(d, i) {
			if rules[d.rule].ruleType == RuleHoldout {
				d.bypassed = none
			}
			return
		}
		if !c.inAudience(i) {
			c.note(ReasonAudienceNotMet, i, none)
			continue
		}
		c.note(ReasonAudienceMet, i, none)
		if v := c.deliver(i); v != none {
			d.rule, d.variation = i, v
			return
		}
		if i < last { // DC-22: straight to the everyone-else rule
			c.note(ReasonToEveryoneElse, i, none)
			i = last - 1
		}
	}
	c.noteFlag(ReasonNoRule)
}

// forced returns the valid variation forced for a flag and rule ("" is the flag
// as a whole), or none. Source: decide.md DC-12.
func (c *call) forced(flag uint32, ruleKey string) uint32 {
	if len(c.u.forced) == 0 {
		return none
	}
	key, ok := c.u.forcedKey(flag, ruleKey)
	if !ok {
		return none
	}
	for _, v := range c.p.flags[flag].variations {
		if c.p.variations[v].key == key {
			c.noteText(ReasonForcedDecision, ruleKey, c.p.variations[v].key)
			return v
		}
	}
	c.noteText(ReasonForcedInvalid, ruleKey, "")
	return none
}

// forcedOrHeld takes the first two steps on rule i: a decision forced for it,
// then its local holdouts. Source: decide.md DC-14, DC-17.
func (c *call) forcedOrHeld(d *Decision, i uint32) bool {
	r := &c.p.rules[i]
	if len(c.u.forced) > 0 && r.key != "" {
		if v := c.forced(d.flag, r.key); v != none {
			d.rule, d.variation = i, v
			return true
		}
	}
	for _, h := range r.locals {
		if v := c.holdout(h); v != none {
			c.note(ReasonHeldOut, h, v)
			d.rule, d.variation = h, v
			return true
		}
	}
	c.resume(i)
	return false
}

// holdout returns the variation of a running holdout, or none.
// Source: decide.md DC-16.
func (c *call) holdout(h uint32) uint32 {
	c.visit(h)
	if !c.inAudience(h) {
		c.note(ReasonHoldoutAudience, h, none)
		return none
	}
	v := c.bucket(h)
	if v == none {
		c.note(ReasonHoldoutNotBucketed, h, none)
	}
	return v
}

// experiment evaluates an experiment rule and returns its variation, or none.
// d receives an error or a prediction's id. Source: decide.md 4.4.
func (c *call) experiment(d *Decision, i uint32) uint32 {
	r := &c.p.rules[i]
	if !r.isRunning {
		c.note(ReasonNotRunning, i, none)
		return none
	}
	if c.env != nil && c.env.Forced != nil {
		if id, ok := c.env.Forced.ForcedVariation(c.u.id, r.id); ok {
			if v := c.p.variationByID(r, id); v != none {
				c.note(ReasonForcedVariation, i, v)
				return v
			}
		}
	}
	if len(r.whitelist) > 0 {
		if l, ok := c.u.listing(r.whitelist); ok {
			if l.variation != none {
				c.note(ReasonWhitelisted, i, l.variation)
				return l.variation
			}
			c.note(ReasonWhitelistInvalid, i, none)
		}
	}
	if c.sticky != nil {
		if id := c.sticky.variationID(r.id); id != "" {
			if v := c.p.variationByID(r, id); v != none {
				c.note(ReasonSticky, i, v)
				return v
			}
			c.note(ReasonStickyInvalid, i, none)
		}
	}
	if !c.inAudience(i) {
		c.note(ReasonAudienceNotMet, i, none)
		return none
	}
	c.note(ReasonAudienceMet, i, none)
	if r.group != none && !c.inGroup(i) {
		return none
	}
	if r.isBandit {
		return c.predict(d, i)
	}
	v := c.bucket(i)
	if v == none {
		c.note(ReasonNotBucketed, i, none)
		return none
	}
	c.note(ReasonBucketed, i, v)
	if c.sticky != nil {
		c.sticky.add(r.id, c.p.variations[v].id)
	}
	return v
}

// deliver buckets the user into a delivery rule. Source: decide.md DC-20, DC-24.
func (c *call) deliver(i uint32) uint32 {
	if c.p.rules[i].isBandit {
		c.note(ReasonBanditDelivery, i, none)
		return none
	}
	v := c.bucket(i)
	if v == none {
		c.note(ReasonNotBucketed, i, none)
	} else {
		c.note(ReasonBucketed, i, v)
	}
	return v
}

// inAudience tells whether the user meets the rule's conditions; unknown counts
// as no. Source: audiences.md AU-6.
func (c *call) inAudience(i uint32) bool {
	pc := c.p.rules[i].cond
	met := pc == none || c.p.eval(pc, c.u) == isTrue
	if c.rec != nil {
		c.rec.audience(c, pc, met)
	}
	return met
}

// bucket returns the variation that the user's bucket falls into, or none.
// Source: bucketing.md BK-7, BK-9.
func (c *call) bucket(i uint32) uint32 {
	r := &c.p.rules[i]
	h := c.u.hash(r.id)
	if c.rec != nil {
		c.rec.bucket(c, r.id, h, c.p.ranges[r.ranges.start:r.ranges.end])
	}
	bucket := int32(Bucket(h))
	for k := r.ranges.start; k < r.ranges.end; k++ {
		if t := &c.p.ranges[k]; bucket < t.end {
			return t.variation
		}
	}
	return none
}

// inGroup tells whether an exclusive group lets the user into the rule.
// Source: bucketing.md BK-11.
func (c *call) inGroup(i uint32) bool {
	r := &c.p.rules[i]
	g := &c.p.groups[r.group]
	h := c.u.hash(g.id)
	if c.rec != nil {
		c.rec.group(c, g, h)
	}
	bucket := int32(Bucket(h))
	for k := g.ranges.start; k < g.ranges.end; k++ {
		t := &c.p.ranges[k]
		if bucket >= t.end {
			continue
		}
		switch t.entityID {
		case "":
			c.noteText(ReasonGroupNone, r.key, g.id)
			return false
		case r.id:
			c.noteText(ReasonGroupMember, r.key, g.id)
			return true
		default:
			c.noteText(ReasonGroupOther, r.key, g.id)
			return false
		}
	}
	c.noteText(ReasonGroupNone, r.key, g.id)
	return false
}

// predict asks for a bandit's variation. Source: decide.md section 6.
func (c *call) predict(d *Decision, i uint32) uint32 {
	r := &c.p.rules[i]
	h := c.u.hash(r.id)
	if c.rec != nil {
		c.rec.bucket(c, r.id, h, []trafficRange{{end: r.banditTraffic, variation: none, entityID: "$"}})
	}
	if int32(Bucket(h)) >= r.banditTraffic {
		c.note(ReasonBanditNotAdmitted, i, none)
		return none
	}
	if c.env == nil || c.env.Predictor == nil {
		c.note(ReasonBanditFailed, i, none)
		d.err = CMABFetchFailed
		return none
	}
	q := &PredictionQuery{RuleID: r.id, UserID: c.u.id, Options: c.options, p: c.p, rule: i}
	for _, a := range r.banditAttributes {
		if v, ok := c.u.attribute(a.slot); ok {
			q.Attributes = append(q.Attributes, PredictionAttribute{a.id, v})
		}
	}
	answer, err := c.env.Predictor.Predict(c.ctx, q)
	if err != nil {
		c.note(ReasonBanditFailed, i, none)
		d.err = CMABFetchFailed
		return none
	}
	v := c.p.variationByID(r, answer.VariationID)
	if v == none {
		c.note(ReasonBanditUnknown, i, none)
		return none
	}
	c.note(ReasonBanditDecided, i, v)
	if answer.UUID != "" {
		d.more().cmabUUID = answer.UUID
	}
	return v
}
