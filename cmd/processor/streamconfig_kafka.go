package main

import (
	"errors"
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

	TokenFile       string            `yaml:"token_file"`
	TokenCommand    []string          `yaml:"token_command"`
	TokenExtensions map[string]string `yaml:"token_extensions"`
	Region          string            `yaml:"region"`
}

type topicsConfig struct {
	Activities  string        `yaml:"activities"`
	Decisions   string        `yaml:"decisions"`
	Events      string        `yaml:"events"`
	ODPEvents   string        `yaml:"odp_events"`
	DeadLetters string        `yaml:"dead_letters"`
	Create      *createConfig `yaml:"create"`
}

type createConfig struct {
	Partitions        int      `yaml:"partitions"`
	ReplicationFactor int      `yaml:"replication_factor"`
	Retention         duration `yaml:"retention"`
	DeadLetters       duration `yaml:"dead_letters_retention"`
	CompactDecisions  bool     `yaml:"compact_decisions"`
}

type producerConfig struct {
	Compression      string   `yaml:"compression"`
	MaxRequestBytes  int      `yaml:"max_request_bytes"`
	Linger           duration `yaml:"linger"`
	MaxInFlightBytes int      `yaml:"max_in_flight_bytes"`
	RetryTimeout     duration `yaml:"retry_timeout"`
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
		Linger: time.Duration(c.Producer.Linger), MaxInFlightBytes: c.Producer.MaxInFlightBytes,
	}
	f.within("producer.linger", c.Producer.Linger, 0, time.Second)
	if c.Producer.Linger == 0 {
		parts.producer.Linger = -1 // nothing waits
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
	if n := t.Create; n != nil {
		f.when(n.Partitions < 0 || n.ReplicationFactor < 0, "topics.create: partitions and replication_factor must not be negative; 0 is the brokers' default")
		parts.create = &topicCreation{
			partitions: n.Partitions, replicas: n.ReplicationFactor, retention: time.Duration(n.Retention),
			letterRetention: time.Duration(n.DeadLetters), compactDecisions: n.CompactDecisions,
		}
	}
	f.when(t.Events == "" && c.runs(pipeline.DeliverEvents), "topics.events is required for %s", pipeline.DeliverEvents)
	f.when(t.ODPEvents == "" && c.runs(pipeline.DeliverODP), "topics.odp_events is required for %s", pipeline.DeliverODP)
	return errors.Join(f...)
}

// sasl checks that a mechanism has what it wants; the transport checks the rest.
func (c *streamConfig) sasl() (*kafkago.SASL, error) {
	s := c.Kafka.SASL
	if s == nil {
		return nil, nil
	}
	mechanism := kafkago.Mechanism(strings.ToUpper(s.Mechanism))
	out := &kafkago.SASL{
		Mechanism: mechanism, Username: s.Username, TokenFile: c.path(s.TokenFile), TokenCommand: s.TokenCommand,
		TokenExtensions: s.TokenExtensions, Region: s.Region,
	}
	if mechanism == kafkago.OAuthBearer || mechanism == kafkago.MSKIAM {
		return out, nil
	}
	var f faults
	password, err := readSecret("kafka.sasl.password", s.Password, c.path(s.PasswordFile))
	f.add(err)
	f.when(s.Username == "", "kafka.sasl.username is required")
	f.when(err == nil && password == "", "kafka.sasl.password or kafka.sasl.password_file is required")
	out.Password = password
	return out, errors.Join(f...)
}
