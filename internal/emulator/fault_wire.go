package emulator

import (
	"errors"
	"fmt"
	"time"
)

// faultWire is a fault in the admin API, with times in milliseconds.
type faultWire struct {
	ID          int64             `json:"id,omitempty"`   // answers only
	Hits        int64             `json:"hits,omitempty"` // answers only
	Route       string            `json:"route"`
	Script      []int             `json:"script,omitempty"` // requests only: statuses, one per request
	Times       int               `json:"times,omitempty"`  // in answers: what is left of them
	Fraction    float64           `json:"fraction,omitempty"`
	Seed        uint64            `json:"seed,omitempty"`
	Contains    string            `json:"contains,omitempty"`
	MinBytes    int               `json:"min_bytes,omitempty"`
	Limit       *limitWire        `json:"limit,omitempty"`
	Status      int               `json:"status,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
	RetryAfter  string            `json:"retry_after,omitempty"`
	Body        string            `json:"body,omitempty"`
	BrokenJSON  bool              `json:"broken_json,omitempty"`
	DelayMS     int64             `json:"delay_ms,omitempty"`
	Hang        bool              `json:"hang,omitempty"`
	Cut         Cut               `json:"cut,omitempty"`
	TakesEffect bool              `json:"takes_effect,omitempty"`
}

type limitWire struct {
	Requests int   `json:"requests"`
	PerMS    int64 `json:"per_ms"`
}

// ParseFaults reads faults in the form of POST /admin/faults: one object, or an
// array of them. All are valid, or there is an error.
func ParseFaults(text []byte) ([]Fault, error) {
	var list oneOrMore[faultWire]
	if err := strict(text, &list); err != nil {
		return nil, fmt.Errorf("read faults: %w", err)
	}
	var all []Fault
	for i := range list {
		faults, err := list[i].faults()
		if err != nil {
			return nil, err
		}
		all = append(all, faults...)
	}
	return all, nil
}

// faults reads a fault, or the faults of a script.
func (w *faultWire) faults() ([]Fault, error) {
	f := Fault{
		Route: w.Route, Times: w.Times, Fraction: w.Fraction, Seed: w.Seed, Contains: w.Contains, MinBytes: w.MinBytes,
		Status: w.Status, Header: w.Headers, RetryAfter: w.RetryAfter, Body: w.Body, BrokenJSON: w.BrokenJSON,
		Delay: time.Duration(w.DelayMS) * time.Millisecond, Hang: w.Hang, Cut: w.Cut, TakesEffect: w.TakesEffect,
	}
	if w.Limit != nil {
		f.Limit = Limit{w.Limit.Requests, time.Duration(w.Limit.PerMS) * time.Millisecond}
		if w.Limit.Requests == 0 || w.Limit.PerMS == 0 {
			return nil, errors.New("fault: a limit needs requests and per_ms")
		}
	}
	if w.Script == nil {
		return []Fault{f}, f.Validate()
	}
	if f.Status != 0 || f.Times != 0 {
		return nil, errors.New("fault: a script says the statuses and how often")
	}
	var list []Fault
	for _, status := range w.Script {
		step := f
		step.Status, step.Times = status, 1
		if err := step.Validate(); err != nil {
			return nil, err
		}
		list = append(list, step)
	}
	return list, nil
}

func wireOf(f StandingFault) faultWire {
	w := faultWire{
		ID: f.ID, Hits: f.Hits, Route: f.Route, Times: f.Left, Fraction: f.Fraction, Seed: f.Seed, Contains: f.Contains, MinBytes: f.MinBytes,
		Status: f.Status, Headers: f.Header, RetryAfter: f.RetryAfter, Body: f.Body, BrokenJSON: f.BrokenJSON,
		DelayMS: f.Delay.Milliseconds(), Hang: f.Hang, Cut: f.Cut, TakesEffect: f.TakesEffect,
	}
	if f.Limit.Requests > 0 {
		w.Limit = &limitWire{f.Limit.Requests, f.Limit.Per.Milliseconds()}
	}
	return w
}
