package main

import (
	"encoding/json"
)

// A testCase is one user and what is asked about them. It is what the Python
// program reads.
type testCase struct {
	ID               string            `json:"id"`
	UserID           string            `json:"user_id"`
	Attributes       map[string]any    `json:"attributes,omitempty"` // string, bool, json.Number, nil or composite
	Segments         *[]string         `json:"segments,omitempty"`
	ForcedDecisions  []forcedDecision  `json:"forced_decisions,omitempty"`
	ForcedVariations []forcedVariation `json:"forced_variations,omitempty"`
	Options          []string          `json:"options,omitempty"`
	DefaultOptions   []string          `json:"default_options,omitempty"` // those of the client
	UserProfile      json.RawMessage   `json:"user_profile,omitempty"`    // absent: no service; null: nothing known
	Call             string            `json:"call"`                      // decide, decide_for_keys, decide_all or none
	Keys             []string          `json:"keys,omitempty"`
	// By rule, what the prediction service answers; a rule that is missing fails.
	Predictions map[string]string `json:"predictions,omitempty"`
	Track       []conversion      `json:"track,omitempty"`
}

type forcedDecision struct {
	FlagKey      string  `json:"flag_key"`
	RuleKey      *string `json:"rule_key"` // nil: the flag as a whole
	VariationKey string  `json:"variation_key"`
}

// forcedVariation is a variation set by the legacy call.
type forcedVariation struct {
	ExperimentKey string `json:"experiment_key"`
	VariationKey  string `json:"variation_key"`
}

type conversion struct {
	EventKey string          `json:"event_key"`
	Tags     json.RawMessage `json:"tags,omitempty"`
}

// A batch is a datafile and its cases, as one line for the Python program.
type batch struct {
	Datafile string     `json:"datafile"`
	Cases    []testCase `json:"cases"`
}

// An answer is what one side says to a case.
type answer struct {
	Decisions []decided       `json:"decisions"` // in order
	Events    []request       `json:"events"`    // in order
	Asked     []asked         `json:"asked"`     // in order
	Profile   json.RawMessage `json:"profile,omitempty"`
	Raised    *raised         `json:"raised,omitempty"` // the SDK had no answer
}

type decided struct {
	FlagKey      string          `json:"flag_key"`
	VariationKey *string         `json:"variation_key"`
	Enabled      bool            `json:"enabled"`
	RuleKey      *string         `json:"rule_key"`
	Variables    json.RawMessage `json:"variables"`
}

type request struct {
	URL    string          `json:"url"`
	Method string          `json:"method"`
	Body   json.RawMessage `json:"body"`
}

// asked is what the prediction service was asked.
type asked struct {
	RuleID     string                     `json:"rule_id"`
	UserID     string                     `json:"user_id"`
	Attributes map[string]json.RawMessage `json:"attributes"` // by id
}

type raised struct {
	Exception string `json:"exception"`
	Text      string `json:"text"`
	In        string `json:"in"` // the function that raised
}
