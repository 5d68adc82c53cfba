package main

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"sortition/decision"
)

// explanationText writes an explanation for people.
type explanationText struct {
	strings.Builder
	ink
}

// renderExplanation shows the decision, then every step on the way to it, then
// what would have to change.
func renderExplanation(e *decision.Explanation, colors ink) string {
	t := &explanationText{ink: colors}
	t.verdict(e)
	for i := range e.Steps {
		t.step(i+1, &e.Steps[i])
	}
	for _, n := range e.Notes {
		t.line("\n%s→ %s%s", t.dim, n.Text, t.off)
	}
	if e.FirstChange != nil {
		t.change(e.FirstChange)
	}
	return t.String()
}

func (t *explanationText) line(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) }

// verdict shows the decision itself.
func (t *explanationText) verdict(e *decision.Explanation) {
	state, color := "off", t.bad
	if e.Enabled {
		state, color = "on", t.good
	}
	variation := "no variation"
	if e.VariationKey != nil {
		variation = "variation " + t.bold + printable(*e.VariationKey) + t.off
	}
	if e.Error != "" {
		state, variation = "not decided", t.bad+e.Error+t.off
	}
	t.line("%s%s%s is %s%s%s for %s%s%s: %s", t.bold, printable(e.FlagKey), t.off, color, state, t.off, t.bold, printable(e.UserID), t.off, variation)
	row := func(label, text string) { t.line("  %s%-10s%s  %s", t.dim, label, t.off, text) }
	t.line("")
	switch {
	case e.RuleKey != nil:
		row("decided by", kindOf(e.Decision.RuleType().String())+" "+printable(*e.RuleKey)+t.aside("id "+e.Decision.ExperimentID()))
	case e.VariationKey != nil:
		row("decided by", "a decision forced for the whole flag")
	default:
		row("decided by", "no rule")
	}
	row("variables", string(e.Variables))
	impression := "not sent"
	if e.Dispatched {
		impression = "sent"
	}
	row("impression", impression)
	if e.BucketingID != e.UserID {
		row("hashed as", printable(e.BucketingID)+t.aside("$opt_bucketing_id"))
	}
	row("datafile", "revision "+printable(e.Revision)+t.aside(e.Digest))
	if len(e.Steps) > 0 {
		row("marks", t.good+"✓"+t.off+" true  "+t.bad+"✗"+t.off+" false  "+t.bar+"?"+t.off+" unknown")
	}
}

func kindOf(ruleType string) string {
	switch ruleType {
	case "feature-test":
		return "experiment"
	case "rollout":
		return "delivery"
	}
	return ruleType
}

func (t *explanationText) aside(text string) string { return "  " + t.dim + text + t.off }

// step shows one rule on the way.
func (t *explanationText) step(number int, s *decision.Step) {
	state := ""
	switch {
	case s.Kind == "delivery": // their status has no effect: decide.md DC-20
	case s.IsRunning:
		state = t.aside("running")
	default:
		state = "  " + t.bad + "not running" + t.off
	}
	t.line("\n%s%2d  %s%s %s%s%s%s", t.dim, number, s.Kind, t.off, t.bold, printable(s.RuleKey), t.off, state)
	const label = "    %s%-8s%s  "
	if s.Audience != nil {
		t.tree(fmt.Sprintf(label, t.dim, "audience", t.off), strings.Repeat(" ", 14), s.Audience)
	}
	if s.Group != nil {
		t.traffic(fmt.Sprintf(label, t.dim, "group", t.off), s.Group, "no rule")
	}
	if s.Bucket != nil {
		t.traffic(fmt.Sprintf(label, t.dim, "traffic", t.off), s.Bucket, "nobody")
	}
	for i, n := range s.Notes {
		if i == len(s.Notes)-1 || !isShownByTree[n.Code] {
			t.line("    → %s", n.Text)
		}
	}
}

// isShownByTree: the lines above say it, unless it is what the step ends with.
var isShownByTree = map[string]bool{"audience_met": true, "group_member": true, "not_bucketed": true, "holdout_not_bucketed": true}

// tree shows an audience, operand below operand.
func (t *explanationText) tree(first, indent string, a *decision.AudienceTrace) {
	mark, color := t.mark(a.Result)
	text := printable(a.Name)
	switch a.Op {
	case "everyone":
		text = "everyone"
	case "and":
		text = "all of"
	case "or":
		text = "any of"
	case "not":
		text = "not"
	case "audience":
		text = t.bold + text + t.off
	case "condition":
		text = condition(a) + t.aside(seen(a))
	case "constant":
		text = "a condition no SDK knows"
	}
	t.line("%s%s%s%s %s", first, color, mark, t.off, text)
	for _, o := range a.Operands {
		t.tree(indent+"  ", indent+"  ", o)
	}
}

func (t *explanationText) mark(result string) (mark, color string) {
	switch result {
	case "true":
		return "✓", t.good
	case "false":
		return "✗", t.bad
	}
	return "?", t.bar
}

var relations = map[string]string{
	"exact": "is", "substring": "contains", "gt": ">", "ge": "≥", "lt": "<", "le": "≤",
	"semver_eq": "is version", "semver_gt": "> version", "semver_ge": "≥ version", "semver_lt": "< version", "semver_le": "≤ version",
}

// condition words a leaf of an audience.
func condition(a *decision.AudienceTrace) string {
	name, want := printable(a.Name), string(a.Want)
	switch a.Match {
	case "exists":
		return name + " exists"
	case "qualified":
		return "in segment " + want
	case "unknown audience":
		return "audience " + name + ", which the datafile doesn't have"
	}
	if relation, ok := relations[a.Match]; ok {
		return name + " " + relation + " " + want
	}
	return name + " " + printable(a.Match) + " " + want
}

// seen words what the user has for a leaf.
func seen(a *decision.AudienceTrace) string {
	switch {
	case a.Match == "unknown audience":
		return ""
	case a.Match == "qualified" && a.Seen == nil:
		return "(segments not known)"
	case a.Match == "qualified":
		return "(seen: " + string(a.Seen) + ")"
	case a.Seen == nil:
		return "(not given)"
	}
	return "(seen: " + string(a.Seen) + ")"
}

// traffic shows hash and bucket, and the ranges with the one that is hit.
func (t *explanationText) traffic(first string, b *decision.BucketTrace, nobody string) {
	t.line("%shash %d → bucket %s%d%s  %sof %s%s", first, b.Hash, t.bold, b.Bucket, t.off, t.dim, printable(b.Key), t.off)
	isHit, end := false, 0
	for _, r := range b.Ranges {
		name := r.VariationKey
		if name == "" {
			name = r.EntityID
		}
		if name == "" {
			name = nobody
		}
		t.trafficRange(r.Start, r.End, printable(name), b.Bucket, r.IsHit)
		isHit, end = isHit || r.IsHit, max(end, r.End)
	}
	if end < 10000 {
		t.trafficRange(end, 10000, nobody, b.Bucket, !isHit)
	}
}

func (t *explanationText) trafficRange(start, end int, name string, bucket int, isHit bool) {
	if end <= start {
		t.line("%s%s   %4s ─ %-4s  %s (no traffic)%s", strings.Repeat(" ", 12), t.dim, "", "", name, t.off)
		return
	}
	if !isHit {
		t.line("%s%s   %4d ─ %-4d  %s%s", strings.Repeat(" ", 12), t.dim, start, end-1, name, t.off)
		return
	}
	t.line("%s%s ▸ %4d ─ %-4d  %s%s  %s◂ %d%s", strings.Repeat(" ", 12), t.good, start, end-1, name, t.off, t.dim, bucket, t.off)
}

// change says what would have to be different first.
func (t *explanationText) change(c *decision.Change) {
	t.line("\n%sFirst to change%s, to be in the audience of %s:", t.bold, t.off, printable(c.RuleKey))
	text := condition(c.Condition)
	if c.MustBe == "false" {
		text = "not: " + text
	}
	t.line("  %s%s", text, t.aside(seen(c.Condition)))
}

// printable keeps a terminal safe from names: text with anything but graphic
// characters is quoted.
func printable(s string) string {
	if s == "" || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}
