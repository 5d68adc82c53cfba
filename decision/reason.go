package decision

import "strings"

// A ReasonCode names a step of a decision.
type ReasonCode uint8

// The reason codes. What RuleKey and Detail of a [Reason] hold is given with
// each; a detail never is a user id or an attribute value.
// Source: the points of decide.md DC-38.
const (
	ReasonFlagNotFound       ReasonCode = iota // no flag of that key
	ReasonForcedDecision                       // forced; detail: variation key
	ReasonForcedInvalid                        // forced to a variation the flag doesn't have; ignored
	ReasonBucketingIDIgnored                   // $opt_bucketing_id is no string
	ReasonHoldoutAudience                      // holdout: user not in its audience
	ReasonHoldoutNotBucketed                   // holdout: user not in its traffic
	ReasonHeldOut                              // holdout: user is held out; detail: variation key
	ReasonHoldoutBypassed                      // holdout that excludes targeted deliveries; detail: variation key
	ReasonSkippedByHoldout                     // experiment rule skipped because a holdout was bypassed
	ReasonNotRunning                           // experiment rule isn't running
	ReasonForcedVariation                      // variation set for the user by the legacy call; detail: variation key
	ReasonWhitelisted                          // user is on the rule's list; detail: variation key
	ReasonWhitelistInvalid                     // user is on the list with an unknown variation
	ReasonSticky                               // variation comes from the user's profile; detail: variation key
	ReasonStickyInvalid                        // profile names a variation the rule doesn't have
	ReasonAudienceMet                          // user is in the rule's audience
	ReasonAudienceNotMet                       // user isn't
	ReasonGroupMember                          // exclusive group: user belongs to this rule; detail: group id
	ReasonGroupOther                           // exclusive group: user belongs to another rule; detail: group id
	ReasonGroupNone                            // exclusive group: user belongs to no rule; detail: group id
	ReasonBucketed                             // user is in the rule's traffic; detail: variation key
	ReasonNotBucketed                          // user is in no variation of the rule
	ReasonToEveryoneElse                       // delivery rule: on to the last rule
	ReasonBanditNotAdmitted                    // bandit: user isn't in its traffic
	ReasonBanditDecided                        // bandit: predicted; detail: variation key
	ReasonBanditUnknown                        // bandit: the predicted variation isn't the rule's
	ReasonBanditFailed                         // bandit: no prediction could be had
	ReasonBanditDelivery                       // delivery rule with a bandit: never gives a variation
	ReasonNoDeliveryRules                      // the flag has no delivery rules
	ReasonNoRule                               // no rule gave a variation
)

var reasonNames = [...]string{
	"flag_not_found", "forced_decision", "forced_decision_invalid", "bucketing_id_ignored",
	"holdout_audience_not_met", "holdout_not_bucketed", "held_out", "holdout_bypassed", "skipped_by_holdout",
	"rule_not_running", "forced_variation", "whitelisted", "whitelist_invalid", "sticky", "sticky_invalid",
	"audience_met", "audience_not_met", "group_member", "group_other_rule", "group_no_rule",
	"bucketed", "not_bucketed", "to_everyone_else",
	"cmab_not_admitted", "cmab_decided", "cmab_unknown_variation", "cmab_fetch_failed", "cmab_delivery_rule",
	"no_delivery_rules", "no_rule_matched",
}

// String is the code as records carry it, such as "audience_not_met".
func (c ReasonCode) String() string { return reasonNames[c] }

// ReasonNames lists every code as records carry it.
func ReasonNames() []string { return append([]string(nil), reasonNames[:]...) }

// A Reason is one step of a decision. Its strings alias the Project.
type Reason struct {
	Code    ReasonCode
	RuleKey string // of the rule or holdout, "" if the step is about the flag
	Detail  string // by code
}

var reasonTexts = [...]string{
	`No flag was found for key "{detail}".`,
	`Forced to variation "{detail}"{rule}.`,
	`A forced decision{rule} names a variation the flag doesn't have; it is ignored.`,
	`The attribute $opt_bucketing_id is not a string; the user id is used.`,
	`The user is not in the audience of holdout "{key}".`,
	`The user is not in the traffic of holdout "{key}".`,
	`The user is held out by "{key}" in variation "{detail}".`,
	`The user is held out by "{key}", which leaves targeted deliveries alone.`,
	`Rule "{key}" is skipped: a holdout applies and the rule is no targeted delivery.`,
	`Rule "{key}" is not running.`,
	`The user was set to variation "{detail}" of rule "{key}".`,
	`The user is on the list of rule "{key}" for variation "{detail}".`,
	`The user is on the list of rule "{key}" with a variation it doesn't have.`,
	`The user's profile keeps variation "{detail}" of rule "{key}".`,
	`The user's profile names a variation that rule "{key}" doesn't have.`,
	`The user is in the audience of rule "{key}".`,
	`The user is not in the audience of rule "{key}".`,
	`The user belongs to rule "{key}" in exclusive group {detail}.`,
	`The user belongs to another rule than "{key}" in exclusive group {detail}.`,
	`The user belongs to no rule of exclusive group {detail}.`,
	`The user is in variation "{detail}" of rule "{key}".`,
	`The user is in no variation of rule "{key}".`,
	`The user meets rule "{key}" but is not in its traffic; on to the last rule.`,
	`The user is not in the traffic of bandit rule "{key}".`,
	`Variation "{detail}" was predicted for rule "{key}".`,
	`The variation predicted for rule "{key}" is not one of its own.`,
	`Failed to fetch CMAB data for experiment {key}.`,
	`Delivery rule "{key}" has a bandit, which never gives a variation there.`,
	`The flag has no delivery rules.`,
	`No rule gave a variation.`,
}

// String is the reason as an English sentence. The texts of flag_not_found and
// cmab_fetch_failed are those of the SDKs. Source: decide.md DC-38.
func (r Reason) String() string {
	rule := ""
	if r.RuleKey != "" {
		rule = ` for rule "` + r.RuleKey + `"`
	}
	return strings.NewReplacer("{rule}", rule, "{key}", r.RuleKey, "{detail}", r.Detail).Replace(reasonTexts[r.Code])
}
