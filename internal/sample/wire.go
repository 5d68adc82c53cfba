package sample

import "encoding/json"

// The members of a datafile that Datafile fills, in the order in which real ones
// have them.
//
// Source: datafile.md sections 3 and 4.
type (
	project struct {
		Version           string        `json:"version"`
		AccountID         string        `json:"accountId"`
		ProjectID         string        `json:"projectId"`
		Revision          string        `json:"revision"`
		SDKKey            string        `json:"sdkKey"`
		EnvironmentKey    string        `json:"environmentKey"`
		AnonymizeIP       bool          `json:"anonymizeIP"`
		BotFiltering      bool          `json:"botFiltering"`
		SendFlagDecisions bool          `json:"sendFlagDecisions"`
		Attributes        []named       `json:"attributes"`
		Events            []event       `json:"events"`
		Audiences         []audience    `json:"audiences"`
		TypedAudiences    []audience    `json:"typedAudiences"`
		Groups            []group       `json:"groups"`
		Experiments       []rule        `json:"experiments"`
		FeatureFlags      []featureFlag `json:"featureFlags"`
		Rollouts          []rollout     `json:"rollouts"`
		Holdouts          []holdout     `json:"holdouts"`
		LocalHoldouts     []holdout     `json:"localHoldouts"`
		Integrations      []integration `json:"integrations"`
	}
	named struct {
		ID  string `json:"id"`
		Key string `json:"key"`
	}
	event struct {
		named
		ExperimentIDs []string `json:"experimentIds"`
	}
	audience struct {
		ID         string          `json:"id"`
		Name       string          `json:"name"`
		Conditions json.RawMessage `json:"conditions"`
	}
	group struct {
		ID                string  `json:"id"`
		Policy            string  `json:"policy"`
		TrafficAllocation []slice `json:"trafficAllocation"`
		Experiments       []rule  `json:"experiments"`
	}
	slice struct {
		EntityID   string `json:"entityId"`
		EndOfRange int    `json:"endOfRange"`
	}
	rule struct {
		named
		Status             string            `json:"status"`
		LayerID            string            `json:"layerId"`
		Type               string            `json:"type,omitempty"`
		AudienceIDs        []string          `json:"audienceIds"`
		AudienceConditions []any             `json:"audienceConditions,omitempty"`
		ForcedVariations   map[string]string `json:"forcedVariations"`
		Variations         []variation       `json:"variations"`
		TrafficAllocation  []slice           `json:"trafficAllocation"`
	}
	variation struct {
		named
		FeatureEnabled bool    `json:"featureEnabled"`
		Variables      []usage `json:"variables"`
	}
	usage struct {
		ID    string `json:"id"`
		Value string `json:"value"`
	}
	featureFlag struct {
		named
		ExperimentIDs []string   `json:"experimentIds"`
		RolloutID     string     `json:"rolloutId"`
		Variables     []variable `json:"variables"`
	}
	variable struct {
		named
		Type         string `json:"type"`
		SubType      string `json:"subType,omitempty"`
		DefaultValue string `json:"defaultValue"`
	}
	rollout struct {
		ID          string `json:"id"`
		Experiments []rule `json:"experiments"`
	}
	holdout struct {
		named
		Status            string      `json:"status"`
		IncludedRules     []string    `json:"includedRules,omitempty"`
		AudienceIDs       []string    `json:"audienceIds"`
		Variations        []variation `json:"variations"`
		TrafficAllocation []slice     `json:"trafficAllocation"`
	}
	integration struct {
		Key       string `json:"key"`
		Host      string `json:"host"`
		PublicKey string `json:"publicKey"`
	}
)
