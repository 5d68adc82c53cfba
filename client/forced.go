package client

import "slices"

// A DecisionContext is what a decision can be forced for: a flag as a whole, or
// with a rule key one of its rules. It is comparable. Source: decide.md DC-11, DC-45.
type DecisionContext struct {
	FlagKey string
	RuleKey string // "": the flag as a whole
}

// A ForcedDecision is what a decision is forced to. It is comparable.
type ForcedDecision struct {
	VariationKey string
}

type forcedDecision struct {
	DecisionContext
	ForcedDecision
}

func (s *userState) indexForced(at DecisionContext) int {
	return slices.IndexFunc(s.forced, func(f forcedDecision) bool { return f.DecisionContext == at })
}

// SetForcedDecision forces the user's decisions for a flag or rule to a variation,
// instead of an earlier one for the same. It returns true, always: whether flag,
// rule and variation exist is seen when deciding, and a forced decision that names
// none has no effect. Source: decide.md section 11, DC-12 to DC-15, pages.md U-6.
func (u *UserContext) SetForcedDecision(at DecisionContext, to ForcedDecision) bool {
	u.change(func(s *userState) {
		if i := s.indexForced(at); i >= 0 {
			s.forced = slices.Clone(s.forced)
			s.forced[i].ForcedDecision = to
			return
		}
		s.forced = append(slices.Clip(s.forced), forcedDecision{at, to})
	})
	return true
}

// ForcedDecision returns what is forced for a flag or rule; false if nothing is.
func (u *UserContext) ForcedDecision(at DecisionContext) (ForcedDecision, bool) {
	s := u.state.Load()
	if i := s.indexForced(at); i >= 0 {
		return s.forced[i].ForcedDecision, true
	}
	return ForcedDecision{}, false
}

// RemoveForcedDecision takes back what was forced; false if nothing was.
func (u *UserContext) RemoveForcedDecision(at DecisionContext) (wasForced bool) {
	u.change(func(s *userState) {
		i := s.indexForced(at)
		if wasForced = i >= 0; wasForced {
			s.forced = slices.Delete(slices.Clone(s.forced), i, i+1)
		}
	})
	return wasForced
}

// RemoveAllForcedDecisions takes back everything that was forced. It returns true,
// always.
func (u *UserContext) RemoveAllForcedDecisions() bool {
	u.change(func(s *userState) { s.forced = nil })
	return true
}
