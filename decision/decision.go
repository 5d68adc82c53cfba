package decision

// A RuleType is the source of a decision, under the names events use.
// Source: decide.md DC-3.
type RuleType uint8

// The rule types. Legacy calls use RuleLegacy, which no decision has.
const (
	RuleExperiment RuleType = iota // experiment rule, or a decision forced for the whole flag
	RuleDelivery                   // delivery rule, or no rule at all
	RuleHoldout
	RuleLegacy
)

var ruleTypeNames = [...]string{"feature-test", "rollout", "holdout", "experiment"}

func (t RuleType) String() string { return ruleTypeNames[t] }

// An ErrorCode says why a decision could not be made. Source: decide.md section 9.
type ErrorCode uint8

// The error codes.
const (
	NoError ErrorCode = iota
	FlagNotFound
	CMABFetchFailed
)

var errorCodeNames = [...]string{"", "flag_not_found", "cmab_fetch_failed"}

// String is the code as records carry it, "" for NoError.
func (c ErrorCode) String() string { return errorCodeNames[c] }

// A Decision is the outcome for one flag and user: a small view into the Project
// that made it, valid as long as that is kept. The zero Decision is of no use.
type Decision struct {
	p                 *Project
	key               string          // as asked for
	extras            *decisionExtras // what few decisions have; nil: nothing
	flag              uint32          // none: no such flag
	rule              uint32          // none: no rule
	variation         uint32          // none: no variation
	bypassed          uint32          // holdout that was passed over, or none: DC-17a
	bypassedVariation uint32
	err               ErrorCode
	isHidden          bool
	isDispatched      bool
	hasNoVariables    bool
}

type decisionExtras struct {
	reasons  []Reason
	cmabUUID string
}

// more returns the extras to be filled.
func (d *Decision) more() *decisionExtras {
	if d.extras == nil {
		d.extras = &decisionExtras{}
	}
	return d.extras
}

// FlagKey is the flag's key as it was asked for.
func (d *Decision) FlagKey() string { return d.key }

// VariationKey is the variation's key; false means there is none (null).
func (d *Decision) VariationKey() (string, bool) {
	if d.variation == none {
		return "", false
	}
	return d.p.variations[d.variation].key, true
}

// VariationID is the variation's id, "" if there is none.
func (d *Decision) VariationID() string {
	if d.variation == none {
		return ""
	}
	return d.p.variations[d.variation].id
}

// RuleKey is the key of the rule or holdout; false means none decided (null).
func (d *Decision) RuleKey() (string, bool) {
	if d.rule == none {
		return "", false
	}
	return d.p.rules[d.rule].key, true
}

// ExperimentID is the id of the rule or holdout, "" if none decided.
func (d *Decision) ExperimentID() string {
	if d.rule == none {
		return ""
	}
	return d.p.rules[d.rule].id
}

// RuleType is the source of the decision. Source: decide.md DC-3.
func (d *Decision) RuleType() RuleType {
	switch {
	case d.rule != none:
		return d.p.rules[d.rule].ruleType
	case d.variation != none:
		return RuleExperiment // forced for the whole flag: DC-13
	default:
		return RuleDelivery
	}
}

// Enabled tells whether the flag is on for the user. Source: decide.md DC-25.
func (d *Decision) Enabled() bool {
	return d.variation != none && d.p.variations[d.variation].enabled
}

// VariablesJSON is the JSON object of the flag's typed variables, "{}" with
// ExcludeVariables or an error. Source: decide.md section 5.
func (d *Decision) VariablesJSON() string {
	if d.hasNoVariables || d.flag == none || d.err != NoError {
		return "{}"
	}
	f := &d.p.flags[d.flag]
	switch {
	case d.variation == none:
		return f.defaults
	case d.variation < d.p.numHoldoutVariations:
		if text, ok := d.p.holdoutVariables[[2]uint32{d.flag, d.variation}]; ok {
			return text
		}
		return f.defaults
	default:
		return d.p.variations[d.variation].variables
	}
}

// CMABUUID identifies the prediction a bandit's variation came from, or is "".
func (d *Decision) CMABUUID() string {
	if d.extras == nil {
		return ""
	}
	return d.extras.cmabUUID
}

// Err is why no decision could be made, or NoError.
func (d *Decision) Err() ErrorCode { return d.err }

// Reasons are the steps that led here, in order; empty unless IncludeReasons was
// given or the decision failed. Source: decide.md DC-37, DC-39.
func (d *Decision) Reasons() []Reason {
	if d.extras == nil {
		return nil
	}
	return d.extras.reasons
}

// IsListed is false for a decision that a result leaves out: one that is off
// under EnabledFlagsOnly, or the repeat of a key. Its impression is still sent.
// Source: decide.md DC-5, DC-P2.
func (d *Decision) IsListed() bool { return !d.isHidden }

// IsDispatched tells whether the decision sends an impression.
// Source: decide.md DC-40, DC-40a.
func (d *Decision) IsDispatched() bool { return d.isDispatched }

// Fragment is a dense number below [Project.NumFragments] that two decisions of
// one Project share exactly when flag, rule, variation and variables are the
// same, so that what is rendered of a decision can be kept by it. It is -1 for
// the rare decisions that have none: failed ones, those without variables by
// option, with a prediction, or forced to something rules wouldn't give.
func (d *Decision) Fragment() int {
	if d.flag == none || d.err != NoError || d.hasNoVariables || d.CMABUUID() != "" {
		return -1
	}
	if d.variation == none {
		return int(d.flag)
	}
	if d.rule == none || d.p.variations[d.variation].rule != d.rule {
		return -1
	}
	return d.p.fragmentOf(d.flag, d.variation)
}

// fragmentOf lays fragments out: one per flag without a variation, one per
// variation of a rule, then the holdout variations flag by flag.
func (p *Project) fragmentOf(flag, variation uint32) int {
	flags, held := len(p.flags), int(p.numHoldoutVariations)
	own := len(p.variations) - held
	if int(variation) >= held && int(flag) < flags {
		return flags + int(variation) - held
	}
	return flags + own + int(flag)*held + int(variation)
}
