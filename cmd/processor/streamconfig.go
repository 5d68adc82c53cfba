package main

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sortition/cmab"
	"sortition/odp"
	"sortition/pipeline"
)

// streamConfig is the configuration file of `processor run`, with its defaults
// filled in by defaultStreamConfig. examples/sortition.yaml explains every key. What
// a section means for the stream is in the streamconfig_*.go file of its name.
type streamConfig struct {
	Stream      string            `yaml:"stream"`
	Handlers    []string          `yaml:"handlers"`
	Kafka       kafkaConfig       `yaml:"kafka"`
	Topics      topicsConfig      `yaml:"topics"`
	Datafile    datafileConfig    `yaml:"datafile"`
	Activities  activitiesConfig  `yaml:"activities"`
	Segments    segmentsConfig    `yaml:"segments"`
	Profiles    profilesConfig    `yaml:"profiles"`
	Predictions predictionsConfig `yaml:"predictions"`
	Redis       *redisConfig      `yaml:"redis"`
	Decide      keysOrAll         `yaml:"decide"`
	Options     []string          `yaml:"options"`
	Reasons     bool              `yaml:"reasons"`
	Layout      string            `yaml:"layout"`
	Events      eventsConfig      `yaml:"events"`
	Deliver     deliverConfig     `yaml:"deliver"`
	Producer    producerConfig    `yaml:"producer"`
	HTTP        httpConfig        `yaml:"http"`
	// StartupTimeout is how long brokers, topics and the datafile are waited for.
	StartupTimeout duration  `yaml:"startup_timeout"`
	DrainTimeout   duration  `yaml:"drain_timeout"`
	Log            logConfig `yaml:"log"`

	folder string // of the file, which relative paths start from
}

type httpConfig struct {
	Listen string `yaml:"listen"`
}

type logConfig struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

// allHandlers are the stages of a stream, in the order data passes them.
var allHandlers = []string{pipeline.AssignActivities, pipeline.DeliverEvents, pipeline.DeliverODP}

func defaultStreamConfig() *streamConfig {
	bandits, segments := cmab.DefaultConfig(), odp.DefaultConfig()
	return &streamConfig{
		Stream:   "sortition",
		Handlers: slices.Clone(allHandlers),
		Kafka: kafkaConfig{
			ClientID: "sortition", Group: "sortition", StartAt: "earliest", OnOutOfRange: "earliest", SessionTimeout: duration(30 * time.Second),
		},
		Topics: topicsConfig{
			Activities: "activities", Decisions: "decisions", Events: "events", ODPEvents: "odp-events", DeadLetters: "dead-letters",
		},
		Datafile: datafileConfig{
			PollInterval: duration(5 * time.Minute), Timeout: duration(10 * time.Second),
		},
		Activities: activitiesConfig{MaxBatchRecords: 1000, CommitInterval: duration(250 * time.Millisecond)},
		Segments: segmentsConfig{
			Identifier: segments.UserKey, Policy: odp.Unknown.String(), RequestTimeout: duration(segments.RequestTimeout), Cache: "memory",
			CacheSize: 100_000, CacheTimeout: duration(segments.CacheTimeout), MaxInFlight: segments.MaxInFlight,
		},
		Profiles:    profilesConfig{Store: "none", Size: 100_000, OnError: "hold"},
		Predictions: predictionsConfig{Endpoint: bandits.Endpoint, Budget: duration(bandits.Budget), Concurrency: pipeline.DefaultPredictionConcurrency, CacheSize: bandits.CacheSize, CacheTTL: duration(bandits.CacheTTL)},
		Decide:      keysOrAll{all: true},
		Layout:      "nested",
		Events: eventsConfig{
			BatchSize: pipeline.DefaultBatchVisitors, MaxBatchBytes: 1_000_000, Dedup: "none", DedupWindow: duration(pipeline.DefaultDedupWindow), DedupSize: pipeline.DefaultDedupSize,
		},
		Deliver: deliverConfig{
			Events: deliverToConfig{Timeout: duration(10 * time.Second), Concurrency: 4, MaxBatchRecords: 100},
			ODP:    deliverToConfig{Timeout: duration(10 * time.Second), Concurrency: 4, MaxBatchRecords: 100},
		},
		Producer: producerConfig{
			Compression: "zstd", MaxRequestBytes: 1_000_000, Linger: duration(5 * time.Millisecond), MaxInFlightBytes: 64 << 20,
			RetryTimeout: duration(30 * time.Second),
		},
		StartupTimeout: duration(time.Minute),
		DrainTimeout:   duration(25 * time.Second),
		Log:            logConfig{Level: "info", Format: "text"},
	}
}

// path makes a path of the file relative to the file.
func (c *streamConfig) path(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.folder, name)
}

func (c *streamConfig) runs(handler string) bool { return slices.Contains(c.Handlers, handler) }

// faults collects what is wrong with a configuration, so that all of it is said.
type faults []error

func (f *faults) add(err error) {
	if err != nil {
		*f = append(*f, err)
	}
}

func (f *faults) when(bad bool, format string, args ...any) {
	if bad {
		*f = append(*f, fmt.Errorf(format, args...))
	}
}

func (f *faults) within(name string, d duration, from, to time.Duration) {
	f.when(d < duration(from) || d > duration(to), "%s must be from %s to %s", name, from, to)
}

func (f *faults) oneOf(name, value string, known ...string) {
	f.when(!slices.Contains(known, value), "%s must be one of %s", name, strings.Join(known, ", "))
}

// parts turns the configuration into what a stream is made of. All faults are
// reported, under the names they have in the file.
func (c *streamConfig) parts() (streamParts, error) {
	var f faults
	f.when(len(c.Handlers) == 0, "handlers is empty: there are %s", strings.Join(allHandlers, ", "))
	for i, name := range c.Handlers {
		f.oneOf(fmt.Sprintf("handlers[%d]", i), name, allHandlers...)
		f.when(slices.Contains(c.Handlers[:i], name), "handlers: %s is there twice", name)
	}
	f.within("drain_timeout", c.DrainTimeout, time.Second, 10*time.Minute)
	f.within("startup_timeout", c.StartupTimeout, time.Second, time.Hour)
	f.oneOf("log.format", c.Log.Format, "text", "json")
	_, err := c.level()
	f.when(err != nil, "log.level must be debug, info, warn or error")

	parts := streamParts{
		handlers: c.Handlers, listen: c.HTTP.Listen,
		startup: time.Duration(c.StartupTimeout), drain: time.Duration(c.DrainTimeout),
	}
	for _, section := range []func(*streamParts) error{c.kafkaParts, c.topicParts, c.datafileParts, c.assignParts, c.serviceParts, c.deliverParts} {
		f.add(section(&parts))
	}
	return parts, errors.Join(f...)
}

func (c *streamConfig) level() (slog.Level, error) {
	var level slog.Level
	err := level.UnmarshalText([]byte(c.Log.Level))
	return level, err
}

// logger writes to f as configured.
func (c *streamConfig) logger(std stdio) *slog.Logger {
	level, _ := c.level() // parts has checked it
	options := &slog.HandlerOptions{Level: level}
	if c.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(std.err, options))
	}
	return slog.New(slog.NewTextHandler(std.err, options))
}
