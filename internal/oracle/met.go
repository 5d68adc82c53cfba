package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"sortition/decision"
)

// coverage counts the cases by what they met, under names with the area first.
type coverage map[string]int

// merge adds the counts of another.
func (c coverage) merge(other coverage) {
	for k, n := range other {
		c[k] += n
	}
}

// observe counts a case once under everything it met. It must follow the case's
// answer, whose user and surroundings the explanation needs once more.
func (j *judge) observe(count coverage, p *decision.Project, known *project, c *testCase, v *verdict) error {
	met := map[string]bool{"call " + c.Call: true}
	for _, o := range c.Options {
		met["option "+o] = true
	}
	for _, o := range c.DefaultOptions {
		met["default option "+o] = true
	}
	for _, a := range v.ours.Asked {
		met["prediction asked"] = true
		if len(a.Attributes) > 0 {
			met["prediction with attributes"] = true
		}
	}
	j.events(met, c, v)
	if err := j.steps(met, p, known, c, v); err != nil {
		return err
	}
	for k := range met {
		count[k]++
	}
	return nil
}

// events notes what was sent and saved.
func (j *judge) events(met map[string]bool, c *testCase, v *verdict) {
	for _, e := range v.ours.Events {
		note := func(name, text string) {
			if bytes.Contains(e.Body, []byte(text)) {
				met[name] = true
			}
		}
		if !bytes.Contains(e.Body, []byte(`"key":"campaign_activated"`)) {
			met["event conversion"] = true
			note("event revenue", `,"revenue":`)
			note("event value", `,"value":`)
			note("event tags", `,"tags":{`)
			continue
		}
		for _, t := range []string{"feature-test", "rollout", "holdout"} {
			note("event impression of "+t, `"rule_type":"`+t+`"`)
		}
		note("event impression of nothing", `"rule_key":"","rule_type":"rollout"`)
		note("event of a variation without number", `"variation_id":null,"metadata":{"flag_key":`)
		note("event with a reserved attribute", `{"entity_id":"$opt_`)
		note("event of a prediction", `"cmab_uuid":`)
	}
	if v.ours.Profile != nil {
		met["profile saved"] = true
	}
	if c.UserProfile != nil {
		met["profile service"] = true
	}
	if c.Segments != nil {
		met["user with segments"] = true
	}
}

// maxExplained bounds the decisions of a case that are explained.
const maxExplained = 5

// steps notes the steps of the case's decisions.
func (j *judge) steps(met map[string]bool, p *decision.Project, known *project, c *testCase, v *verdict) error {
	if p.NumFlags() == 0 || len(v.ours.Decisions) == 0 {
		return nil
	}
	env, _, options, err := j.engine.prepare(p, c)
	if err != nil {
		return err
	}
	for _, d := range v.ours.Decisions[:min(maxExplained, len(v.ours.Decisions))] {
		x := p.Explain(context.Background(), &j.engine.user, d.FlagKey, options, env)
		noteSteps(met, x)
		if x.Decision.RuleType() != decision.RuleExperiment || x.RuleKey == nil || len(c.ForcedDecisions) > 0 {
			continue
		}
		for _, e := range known.experiments {
			if e.id == x.Decision.ExperimentID() && !slices.ContainsFunc(e.variations, func(w variation) bool { return w.id == x.Decision.VariationID() }) {
				met["feature rollout of everyone else"] = true
			}
		}
	}
	return nil
}

// noteSteps notes the steps of one decision.
func noteSteps(met map[string]bool, x *decision.Explanation) {
	if x.Error != "" {
		met["step "+x.Error] = true
	}
	for _, n := range x.Notes {
		met["step "+n.Code] = true
	}
	for i := range x.Steps {
		s := &x.Steps[i]
		for _, n := range s.Notes {
			name := "step " + s.Kind + " " + n.Code
			if n.Code == "skipped_by_holdout" { // noted wherever the walk stands
				name = "step " + n.Code
			}
			met[name] = true
		}
		if s.Audience != nil {
			conditions(met, s.Audience)
		}
	}
}

// conditions notes the operators and conditions of an audience with their results.
func conditions(met map[string]bool, t *decision.AudienceTrace) {
	name := t.Op
	if t.Op == "condition" {
		name = t.Match
	}
	met["audience "+name+" "+t.Result] = true
	for _, o := range t.Operands {
		conditions(met, o)
	}
}

// expected lists what a run must meet. A name is missing only where no case can meet it.
func expected() []string {
	out := []string{"profile saved", "profile service", "user with segments", "feature rollout of everyone else"}
	add := func(prefix string, names ...string) {
		for _, n := range names {
			out = append(out, prefix+n)
		}
	}
	add("call ", callOne, callKeys, callAll, callNone)
	add("option ", "DISABLE_DECISION_EVENT", "ENABLED_FLAGS_ONLY", "IGNORE_USER_PROFILE_SERVICE", "INCLUDE_REASONS", "EXCLUDE_VARIABLES")
	add("event ", "conversion", "revenue", "value", "tags", "impression of feature-test", "impression of rollout", "impression of holdout",
		"impression of nothing", "of a variation without number", "with a reserved attribute", "of a prediction")
	add("prediction ", "asked", "with attributes")
	add("default option ", "DISABLE_DECISION_EVENT", "ENABLED_FLAGS_ONLY", "IGNORE_USER_PROFILE_SERVICE", "INCLUDE_REASONS", "EXCLUDE_VARIABLES")
	add("step ", "skipped_by_holdout", "flag_not_found", "no_rule_matched", "no_delivery_rules", "forced_decision", "bucketing_id_ignored")
	add("step holdout ", "holdout_audience_not_met", "holdout_not_bucketed", "held_out", "holdout_bypassed")
	add("step experiment ", "rule_not_running", "forced_decision", "forced_decision_invalid", "forced_variation",
		"whitelisted", "whitelist_invalid", "sticky", "sticky_invalid", "audience_met", "audience_not_met",
		"group_member", "group_other_rule", "group_no_rule", "bucketed", "not_bucketed",
		"cmab_not_admitted", "cmab_decided", "cmab_unknown_variation", "cmab_fetch_failed")
	add("step delivery ", "forced_decision", "forced_decision_invalid", "audience_met", "audience_not_met", "bucketed", "not_bucketed", "to_everyone_else", "cmab_delivery_rule")
	for _, op := range []string{
		"and", "or", "not", "audience", "exact", "gt", "ge", "lt", "le", "substring", "exists", "qualified",
		"semver_eq", "semver_gt", "semver_ge", "semver_lt", "semver_le",
	} {
		add("audience "+op+" ", "true", "false")
		if op != "exists" && op != "qualified" {
			add("audience "+op+" ", "unknown")
		}
	}
	return out
}

// missed lists what was met in no case, or in fewer than one of 5000.
func (c coverage) missed(cases int) []string {
	return slices.DeleteFunc(expected(), func(name string) bool { return c[name] > 0 && c[name]*5000 >= cases })
}

// write prints the counts, one area a paragraph.
func (c coverage) write(w io.Writer) {
	area := ""
	for _, name := range slices.Sorted(maps.Keys(c)) {
		first, rest, _ := strings.Cut(name, " ")
		if first != area {
			fmt.Fprintf(w, "\n  %s:", first)
			area = first
		}
		fmt.Fprintf(w, " %s %d;", rest, c[name])
	}
	fmt.Fprintln(w)
}
