package decision

import (
	"context"
	"slices"
	"strings"
)

// An Env holds what decisions may consult outside the project. Every member may
// be nil; a nil *Env has none. Its members must be safe for concurrent use.
type Env struct {
	Profiles  ProfileService   // sticky bucketing; nil: none
	Predictor Predictor        // contextual bandits; nil: every prediction fails
	Forced    ForcedVariations // legacy forced variations; nil: none
}

// A ProfileService keeps the variations users were bucketed into. There is at
// most one Lookup and one Save per call, however many flags it decides. Lookup
// returns nil for an unknown user. Errors never fail a decision; the service
// itself reports them. Source: decide.md section 7.
type ProfileService interface {
	Lookup(ctx context.Context, userID string) (*Profile, error)
	Save(ctx context.Context, profile *Profile) error
}

// ForcedVariations answers for the SDKs' set_forced_variation: the variation id
// set for a user and experiment. Source: decide.md 4.4 step 2.
type ForcedVariations interface {
	ForcedVariation(userID, experimentID string) (variationID string, ok bool)
}

// A Predictor answers for contextual bandits. Source: decide.md section 6.
type Predictor interface {
	Predict(ctx context.Context, q *PredictionQuery) (Prediction, error)
}

// A PredictionQuery asks which variation of a bandit rule a user should get. It
// is valid during the call only.
type PredictionQuery struct {
	RuleID     string
	UserID     string
	Attributes []PredictionAttribute // those the model may use, in the rule's order
	Options    Options               // the cache options matter
	p          *Project
	rule       uint32
}

// HasVariation tells whether the rule has a variation of this id; an answer that
// names another is not worth keeping. Source: cmab.md CM-P1.
func (q *PredictionQuery) HasVariation(id string) bool {
	return q.p.variationByID(&q.p.rules[q.rule], id) != none
}

// Clone returns a query that outlives the call: its strings are copies, except for
// those of the datafile. For a Predictor that asks later.
func (q *PredictionQuery) Clone() PredictionQuery {
	out := *q
	out.UserID = strings.Clone(q.UserID)
	out.Attributes = slices.Clone(q.Attributes)
	for i := range out.Attributes {
		v := &out.Attributes[i].Value
		v.text = strings.Clone(v.text)
	}
	return out
}

// A PredictionAttribute is a user's attribute under its datafile id.
type PredictionAttribute struct {
	ID    string
	Value Value
}

// A Prediction is the answer of a Predictor.
type Prediction struct {
	VariationID string
	UUID        string // identifies the prediction in events
}
