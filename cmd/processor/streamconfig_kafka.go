package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"sortition/pipeline"
	"sortition/pipeline/kafkago"
)

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
	ODPEvents   string `yaml:"odp_events"`
	DeadLetters string `yaml:"dead_letters"`
}

type producerConfig struct {
	Compression     string   `yaml:"compression"`
	MaxRequestBytes int      `yaml:"max_request_bytes"`
	RetryTimeout    duration `yaml:"retry_timeout"`
}

func (c *streamConfig) kafkaParts(parts *streamParts) error {
	var f faults
	f.when(len(c.Kafka.Brokers) == 0, "kafka.brokers is required: a list of host:port")
	f.within("kafka.session_timeout", c.Kafka.SessionTimeout, time.Second, 10*time.Minute)
	sasl, err := c.sasl()
	f.add(err)
	parts.connection = kafkago.Connection{Brokers: c.Kafka.Brokers, ClientID: c.Kafka.ClientID, SASL: sasl}
	if t := c.Kafka.TLS; t != nil {
		parts.connection.TLS = &kafkago.TLS{
			CAFile: c.path(t.CAFile), CertFile: c.path(t.CertFile), KeyFile: c.path(t.KeyFile), ServerName: t.ServerName,
		}
	}
	session := time.Duration(c.Kafka.SessionTimeout)
	parts.subscriber = kafkago.SubscriberConfig{
		Group: c.Kafka.Group, MaxBatchRecords: c.Activities.MaxBatchRecords, CommitInterval: time.Duration(c.Activities.CommitInterval),
		StartAt: kafkago.OffsetPolicy(c.Kafka.StartAt), OnOutOfRange: kafkago.OffsetPolicy(c.Kafka.OnOutOfRange),
		SessionTimeout: session, RebalanceTimeout: session, HeartbeatInterval: min(3*time.Second, session/10),
	}
	parts.producer = kafkago.ProducerConfig{
		Compression: c.Producer.Compression, MaxRequestBytes: c.Producer.MaxRequestBytes, RetryTimeout: time.Duration(c.Producer.RetryTimeout),
	}
	return errors.Join(f...)
}

func (c *streamConfig) topicParts(parts *streamParts) error {
	var f faults
	t := c.Topics
	parts.topics = pipeline.Topics{
		Activities: t.Activities, Decisions: t.Decisions, Events: t.Events, ODPEvents: t.ODPEvents, DeadLetters: t.DeadLetters,
	}
	f.when(t.DeadLetters == "", "topics.dead_letters is required")
	f.when(t.Events == "" && c.runs(pipeline.DeliverEvents), "topics.events is required for %s", pipeline.DeliverEvents)
	f.when(t.ODPEvents == "" && c.runs(pipeline.DeliverODP), "topics.odp_events is required for %s", pipeline.DeliverODP)
	return errors.Join(f...)
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
	if err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	return &kafkago.SASL{Mechanism: kafkago.Mechanism(strings.ToUpper(s.Mechanism)), Username: s.Username, Password: password}, nil
}
