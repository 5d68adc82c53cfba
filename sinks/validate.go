package sinks

import (
	"hash/maphash"
	"sync"
	"time"
)

// MaxEventBody is the most bytes of a body that the event endpoint takes: 3.5 MB.
const MaxEventBody = 3_500_000

// Defaults of [ValidatorConfig].
const (
	DefaultFutureTolerance = 5 * time.Minute
	DefaultMaxVisitors     = 100_000
	DefaultMaxUUIDs        = 200_000
	DefaultMaxProblems     = 100
)

// A ValidatorConfig says what a [Validator] compares with and how much it may
// remember. Its zero value has the defaults.
type ValidatorConfig struct {
	// Against finds the datafile's catalog for a body that says it is for this
	// project and revision; nil if it isn't known, and nothing is compared then.
	// It must be safe for concurrent use. Default: nothing is compared.
	Against func(projectID, revision string) *Catalog

	// FutureTolerance is how far clocks may differ. Default: 5 minutes. Negative: none.
	FutureTolerance time.Duration

	MaxVisitors int // visitors whose first times are remembered (some 100 bytes each); default 100,000
	MaxUUIDs    int // events whose uuid is remembered (some 100 bytes each); default 200,000
	MaxProblems int // in one report; default 100
}

// A Report is what a body holds and what is wrong with it.
type Report struct {
	Visitors    int // elements of visitors that are usable: an event each
	Impressions int
	Conversions int
	Repeats     int // events seen before, and the same now: what a repeated delivery brings
	Problems    []Problem
}

// Failed tells whether a problem is an error and not just a warning.
func (r *Report) Failed() bool {
	for i := range r.Problems {
		if r.Problems[i].Severity == SeverityError {
			return true
		}
	}
	return false
}

// A Validator checks event bodies in the order they are sent, and remembers
// uuids and first times of visitors from one to the next. Safe for concurrent use.
type Validator struct {
	cfg  ValidatorConfig
	seed maphash.Seed

	mu       sync.Mutex                   // guards what follows
	uuids    *recent[[16]byte, uint64]    // to the hash of the event's content
	visitors *recent[uint64, visitorTime] // by the hash of project and visitor id
}

// A visitorTime holds a visitor's earliest times in ms since the epoch.
type visitorTime struct {
	decision, conversion       int64
	hasDecision, hasConversion bool
}

// NewValidator makes a validator that remembers nothing yet.
func NewValidator(cfg ValidatorConfig) *Validator {
	if cfg.FutureTolerance == 0 {
		cfg.FutureTolerance = DefaultFutureTolerance
	}
	cfg.FutureTolerance = max(cfg.FutureTolerance, 0)
	if cfg.MaxVisitors <= 0 {
		cfg.MaxVisitors = DefaultMaxVisitors
	}
	if cfg.MaxUUIDs <= 0 {
		cfg.MaxUUIDs = DefaultMaxUUIDs
	}
	if cfg.MaxProblems <= 0 {
		cfg.MaxProblems = DefaultMaxProblems
	}
	return &Validator{
		cfg: cfg, seed: maphash.MakeSeed(),
		uuids:    newRecent[[16]byte, uint64](cfg.MaxUUIDs),
		visitors: newRecent[uint64, visitorTime](cfg.MaxVisitors),
	}
}

// Validate checks one body by itself, at the time now. A catalog is compared with
// if it isn't nil, whatever project the body names. It returns nil if all is well.
//
// Source: events.md 2.1 and section 4.
func Validate(body []byte, against *Catalog, now time.Time) []Problem {
	v := NewValidator(ValidatorConfig{Against: func(string, string) *Catalog { return against }})
	report := v.Check(body, now)
	return report.Problems
}

// Check checks the next body, at the time now.
func (v *Validator) Check(body []byte, now time.Time) Report {
	c := checker{maxProblems: v.cfg.MaxProblems, latest: now.Add(v.cfg.FutureTolerance).UnixMilli(), seed: v.seed}
	c.body(body, v.cfg.Against)
	v.remember(&c)
	return Report{Visitors: len(c.events), Impressions: c.impressions, Conversions: len(c.events) - c.impressions, Repeats: c.repeats, Problems: c.problems}
}

// remember compares the events of a body with those before, and adds them.
func (v *Validator) remember(c *checker) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range c.events {
		e := &c.events[i]
		if !e.hasUUID {
			continue
		}
		switch content, ok := v.uuids.get(e.uuid); {
		case !ok:
			v.uuids.set(e.uuid, e.content)
		case content != e.content:
			c.reportAt(e.path+".uuid", CodeUUIDConflict, SeverityError, "the uuid of another event: the endpoint keeps only one of them")
		default:
			c.repeats++
			e.isRepeat = true
		}
	}
	// Decisions first: in one body the order of its elements means nothing.
	for i := range c.events {
		if e := &c.events[i]; e.isImpression && e.hasTime {
			v.decided(c, e)
		}
	}
	for i := range c.events {
		if e := &c.events[i]; !e.isImpression && e.hasTime {
			v.converted(c, e)
		}
	}
}

// decided notes a decision. A conversion that came in an earlier body, from
// before what is now the visitor's first decision, is told of here.
func (v *Validator) decided(c *checker, e *checkedEvent) {
	t, _ := v.visitors.get(e.visitor)
	if !t.hasDecision && t.hasConversion && t.conversion < e.timestamp && !e.isRepeat {
		c.reportAt(e.path+".timestamp", CodeConversionTooEarly, SeverityWarning,
			"the visitor's first decision, but a conversion received earlier has an earlier timestamp: no experiment will count that conversion")
	}
	if !t.hasDecision || e.timestamp < t.decision {
		t.decision, t.hasDecision = e.timestamp, true
		v.visitors.set(e.visitor, t)
	}
}

func (v *Validator) converted(c *checker, e *checkedEvent) {
	t, _ := v.visitors.get(e.visitor)
	if t.hasDecision && e.timestamp < t.decision && !e.isRepeat {
		c.reportAt(e.path+".timestamp", CodeConversionTooEarly, SeverityWarning,
			"earlier than the visitor's first decision: no experiment will count this conversion")
	}
	if !t.hasConversion || e.timestamp < t.conversion {
		t.conversion, t.hasConversion = e.timestamp, true
		v.visitors.set(e.visitor, t)
	}
}

// Fresh returns a validator like v that remembers nothing.
func (v *Validator) Fresh() *Validator { return NewValidator(v.cfg) }
