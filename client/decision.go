package client

import (
	"encoding/json"
	"iter"

	"sortition/decision"
)

// DecideOptions is a set of decide options, joined with |. Source: decide.md section 3.
type DecideOptions = decision.Options

// The decide options.
const (
	DisableDecisionEvent     = decision.DisableDecisionEvent     // send no impression
	EnabledFlagsOnly         = decision.EnabledFlagsOnly         // leave flags that are off out of results; Decide ignores it
	IgnoreUserProfileService = decision.IgnoreUserProfileService // neither look up nor save sticky decisions
	IncludeReasons           = decision.IncludeReasons           // tell the reasons
	ExcludeVariables         = decision.ExcludeVariables         // without variables
	IgnoreCMABCache          = decision.IgnoreCMABCache          // bandits: neither read nor write the cache
	ResetCMABCache           = decision.ResetCMABCache           // bandits: empty the cache first
	InvalidateUserCMABCache  = decision.InvalidateUserCMABCache  // bandits: drop this user's entry first
)

// ParseDecideOption returns the option of an SDK name such as "INCLUDE_REASONS";
// false if there is none, which the SDKs ignore. Source: decide.md DC-10.
func ParseDecideOption(name string) (DecideOptions, bool) { return decision.ParseOption(name) }

// A Decision is the outcome for one flag and user. Source: decide.md section 8.
type Decision struct {
	VariationKey string // "": none
	Enabled      bool
	Variables    Variables
	RuleKey      string // of the rule or holdout that decided; "": none
	FlagKey      string // as it was asked for
	User         *UserContext
	// Reasons tell how the decision came about. Empty unless [IncludeReasons] was
	// given or the decision failed. Source: decide.md DC-37.
	Reasons []string
	// Err is nil, or why there is no decision: it wraps [ErrNotReady],
	// [ErrFlagNotFound] or [ErrPrediction]. Source: decide.md section 9.
	Err error
}

// MarshalJSON gives the SDKs' form: variation_key, enabled, variables, rule_key,
// flag_key, user_context {user_id, attributes} and reasons, null for what is none.
// It fails if an attribute has no form in JSON. Source: decide.md section 8.
func (d Decision) MarshalJSON() ([]byte, error) {
	type user struct {
		ID         string         `json:"user_id"`
		Attributes map[string]any `json:"attributes"`
	}
	out := struct {
		VariationKey *string   `json:"variation_key"`
		Enabled      bool      `json:"enabled"`
		Variables    Variables `json:"variables"`
		RuleKey      *string   `json:"rule_key"`
		FlagKey      string    `json:"flag_key"`
		User         *user     `json:"user_context"`
		Reasons      []string  `json:"reasons"`
	}{orNull(d.VariationKey), d.Enabled, d.Variables, orNull(d.RuleKey), d.FlagKey, nil, d.Reasons}
	if d.User != nil {
		out.User = &user{d.User.id, d.User.Attributes()}
	}
	if out.Reasons == nil {
		out.Reasons = []string{}
	}
	return json.Marshal(out)
}

// orNull is the JSON form of a text that may be none.
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Decisions are decisions by flag key, in the order asked for, or in that of the
// datafile. The zero value is empty. It is immutable.
type Decisions struct {
	list  []Decision
	index map[string]int // nil while the list is short
}

// Len counts the decisions.
func (d Decisions) Len() int { return len(d.list) }

// At is the i-th decision.
func (d Decisions) At(i int) Decision { return d.list[i] }

// Get is the decision for a flag; false if it isn't among them.
func (d Decisions) Get(flagKey string) (Decision, bool) {
	if d.index != nil {
		if i, ok := d.index[flagKey]; ok {
			return d.list[i], true
		}
		return Decision{}, false
	}
	for i := range d.list {
		if d.list[i].FlagKey == flagKey {
			return d.list[i], true
		}
	}
	return Decision{}, false
}

// Keys are the flag keys, in order.
func (d Decisions) Keys() []string {
	keys := make([]string, len(d.list))
	for i := range d.list {
		keys[i] = d.list[i].FlagKey
	}
	return keys
}

// All ranges over flag keys and decisions, in order.
func (d Decisions) All() iter.Seq2[string, Decision] {
	return func(yield func(string, Decision) bool) {
		for i := range d.list {
			if !yield(d.list[i].FlagKey, d.list[i]) {
				return
			}
		}
	}
}

// Map is a new map from flag key to decision.
func (d Decisions) Map() map[string]Decision {
	out := make(map[string]Decision, len(d.list))
	for i := range d.list {
		out[d.list[i].FlagKey] = d.list[i]
	}
	return out
}

// MarshalJSON gives an object from flag key to decision, in order.
func (d Decisions) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i := range d.list {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(decision.String(d.list[i].FlagKey).AppendJSON(out), ':')
		text, err := d.list[i].MarshalJSON()
		if err != nil {
			return nil, err
		}
		out = append(out, text...)
	}
	return append(out, '}'), nil
}

// indexed makes the lookup of a longer list.
func (d Decisions) indexed() Decisions {
	const short = 16
	if len(d.list) > short {
		d.index = make(map[string]int, len(d.list))
		for i := range d.list {
			d.index[d.list[i].FlagKey] = i
		}
	}
	return d
}
