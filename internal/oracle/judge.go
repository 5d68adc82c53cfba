package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"sortition/decision"
)

// A judge has cases answered by both sides and compares.
type judge struct {
	engine engine
	sdk    asker
}

// An asker answers batches as the SDK does: one answer per case, or a
// refusedError. Other errors end the run.
type asker interface {
	ask(b *batch) ([]answer, error)
}

// A verdict is the outcome of one case.
type verdict struct {
	differences []difference
	rules       []rule // by which the sides differ on purpose
	isSkipped   bool   // the SDK has no answer, for one of the rules
	sdk         *answer
	ours        *answer
}

// errRefused says that one of the sides does not take a datafile.
var errRefused = errors.New("a datafile is refused")

// judge answers with one verdict per case. An error that is errRefused is about
// the datafile, others end the run.
func (j *judge) judge(p *decision.Project, b *batch) ([]verdict, error) {
	theirs, err := j.sdk.ask(b)
	if refused := (refusedError{}); errors.As(err, &refused) {
		return nil, fmt.Errorf("%w by the SDK: %s", errRefused, refused.reason)
	}
	if err != nil {
		return nil, err
	}
	isHoldout, err := holdoutKeys(b.Datafile)
	if err != nil {
		return nil, err
	}
	out := make([]verdict, len(b.Cases))
	for i := range b.Cases {
		v := &out[i]
		v.sdk = &theirs[i]
		if v.ours, err = j.engine.answer(p, &b.Cases[i]); err != nil {
			return nil, fmt.Errorf("case %s: %w", b.Cases[i].ID, err)
		}
		if v.sdk.Raised != nil {
			if isVersionText(v.sdk.Raised) {
				v.rules, v.isSkipped = []rule{ruleVersionText}, true
			} else {
				v.differences = []difference{{"raised", mustMarshal(v.ours), mustMarshal(v.sdk.Raised)}}
			}
			continue
		}
		// A map, in which the SDK has unknown keys and failed predictions first.
		if b.Cases[i].Call == callKeys || len(v.ours.Asked) > 0 {
			for _, a := range []*answer{v.ours, v.sdk} {
				slices.SortFunc(a.Decisions, func(a, b decided) int { return cmp.Compare(a.FlagKey, b.FlagKey) })
			}
		}
		if v.rules, err = adopt(v.ours, v.sdk, isHoldout); err != nil {
			return nil, fmt.Errorf("case %s: %w", b.Cases[i].ID, err)
		}
		if v.differences, err = compare(v.ours, v.sdk); err != nil {
			return nil, fmt.Errorf("case %s: %w", b.Cases[i].ID, err)
		}
	}
	return out, nil
}
