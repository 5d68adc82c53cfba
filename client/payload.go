package client

import (
	"encoding/json"

	"sortition/decision"
)

// A DecisionSubtype says which call made a decision. Source: legacy-api.md section 7.
type DecisionSubtype string

// The subtypes of decision notifications.
const (
	DecisionFlag                DecisionSubtype = "flag"                  // Decide, DecideForKeys, DecideAll: *FlagInfo
	DecisionABTest              DecisionSubtype = "ab-test"               // Variation, Activate, of an experiment without flag: *ExperimentInfo
	DecisionFeatureTest         DecisionSubtype = "feature-test"          // the same, of a flag's experiment: *ExperimentInfo
	DecisionFeature             DecisionSubtype = "feature"               // IsFeatureEnabled: *FeatureInfo
	DecisionFeatureVariable     DecisionSubtype = "feature-variable"      // FeatureVariable and its like: *FeatureVariableInfo
	DecisionAllFeatureVariables DecisionSubtype = "all-feature-variables" // AllFeatureVariables: *AllFeatureVariablesInfo
)

// A DecisionNotification tells of a decision. Listeners share it, its map included.
// Its JSON has the SDKs' keys: type, user_id, attributes, decision_info.
type DecisionNotification struct {
	Type       DecisionSubtype
	UserID     string
	Attributes map[string]any // never nil
	Info       DecisionInfo   // by Type
}

// MarshalJSON gives the SDKs' keys.
func (n DecisionNotification) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Type       DecisionSubtype `json:"type"`
		UserID     string          `json:"user_id"`
		Attributes map[string]any  `json:"attributes"`
		Info       DecisionInfo    `json:"decision_info"`
	}{n.Type, n.UserID, n.Attributes, n.Info})
}

// A DecisionInfo is one of *[FlagInfo], *[ExperimentInfo], *[FeatureInfo],
// *[FeatureVariableInfo] and *[AllFeatureVariablesInfo].
type DecisionInfo interface{ isDecisionInfo() }

// FlagInfo is of [DecisionFlag]. Source: decide.md DC-41.
type FlagInfo struct {
	FlagKey      string
	Enabled      bool
	Variables    Variables
	VariationKey string // "": none; so it is with the other keys and ids
	RuleKey      string
	Reasons      []string
	ExperimentID string // of the rule or holdout
	VariationID  string
	// DecisionEventDispatched: an impression was made and handed to the event
	// processor. Source: events.md EV-10.
	DecisionEventDispatched bool
}

func (*FlagInfo) isDecisionInfo() {}

// MarshalJSON gives the SDKs' keys, null for none.
func (i *FlagInfo) MarshalJSON() ([]byte, error) {
	reasons := i.Reasons
	if reasons == nil {
		reasons = []string{}
	}
	return json.Marshal(struct {
		FlagKey      string    `json:"flag_key"`
		Enabled      bool      `json:"enabled"`
		Variables    Variables `json:"variables"`
		VariationKey *string   `json:"variation_key"`
		RuleKey      *string   `json:"rule_key"`
		Reasons      []string  `json:"reasons"`
		Dispatched   bool      `json:"decision_event_dispatched"`
		ExperimentID *string   `json:"experiment_id"`
		VariationID  *string   `json:"variation_id"`
	}{
		i.FlagKey, i.Enabled, i.Variables, orNull(i.VariationKey), orNull(i.RuleKey), reasons,
		i.DecisionEventDispatched, orNull(i.ExperimentID), orNull(i.VariationID),
	})
}

func flagInfoOf(d *decision.Decision) *FlagInfo {
	info := &FlagInfo{
		FlagKey: d.FlagKey(), Enabled: d.Enabled(), Variables: Variables{d.VariablesJSON()}, Reasons: reasonsOf(d),
		ExperimentID: d.ExperimentID(), VariationID: d.VariationID(), DecisionEventDispatched: d.IsDispatched(),
	}
	info.VariationKey, _ = d.VariationKey()
	info.RuleKey, _ = d.RuleKey()
	return info
}

// ExperimentInfo is of [DecisionABTest] and [DecisionFeatureTest].
// Source: legacy-api.md LG-7.
type ExperimentInfo struct {
	ExperimentKey string
	VariationKey  string // "": none
}

func (*ExperimentInfo) isDecisionInfo() {}

// MarshalJSON gives the SDKs' keys, null for none.
func (i *ExperimentInfo) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		ExperimentKey *string `json:"experiment_key"`
		VariationKey  *string `json:"variation_key"`
	}{orNull(i.ExperimentKey), orNull(i.VariationKey)})
}

// sourceInfo marshals as {} when there is none.
func sourceInfo(i *ExperimentInfo) any {
	if i == nil {
		return struct{}{}
	}
	return i
}

// FeatureInfo is of [DecisionFeature]. Source: legacy-api.md LG-11.
type FeatureInfo struct {
	FeatureKey     string
	FeatureEnabled bool
	Source         string          // "feature-test", "rollout" or "holdout"
	SourceInfo     *ExperimentInfo // nil: empty
}

func (*FeatureInfo) isDecisionInfo() {}

// MarshalJSON gives the SDKs' keys.
func (i *FeatureInfo) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		FeatureKey     string `json:"feature_key"`
		FeatureEnabled bool   `json:"feature_enabled"`
		Source         string `json:"source"`
		SourceInfo     any    `json:"source_info"`
	}{i.FeatureKey, i.FeatureEnabled, i.Source, sourceInfo(i.SourceInfo)})
}

// FeatureVariableInfo is of [DecisionFeatureVariable]. Source: legacy-api.md LG-15.
type FeatureVariableInfo struct {
	FeatureKey     string
	FeatureEnabled bool
	Source         string
	VariableKey    string
	VariableValue  any    // as [Variables.Get] has it; nil: invalid
	VariableType   string // "boolean", "integer", "double", "string" or "json"
	SourceInfo     *ExperimentInfo
}

func (*FeatureVariableInfo) isDecisionInfo() {}

// MarshalJSON gives the SDKs' keys.
func (i *FeatureVariableInfo) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		FeatureKey     string `json:"feature_key"`
		FeatureEnabled bool   `json:"feature_enabled"`
		Source         string `json:"source"`
		VariableKey    string `json:"variable_key"`
		VariableValue  any    `json:"variable_value"`
		VariableType   string `json:"variable_type"`
		SourceInfo     any    `json:"source_info"`
	}{i.FeatureKey, i.FeatureEnabled, i.Source, i.VariableKey, i.VariableValue, i.VariableType, sourceInfo(i.SourceInfo)})
}

// AllFeatureVariablesInfo is of [DecisionAllFeatureVariables].
// Source: legacy-api.md LG-15.
type AllFeatureVariablesInfo struct {
	FeatureKey     string
	FeatureEnabled bool
	VariableValues Variables
	Source         string
	SourceInfo     *ExperimentInfo
}

func (*AllFeatureVariablesInfo) isDecisionInfo() {}

// MarshalJSON gives the SDKs' keys.
func (i *AllFeatureVariablesInfo) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		FeatureKey     string    `json:"feature_key"`
		FeatureEnabled bool      `json:"feature_enabled"`
		VariableValues Variables `json:"variable_values"`
		Source         string    `json:"source"`
		SourceInfo     any       `json:"source_info"`
	}{i.FeatureKey, i.FeatureEnabled, i.VariableValues, i.Source, sourceInfo(i.SourceInfo)})
}

// A TrackNotification tells of a conversion that was handed to the event
// processor. Source: legacy-api.md section 7, events.md EV-15.
type TrackNotification struct {
	EventKey   string
	UserID     string
	Attributes map[string]any
	EventTags  map[string]any // as given; nil: none
	Event      LogEvent       // the batch that the conversion alone would make
}

// A ConfigUpdateNotification tells of a datafile that came into force.
// Source: config.md CF-19.
type ConfigUpdateNotification struct {
	OldRevision string // "": it is the first
	NewRevision string
}

// An ActivateNotification tells of an impression. Source: legacy-api.md section 7.
type ActivateNotification struct {
	Experiment Entity // rule or holdout; both "" when none decided
	UserID     string
	Attributes map[string]any
	Variation  *Entity  // nil: none
	Event      LogEvent // the batch that the impression alone would make
}

// An Entity is an experiment, rule, holdout or variation of the datafile.
type Entity struct{ ID, Key string }
