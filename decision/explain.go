package decision

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
)

// An Explanation is a decision with the whole way to it. It marshals to JSON as
// documented by its tags; it holds the user's id and attribute values, so keep
// it where those may be kept.
type Explanation struct {
	FlagKey      string          `json:"flag_key"`
	UserID       string          `json:"user_id"`
	BucketingID  string          `json:"bucketing_id"` // what was hashed
	Revision     string          `json:"revision"`
	Digest       string          `json:"datafile"`
	Enabled      bool            `json:"enabled"`
	VariationKey *string         `json:"variation_key"` // null: none
	RuleKey      *string         `json:"rule_key"`      // null: none decided
	RuleType     *string         `json:"rule_type"`     // null: not decided, see Error
	ExperimentID *string         `json:"experiment_id"` // null: none
	VariationID  *string         `json:"variation_id"`  // null: none
	Variables    json.RawMessage `json:"variables"`
	Error        string          `json:"error,omitempty"`
	Dispatched   bool            `json:"decision_event_dispatched"`
	Notes        []Note          `json:"notes,omitempty"` // about the flag as a whole
	Steps        []Step          `json:"steps"`           // rules in the order they were visited
	// FirstChange is the first condition on the way that would have to change for
	// the user to meet the audience of a rule they failed; nil if none was failed,
	// or if nobody meets those. Holdouts, which take users out, have theirs in Steps.
	FirstChange *Change `json:"first_change,omitempty"`
	// Decision is the decision itself, as [Project.Decide] gives it.
	Decision Decision `json:"-"`

	current *Step
}

// A Note is a reason with its text.
type Note struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// A Step is what happened at one rule or holdout.
type Step struct {
	Kind      string         `json:"kind"` // "experiment", "delivery", "holdout"
	RuleID    string         `json:"rule_id"`
	RuleKey   string         `json:"rule_key"`
	IsRunning bool           `json:"is_running"`
	Audience  *AudienceTrace `json:"audience,omitempty"` // nil: not evaluated
	Group     *BucketTrace   `json:"group,omitempty"`    // nil: no exclusive group, or not reached
	Bucket    *BucketTrace   `json:"bucket,omitempty"`   // nil: not bucketed
	Change    *Change        `json:"change,omitempty"`   // what would have to change to meet the audience
	Notes     []Note         `json:"notes"`

	rule uint32
}

// A BucketTrace shows one hash and the ranges it was held against.
type BucketTrace struct {
	Salt   string       `json:"salt"` // id of rule, holdout or group
	Key    string       `json:"key"`  // bucketing id and salt
	Hash   uint32       `json:"hash"`
	Bucket int          `json:"bucket"` // 0 to 9999
	Ranges []RangeTrace `json:"ranges"`
}

// A RangeTrace is one entry of an allocation list.
type RangeTrace struct {
	EntityID     string `json:"entity_id"` // variation, or experiment of a group; "": unallocated
	VariationKey string `json:"variation_key,omitempty"`
	Start        int    `json:"start"` // the end of the entry before, 0 at first
	End          int    `json:"end"`   // exclusive
	IsHit        bool   `json:"is_hit"`
}

// An AudienceTrace is a node of an audience tree with its result.
type AudienceTrace struct {
	Op       string           `json:"op"` // "and", "or", "not", "audience", "condition", "everyone", "constant"
	Result   string           `json:"result"`
	Name     string           `json:"name,omitempty"`  // audience name, or attribute key
	ID       string           `json:"id,omitempty"`    // audience id
	Match    string           `json:"match,omitempty"` // of a condition
	Want     json.RawMessage  `json:"want,omitempty"`  // condition value
	Seen     json.RawMessage  `json:"seen,omitempty"`  // attribute value or segments; absent: the user has none
	Operands []*AudienceTrace `json:"operands,omitempty"`

	result  truth
	isConst bool // whatever the user is like
}

// A Change names a condition and the result it would need.
type Change struct {
	RuleKey   string         `json:"rule_key"`
	Condition *AudienceTrace `json:"condition"`
	MustBe    string         `json:"must_be"` // "true" or "false"
}

// Explain decides a flag as [Project.Decide] does and returns the way to the
// decision: it is the same walk, with a recorder attached. Sticky profiles are
// read but not saved.
func (p *Project) Explain(ctx context.Context, u *User, key string, options Options, env *Env) *Explanation {
	var c call
	c.begin(ctx, p, u, options&^EnabledFlagsOnly, env)
	id, _ := u.bucketingID()
	e := &Explanation{FlagKey: key, UserID: u.id, BucketingID: id, Revision: p.meta.revision, Digest: p.digest, Steps: []Step{}}
	c.rec = &recorder{trace: e}
	d := &e.Decision
	c.decideKey(d, key)
	e.current = nil
	if d.err == FlagNotFound {
		e.add(d.Reasons()[0])
	}
	e.Enabled, e.ExperimentID, e.VariationID = d.Enabled(), orNull(d.ExperimentID()), orNull(d.VariationID())
	e.Error, e.Dispatched, e.Variables = d.err.String(), d.isDispatched, json.RawMessage(d.VariablesJSON())
	if key, ok := d.VariationKey(); ok {
		e.VariationKey = &key
	}
	if d.err == NoError {
		e.RuleType = orNull(d.RuleType().String())
	}
	if key, ok := d.RuleKey(); ok {
		e.RuleKey = &key
	}
	for i := range e.Steps {
		if e.Steps[i].Change != nil && e.Steps[i].Kind != "holdout" {
			e.FirstChange = e.Steps[i].Change
			break
		}
	}
	return e
}

// orNull is an id as decision records have it: null if there is none.
func orNull(id string) *string {
	if id == "" {
		return nil
	}
	return &id
}

func (e *Explanation) add(r Reason) {
	n := Note{r.Code.String(), r.String()}
	if e.current != nil {
		e.current.Notes = append(e.current.Notes, n)
		return
	}
	e.Notes = append(e.Notes, n)
}

func (r *recorder) leaveRule() {
	if r.trace != nil {
		r.trace.current = nil
	}
}

func (r *recorder) visit(p *Project, i uint32) {
	rule := &p.rules[i]
	kind := [...]string{RuleExperiment: "experiment", RuleDelivery: "delivery", RuleHoldout: "holdout"}[rule.ruleType]
	e := r.trace
	e.Steps = append(e.Steps, Step{Kind: kind, RuleID: rule.id, RuleKey: rule.key, IsRunning: rule.isRunning, Notes: []Note{}, rule: i})
	e.current = &e.Steps[len(e.Steps)-1]
}

// resume makes the latest step of a rule the current one again.
func (e *Explanation) resume(rule uint32) {
	for i := len(e.Steps) - 1; i >= 0; i-- {
		if e.Steps[i].rule == rule {
			e.current = &e.Steps[i]
			return
		}
	}
	panic("BUG: walk resumed at a rule that was not visited")
}

// audience records the tree of the rule being visited.
func (r *recorder) audience(c *call, pc uint32, met bool) {
	if r.trace == nil || r.trace.current == nil {
		return
	}
	step := r.trace.current
	if pc == none {
		step.Audience = &AudienceTrace{Op: "everyone", Result: isTrue.String(), result: isTrue}
		return
	}
	step.Audience = c.p.traceNode(pc, c.u)
	if (step.Audience.result == isTrue) != met {
		panic("BUG: explanation and evaluation disagree")
	}
	if !met && step.Audience.can(isTrue) {
		leaf, want := step.Audience.firstChange(isTrue)
		step.Change = &Change{RuleKey: step.RuleKey, Condition: leaf, MustBe: want.String()}
	}
}

func (r *recorder) bucket(c *call, salt string, hash uint32, ranges []trafficRange) {
	if r.trace != nil && r.trace.current != nil {
		r.trace.current.Bucket = c.traceBucket(salt, hash, ranges)
	}
}

func (r *recorder) group(c *call, g *group, hash uint32) {
	if r.trace != nil && r.trace.current != nil {
		r.trace.current.Group = c.traceBucket(g.id, hash, c.p.ranges[g.ranges.start:g.ranges.end])
	}
}

func (c *call) traceBucket(salt string, hash uint32, ranges []trafficRange) *BucketTrace {
	id, _ := c.u.bucketingID()
	t := &BucketTrace{Salt: salt, Key: id + salt, Hash: hash, Bucket: Bucket(hash), Ranges: []RangeTrace{}}
	start, isHit := 0, false
	for _, r := range ranges {
		out := RangeTrace{EntityID: r.entityID, Start: start, End: int(r.end), IsHit: !isHit && t.Bucket < int(r.end)}
		if r.variation != none {
			out.VariationKey = c.p.variations[r.variation].key
		}
		isHit = isHit || out.IsHit
		start = max(start, out.End)
		t.Ranges = append(t.Ranges, out)
	}
	return t
}

var matchNames = [...]string{
	opExists: "exists", opQualified: "qualified", opExactString: "exact", opExactBool: "exact", opExactNumber: "exact",
	opGT: "gt", opGE: "ge", opLT: "lt", opLE: "le", opSubstring: "substring",
	opSemverEQ: "semver_eq", opSemverGT: "semver_gt", opSemverGE: "semver_ge", opSemverLT: "semver_lt", opSemverLE: "semver_le",
}

// traceNode shows the subtree at pc with the result of every node.
func (p *Project) traceNode(pc uint32, u *User) *AudienceTrace {
	n := &p.nodes[pc]
	t := &AudienceTrace{result: p.eval(pc, u), isConst: n.op == opConst || p.isNowhere(n)}
	t.Result = t.result.String()
	switch n.op {
	case opAnd, opOr, opNot:
		t.Op = [...]string{opAnd: "and", opOr: "or", opNot: "not"}[n.op]
		for i := pc + 1; i < n.end; i = p.nodes[i].end {
			t.Operands = append(t.Operands, p.traceNode(i, u))
		}
	case opAudience:
		a := &p.audiences[n.arg]
		t.Op, t.ID, t.Name = "audience", a.id, a.name
		t.Operands = []*AudienceTrace{p.traceNode(a.root, u)}
	default:
		t.Op = "constant"
		if n.info != none {
			p.traceLeaf(t, n, u)
		}
	}
	return t
}

// isNowhere tells whether a condition looks at an attribute nobody can have,
// since the datafile gives it no name.
func (p *Project) isNowhere(n *node) bool {
	return n.op > opConst && n.op != opQualified && p.slots[n.arg].key == "" && p.slotByKey.find("") != n.arg
}

func (p *Project) traceLeaf(t *AudienceTrace, n *node, u *User) {
	info := &p.leaves[n.info]
	t.Op, t.Name, t.Match = "condition", info.name, info.match
	if n.op != opConst {
		t.Match = matchNames[n.op]
	}
	want, err := json.Marshal(info.value)
	if err != nil {
		panic(fmt.Sprintf("BUG: condition value of a parsed datafile: %v", err))
	}
	t.Want = want
	if n.op == opQualified {
		if u.hasSegments {
			t.Seen = []byte{'['}
			for i, s := range u.segments {
				if i > 0 {
					t.Seen = append(t.Seen, ',')
				}
				t.Seen = appendString(t.Seen, s)
			}
			t.Seen = append(t.Seen, ']')
		}
		return
	}
	if i := p.slotByKey.find(info.name); i != none {
		if v, ok := u.attribute(i); ok {
			t.Seen = v.AppendJSON(nil)
		}
	}
}

// firstChange finds the first condition, in the order of evaluation, that would
// have to change for the tree to become want, which it can. Under an "and" every
// operand that isn't met has to; under an "or" the first one that can would do.
func (t *AudienceTrace) firstChange(want truth) (*AudienceTrace, truth) {
	switch t.Op {
	case "not":
		return t.Operands[0].firstChange(isTrue - want)
	case "audience":
		return t.Operands[0].firstChange(want)
	case "and", "or":
		for _, o := range t.Operands {
			if o.result != want && o.can(want) {
				return o.firstChange(want)
			}
		}
		panic("BUG: a tree that can change has no operand that can")
	}
	return t, want
}

// can tells whether some user would make the tree want. Conditions are taken to
// be independent of each other, and free unless they are constant.
func (t *AudienceTrace) can(want truth) bool {
	one := func(o *AudienceTrace) bool { return o.can(want) }
	switch t.Op {
	case "not":
		return t.Operands[0].can(isTrue - want)
	case "audience":
		return one(t.Operands[0])
	case "and", "or":
		if (t.Op == "and") == (want == isTrue) { // every operand has to be want
			return !slices.ContainsFunc(t.Operands, func(o *AudienceTrace) bool { return !one(o) })
		}
		return slices.ContainsFunc(t.Operands, one)
	}
	return !t.isConst || t.result == want
}
