package pipeline

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"sortition/schemas"
)

// Topics names where a stream reads and writes. All are different.
type Topics struct {
	Activities  string
	Decisions   string
	Events      string
	ODPEvents   string // "": ODP events of activities are counted, and left out
	DeadLetters string
}

// Config configures an [Assign].
type Config struct {
	Settings
	Topics Topics
	// Mapping reads activities of another shape; nil: they have the native one.
	Mapping *schemas.Mapping
	// EventVisitors bounds the visitors of one event batch. Default 10; from 1 to
	// 1,000. Source: event-batching.md section 2.
	EventVisitors int
	// EventBytes bounds the bytes of one event batch, unless one visitor alone is
	// larger. Default 1,000,000, which fits a broker's default limit for a record
	// even uncompressed; from 1,000 to 1 MiB (EB-P1).
	EventBytes int
	// Segments finds out the audience segments of users whose activities don't name
	// them; nil: they are not known.
	Segments Segmenter
	// PredictionConcurrency bounds the predictions that a batch asks Env.Predictor for
	// side by side. Default 64; from 1 to 10,000.
	PredictionConcurrency int
	// PredictionBudget is about how long a batch waits for predictions that fail, all of
	// them together: the predictor's own limit for one (CM-P7). 0: as long as they take.
	PredictionBudget time.Duration
	// Profiles keeps users in their variations; nil: nobody is kept. (Not Env.Profiles,
	// which costs a round trip for each activity.)
	Profiles *Profiles
	// Dedup leaves out impressions that were stored shortly before; nil: all are sent.
	Dedup *Dedup
	// ODP writes ODP events. Required with Topics.ODPEvents.
	ODP ODPEncoder
}

// DefaultPredictionConcurrency is how many predictions a batch asks for side by side.
const DefaultPredictionConcurrency = 64

func (c *Config) setDefaults() {
	if c.EventVisitors == 0 {
		c.EventVisitors = DefaultBatchVisitors
	}
	if c.PredictionConcurrency == 0 {
		c.PredictionConcurrency = DefaultPredictionConcurrency
	}
	if c.EventBytes == 0 {
		c.EventBytes = 1_000_000
	}
}

// Validate reports all faults, after defaults have been filled in.
func (c Config) Validate() error {
	c.setDefaults()
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(c.Stream == "", "Stream is required: it is part of every id")
	fault(c.Layout != Nested && c.Layout != FlatRow, "Layout must be nested or flat")
	fault(c.Client.Name == "" || c.Client.Version == "", "Client needs a name and a version")
	fault(!c.DecideAll && slices.Contains(c.Decide, ""), "Decide holds an empty flag key")
	names := []struct{ field, topic string }{
		{"Activities", c.Topics.Activities}, {"Decisions", c.Topics.Decisions},
		{"Events", c.Topics.Events}, {"DeadLetters", c.Topics.DeadLetters}, {"ODPEvents", c.Topics.ODPEvents},
	}
	for i, n := range names {
		fault(n.topic == "" && n.field != "ODPEvents", "Topics.%s is required", n.field)
		for _, m := range names[:i] {
			fault(n.topic != "" && n.topic == m.topic, "Topics.%s and Topics.%s are the same: %q", m.field, n.field, n.topic)
		}
	}
	fault(c.EventVisitors < 1 || c.EventVisitors > 1000, "EventVisitors %d is outside 1 to 1,000", c.EventVisitors)
	fault(c.EventBytes < 1000 || c.EventBytes > DefaultBatchBytes, "EventBytes %d is outside 1,000 to 1,048,576", c.EventBytes)
	fault(c.PredictionConcurrency < 1 || c.PredictionConcurrency > 10_000, "PredictionConcurrency %d is outside 1 to 10,000", c.PredictionConcurrency)
	fault(c.PredictionBudget < 0, "PredictionBudget is negative")
	fault(c.Topics.ODPEvents != "" && c.ODP == nil, "ODP is required with Topics.ODPEvents")
	fault(c.Env != nil && c.Env.Profiles != nil && c.Profiles != nil, "Profiles and Env.Profiles are both given")
	return errors.Join(faults...)
}
