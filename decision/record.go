package decision

// A recorder collects the reasons of one flag's decision and, for Explain, the
// steps with what was seen at each. The walk calls it at the places it passes
// anyway, so it can't tell another story.
type recorder struct {
	reasons []Reason
	trace   *Explanation // nil: reasons only
}

// record starts the recording of a flag's decision.
func (c *call) record() {
	if c.rec == nil {
		c.rec = &recorder{}
	}
	c.rec.reasons = nil // handed out with the flag before
	if _, isIgnored := c.u.bucketingID(); isIgnored {
		c.rec.add(Reason{Code: ReasonBucketingIDIgnored})
	}
}

// note records a step on a rule and, if given, the variation it is about.
func (c *call) note(code ReasonCode, rule, variation uint32) {
	if c.rec != nil {
		c.rec.note(c.p, code, rule, variation)
	}
}

// noteText records a step with a rule key and a detail.
func (c *call) noteText(code ReasonCode, ruleKey, detail string) {
	if c.rec != nil {
		c.rec.add(Reason{code, ruleKey, detail})
	}
}

// noteFlag records a step about the flag as a whole.
func (c *call) noteFlag(code ReasonCode) {
	if c.rec != nil {
		c.rec.leaveRule()
		c.rec.add(Reason{Code: code})
	}
}

// visit tells an explanation that the walk comes to a rule.
func (c *call) visit(rule uint32) {
	if c.rec != nil && c.rec.trace != nil {
		c.rec.visit(c.p, rule)
	}
}

// resume tells an explanation that the walk is back at a rule, after the
// holdouts it came past.
func (c *call) resume(rule uint32) {
	if c.rec != nil && c.rec.trace != nil {
		c.rec.trace.resume(rule)
	}
}

func (r *recorder) note(p *Project, code ReasonCode, rule, variation uint32) {
	reason := Reason{Code: code, RuleKey: p.rules[rule].key}
	if variation != none {
		reason.Detail = p.variations[variation].key
	}
	r.add(reason)
}

func (r *recorder) add(reason Reason) {
	r.reasons = append(r.reasons, reason)
	if r.trace != nil {
		r.trace.add(reason)
	}
}
