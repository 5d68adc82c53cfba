package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"sortition/decision"
	"sortition/pipeline"
	"sortition/schemas"
)

type activitiesConfig struct {
	Mapping         map[string]any `yaml:"mapping"`
	MaxBatchRecords int            `yaml:"max_batch_records"`
	CommitInterval  duration       `yaml:"commit_interval"`
}

type eventsConfig struct {
	BatchSize     int      `yaml:"batch_size"`
	MaxBatchBytes int      `yaml:"max_batch_bytes"`
	Dedup         string   `yaml:"dedup"`
	DedupWindow   duration `yaml:"dedup_window"`
	DedupSize     int      `yaml:"dedup_size"`
}

// dedupParts bound what is remembered of impressions.
type dedupParts struct {
	window time.Duration
	size   int
}

func (c *streamConfig) assignParts(parts *streamParts) error {
	var f faults
	f.when(c.Activities.MaxBatchRecords == 0, "activities.max_batch_records must be from 1 to 100,000")
	f.when(c.Events.BatchSize == 0, "events.batch_size must be from 1 to 1,000")
	f.oneOf("events.dedup", c.Events.Dedup, "none", "window")
	if c.Events.Dedup == "window" {
		f.within("events.dedup_window", c.Events.DedupWindow, time.Second, 31*24*time.Hour)
		f.when(c.Events.DedupSize < 1 || c.Events.DedupSize > 100_000_000, "events.dedup_size must be from 1 to 100,000,000")
		parts.dedup = &dedupParts{window: time.Duration(c.Events.DedupWindow), size: c.Events.DedupSize}
	}
	settings, err := c.settings()
	f.add(err)
	mapping, err := c.mapping()
	f.add(err)
	parts.assign = pipeline.Config{
		Settings: settings, Mapping: mapping, Topics: parts.topics,
		EventVisitors: c.Events.BatchSize, EventBytes: c.Events.MaxBatchBytes,
	}
	return errors.Join(f...)
}

// settings are how activities are decided.
func (c *streamConfig) settings() (pipeline.Settings, error) {
	var f faults
	layout, err := pipeline.ParseLayout(c.Layout)
	if err != nil {
		f.add(fmt.Errorf("layout: %w", err))
	}
	var options decision.Options
	for _, name := range c.Options {
		option, ok := decision.ParseOption(name)
		f.when(!ok, "options: %q is not a decide option; there are %s", name, strings.Join(decision.OptionNames(), ", "))
		options |= option
	}
	if c.Reasons {
		options |= decision.IncludeReasons
	}
	return pipeline.Settings{
		Stream: c.Stream, Decide: c.Decide.keys, DecideAll: c.Decide.all, Options: options, Client: client, Layout: layout,
	}, errors.Join(f...)
}

func (c *streamConfig) mapping() (*schemas.Mapping, error) {
	if c.Activities.Mapping == nil {
		return nil, nil
	}
	m, err := schemas.CompileMapping(c.Activities.Mapping)
	var faulty *schemas.MappingError
	if errors.As(err, &faulty) {
		var f faults
		for _, one := range faulty.Faults {
			f.when(true, "activities.mapping.%s: %s", one.Field, one.Message)
		}
		return nil, errors.Join(f...)
	}
	return m, err
}
