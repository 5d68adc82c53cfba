package decision

import "context"

// legacy.go answers the calls that are older than flags: an experiment by its
// key. Source: legacy-api.md sections 2 and 5.

// Experiment evaluates one experiment by key, without holdouts, forced decisions
// or flags; delivery rules have no key here. The decision has no flag; its
// VariationKey is what the call returns. False means no such experiment. A
// bandit that fails gives a decision with CMABFetchFailed and no variation.
// Source: legacy-api.md LG-5, LG-6, LG-P1.
func (p *Project) Experiment(ctx context.Context, u *User, key string, options Options, env *Env) (Decision, bool) {
	i := p.experimentByKey.find(key)
	d := Decision{p: p, flag: none, rule: none, variation: none, bypassed: none}
	if i == none {
		return d, false
	}
	var c call
	c.begin(ctx, p, u, options, env)
	if v := c.experiment(&d, i); v != none {
		d.rule, d.variation = i, v
	}
	c.end()
	return d, true
}

// Activation is the impression of a legacy activate: sent for every variation,
// without a flag and always enabled. False if the decision has no variation.
// Source: legacy-api.md LG-8, events.md EV-11, EV-21.
func (d *Decision) Activation() (Impression, bool) {
	if d.rule == none || d.variation == none {
		return Impression{}, false
	}
	im := d.impression()
	im.FlagKey, im.RuleType, im.IsEnabled, im.CMABUUID, im.fragment = "", RuleLegacy, true, "", -1
	v := &d.p.variations[d.variation] // the rule's own, whatever a flag calls its id
	im.VariationKey, im.VariationID = v.key, ""
	if isDigits(v.id) {
		im.VariationID = v.id
	}
	return im, true
}

// An ExperimentInfo names an experiment and whether a flag uses it.
type ExperimentInfo struct {
	ID        string
	Key       string
	IsFeature bool // some flag lists the experiment: datafile.md DF-25
}

// ExperimentInfo looks an experiment up by key; false if there is none.
func (p *Project) ExperimentInfo(key string) (ExperimentInfo, bool) {
	i := p.experimentByKey.find(key)
	if i == none {
		return ExperimentInfo{}, false
	}
	return ExperimentInfo{ID: p.rules[i].id, Key: key, IsFeature: i < p.numFlagRules}, true
}

// ExperimentVariationID resolves a variation key inside an experiment; false if
// either is unknown. Source: legacy-api.md LG-P3.
func (p *Project) ExperimentVariationID(experimentKey, variationKey string) (string, bool) {
	i := p.experimentByKey.find(experimentKey)
	if i == none {
		return "", false
	}
	v := p.variationByKey(&p.rules[i], variationKey)
	if v == none {
		return "", false
	}
	return p.variations[v].id, true
}

// ExperimentVariationKey is the opposite of ExperimentVariationID.
func (p *Project) ExperimentVariationKey(experimentKey, variationID string) (string, bool) {
	i := p.experimentByKey.find(experimentKey)
	if i == none {
		return "", false
	}
	v := p.variationByID(&p.rules[i], variationID)
	if v == none {
		return "", false
	}
	return p.variations[v].key, true
}

// A VariableInfo is a variable of a flag.
type VariableInfo struct {
	Key  string
	Type string // "boolean", "integer", "double", "string", "json"
}

// FlagVariables lists a flag's variables in order; nil for an unknown flag.
func (p *Project) FlagVariables(flagKey string) []VariableInfo {
	i := p.flagByKey.find(flagKey)
	if i == none {
		return nil
	}
	out := make([]VariableInfo, len(p.flags[i].variables))
	for k, v := range p.flags[i].variables {
		out[k] = VariableInfo{v.key, variableNames[v.kind]}
	}
	return out
}
