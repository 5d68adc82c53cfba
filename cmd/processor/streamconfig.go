package main

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sortition/decision"
	"sortition/pipeline"
	"sortition/pipeline/kafkago"
	"sortition/schemas"
)

// streamConfig is the configuration file of `processor run`, with its defaults
// filled in by defaultStreamConfig. examples/sortition.yaml explains every key.
type streamConfig struct {
	Stream     string           `yaml:"stream"`
	Kafka      kafkaConfig      `yaml:"kafka"`
	Topics     topicsConfig     `yaml:"topics"`
	Datafile   datafileConfig   `yaml:"datafile"`
	Activities activitiesConfig `yaml:"activities"`
	Decide     keysOrAll        `yaml:"decide"`
	Options    []string         `yaml:"options"`
	Reasons    bool             `yaml:"reasons"`
	Layout     string           `yaml:"layout"`
	Events     eventsConfig     `yaml:"events"`
	Producer   producerConfig   `yaml:"producer"`
	// StartupTimeout is how long brokers and topics are waited for.
	StartupTimeout duration  `yaml:"startup_timeout"`
	DrainTimeout   duration  `yaml:"drain_timeout"`
	Log            logConfig `yaml:"log"`

	folder string // of the file, which relative paths start from
}

type kafkaConfig struct {
	Brokers        []string    `yaml:"brokers"`
	ClientID       string      `yaml:"client_id"`
	TLS            *tlsConfig  `yaml:"tls"`
	SASL           *saslConfig `yaml:"sasl"`
	Group          string      `yaml:"group"`
	StartAt        string      `yaml:"start_at"`
	OnOutOfRange   string      `yaml:"on_out_of_range"`
	SessionTimeout duration    `yaml:"session_timeout"`
}

type tlsConfig struct {
	CAFile     string `yaml:"ca_file"`
	CertFile   string `yaml:"cert_file"`
	KeyFile    string `yaml:"key_file"`
	ServerName string `yaml:"server_name"`
}

type saslConfig struct {
	Mechanism    string `yaml:"mechanism"`
	Username     string `yaml:"username"`
	Password     secret `yaml:"password"`
	PasswordFile string `yaml:"password_file"`
}

type topicsConfig struct {
	Activities  string `yaml:"activities"`
	Decisions   string `yaml:"decisions"`
	Events      string `yaml:"events"`
	DeadLetters string `yaml:"dead_letters"`
}

type datafileConfig struct {
	Path           string `yaml:"path"`
	SkipValidation bool   `yaml:"skip_validation"`
}

type activitiesConfig struct {
	Mapping         map[string]any `yaml:"mapping"`
	MaxBatchRecords int            `yaml:"max_batch_records"`
	CommitInterval  duration       `yaml:"commit_interval"`
}

type eventsConfig struct {
	BatchSize     int `yaml:"batch_size"`
	MaxBatchBytes int `yaml:"max_batch_bytes"`
}

type producerConfig struct {
	Compression     string   `yaml:"compression"`
	MaxRequestBytes int      `yaml:"max_request_bytes"`
	RetryTimeout    duration `yaml:"retry_timeout"`
}

type logConfig struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

func defaultStreamConfig() *streamConfig {
	return &streamConfig{
		Stream: "sortition",
		Kafka: kafkaConfig{
			ClientID: "sortition", Group: "sortition", StartAt: "earliest", OnOutOfRange: "earliest", SessionTimeout: duration(30 * time.Second),
		},
		Topics:         topicsConfig{Activities: "activities", Decisions: "decisions", Events: "events", DeadLetters: "dead-letters"},
		Activities:     activitiesConfig{MaxBatchRecords: 1000, CommitInterval: duration(250 * time.Millisecond)},
		Decide:         keysOrAll{all: true},
		Layout:         "nested",
		Events:         eventsConfig{BatchSize: pipeline.DefaultBatchVisitors, MaxBatchBytes: 1_000_000},
		Producer:       producerConfig{Compression: "zstd", MaxRequestBytes: 1_000_000, RetryTimeout: duration(30 * time.Second)},
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

// parts turns the configuration into what a stream is made of. All faults are
// reported, under the names they have in the file.
func (c *streamConfig) parts() (streamParts, error) {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(len(c.Kafka.Brokers) == 0, "kafka.brokers is required: a list of host:port")
	fault(c.Datafile.Path == "", "datafile.path is required")
	fault(c.DrainTimeout < duration(time.Second) || c.DrainTimeout > duration(10*time.Minute), "drain_timeout must be from 1s to 10m")
	fault(c.StartupTimeout < duration(time.Second) || c.StartupTimeout > duration(time.Hour), "startup_timeout must be from 1s to 1h")
	fault(c.Kafka.SessionTimeout < duration(time.Second) || c.Kafka.SessionTimeout > duration(10*time.Minute), "kafka.session_timeout must be from 1s to 10m")
	fault(c.Activities.MaxBatchRecords == 0, "activities.max_batch_records must be from 1 to 100,000")
	fault(c.Events.BatchSize == 0, "events.batch_size must be from 1 to 1,000")
	fault(!slices.Contains([]string{"text", "json"}, c.Log.Format), `log.format must be "text" or "json"`)
	_, err := c.level()
	fault(err != nil, "log.level must be debug, info, warn or error")

	settings, err := c.settings()
	if err != nil {
		faults = append(faults, err)
	}
	mapping, err := c.mapping()
	if err != nil {
		faults = append(faults, err)
	}
	sasl, err := c.sasl()
	if err != nil {
		faults = append(faults, err)
	}
	parts := streamParts{
		pipeline: pipeline.Config{
			Settings: settings, Mapping: mapping,
			Topics: pipeline.Topics{
				Activities: c.Topics.Activities, Decisions: c.Topics.Decisions, Events: c.Topics.Events, DeadLetters: c.Topics.DeadLetters,
			},
			EventVisitors: c.Events.BatchSize, EventBytes: c.Events.MaxBatchBytes,
		},
		subscriber: kafkago.SubscriberConfig{
			Group: c.Kafka.Group, MaxBatchRecords: c.Activities.MaxBatchRecords, CommitInterval: time.Duration(c.Activities.CommitInterval),
			StartAt: kafkago.OffsetPolicy(c.Kafka.StartAt), OnOutOfRange: kafkago.OffsetPolicy(c.Kafka.OnOutOfRange),
			SessionTimeout: time.Duration(c.Kafka.SessionTimeout), RebalanceTimeout: time.Duration(c.Kafka.SessionTimeout),
			HeartbeatInterval: min(3*time.Second, time.Duration(c.Kafka.SessionTimeout)/10),
		},
		producer: kafkago.ProducerConfig{
			Compression: c.Producer.Compression, MaxRequestBytes: c.Producer.MaxRequestBytes, RetryTimeout: time.Duration(c.Producer.RetryTimeout),
		},
		connection: kafkago.Connection{Brokers: c.Kafka.Brokers, ClientID: c.Kafka.ClientID, SASL: sasl},
		drain:      time.Duration(c.DrainTimeout),
	}
	if t := c.Kafka.TLS; t != nil {
		parts.connection.TLS = &kafkago.TLS{
			CAFile: c.path(t.CAFile), CertFile: c.path(t.CertFile), KeyFile: c.path(t.KeyFile), ServerName: t.ServerName,
		}
	}
	return parts, errors.Join(faults...)
}

// settings are how activities are decided.
func (c *streamConfig) settings() (pipeline.Settings, error) {
	var faults []error
	layout, err := pipeline.ParseLayout(c.Layout)
	if err != nil {
		faults = append(faults, fmt.Errorf("layout: %w", err))
	}
	var options decision.Options
	for _, name := range c.Options {
		option, ok := decision.ParseOption(name)
		if !ok {
			faults = append(faults, fmt.Errorf("options: %q is not a decide option; there are %s", name, strings.Join(decision.OptionNames(), ", ")))
		}
		options |= option
	}
	if c.Reasons {
		options |= decision.IncludeReasons
	}
	return pipeline.Settings{
		Stream: c.Stream, Decide: c.Decide.keys, DecideAll: c.Decide.all, Options: options, Client: client, Layout: layout,
	}, errors.Join(faults...)
}

func (c *streamConfig) mapping() (*schemas.Mapping, error) {
	if c.Activities.Mapping == nil {
		return nil, nil
	}
	m, err := schemas.CompileMapping(c.Activities.Mapping)
	var faulty *schemas.MappingError
	if errors.As(err, &faulty) {
		var faults []error
		for _, f := range faulty.Faults {
			faults = append(faults, fmt.Errorf("activities.mapping.%s: %s", f.Field, f.Message))
		}
		return nil, errors.Join(faults...)
	}
	return m, err
}

func (c *streamConfig) sasl() (*kafkago.SASL, error) {
	s := c.Kafka.SASL
	if s == nil {
		return nil, nil
	}
	password, err := readSecret("kafka.sasl.password", s.Password, c.path(s.PasswordFile))
	if err == nil && s.Username == "" {
		err = errors.New("kafka.sasl.username is required")
	}
	if err == nil && password == "" {
		err = errors.New("kafka.sasl.password or kafka.sasl.password_file is required")
	}
	return &kafkago.SASL{Mechanism: kafkago.Mechanism(strings.ToUpper(s.Mechanism)), Username: s.Username, Password: password}, err
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
