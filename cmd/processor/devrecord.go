package main

import (
	"encoding/json"
	"fmt"

	"sortition/internal/kafkatest"
	"sortition/schemas"
)

// devDecision is what the account and the page read of a decision record.
type devDecision struct {
	UserID   string `json:"user_id"`
	Revision string
	Datafile string
	Source   struct {
		Partition int
		Offset    int64
	}
	Segments  []string // nil: not known
	Decisions []struct {
		FlagKey      string `json:"flag_key"`
		VariationKey string `json:"variation_key"` // "": none
		RuleKey      string `json:"rule_key"`
		RuleType     string `json:"rule_type"`
		Enabled      bool
	}
}

func readDecision(value []byte) (*devDecision, error) {
	d := &devDecision{}
	if err := json.Unmarshal(value, d); err != nil {
		return nil, fmt.Errorf("not a decision record: %w", err)
	}
	return d, nil
}

// readEvents calls see for each event of an event batch.
func readEvents(value []byte, see func(uuid string, isImpression bool)) error {
	var batch struct {
		Visitors []struct {
			Snapshots []struct {
				Decisions []struct{}
				Events    []struct{ UUID string }
			}
		}
	}
	if err := json.Unmarshal(value, &batch); err != nil {
		return fmt.Errorf("not an event batch: %w", err)
	}
	for _, v := range batch.Visitors {
		for _, s := range v.Snapshots {
			for _, e := range s.Events {
				see(e.UUID, len(s.Decisions) > 0)
			}
		}
	}
	return nil
}

// readODPEvents calls see with the idempotence id of each event of a batch for ODP.
func readODPEvents(value []byte, see func(id string)) error {
	var batch []struct {
		Data struct {
			ID string `json:"idempotence_id"`
		}
	}
	if err := json.Unmarshal(value, &batch); err != nil {
		return fmt.Errorf("not a batch of ODP events: %w", err)
	}
	for i := range batch {
		see(batch[i].Data.ID)
	}
	return nil
}

// letterOf reads what a dead letter's headers say.
func letterOf(r *kafkatest.Record) (schemas.DeadLetter, error) {
	return schemas.ParseDeadLetter(func(yield func(string, []byte) bool) {
		for _, h := range r.Headers {
			if !yield(h.Key, h.Value) {
				return
			}
		}
	})
}

// flagTally counts the decisions for one flag.
type flagTally struct {
	decided    int
	variations map[variationKey]int
}

type variationKey struct {
	key       string // "" stands for none
	isEnabled bool
}

// flagTallies are flags by key.
type flagTallies map[string]*flagTally

func (t flagTallies) add(d *devDecision) {
	for i := range d.Decisions {
		one := &d.Decisions[i]
		f := t[one.FlagKey]
		if f == nil {
			f = &flagTally{variations: map[variationKey]int{}}
			t[one.FlagKey] = f
		}
		f.decided++
		f.variations[variationKey{one.VariationKey, one.Enabled}]++
	}
}
