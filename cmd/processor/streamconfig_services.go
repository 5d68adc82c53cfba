package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"sortition/cmab"
	"sortition/odp"
	"sortition/pipeline"
	"sortition/sinks"
)

type segmentsConfig struct {
	Fetch          bool     `yaml:"fetch"`
	Host           string   `yaml:"host"`
	Identifier     string   `yaml:"identifier"`
	Policy         string   `yaml:"policy"`
	Timeout        duration `yaml:"timeout"`
	RequestTimeout duration `yaml:"request_timeout"`
	MaxInFlight    int      `yaml:"max_in_flight"`
	Cache          string   `yaml:"cache"`
	CacheSize      int      `yaml:"cache_size"`
	CacheTimeout   duration `yaml:"cache_timeout"`
	RefreshAhead   duration `yaml:"refresh_ahead"`
	StaleFor       duration `yaml:"stale_for"`
	UnknownIsNone  bool     `yaml:"unknown_user_is_none"`
}

type profilesConfig struct {
	Store   string   `yaml:"store"`
	Size    int      `yaml:"size"`
	TTL     duration `yaml:"ttl"`
	OnError string   `yaml:"on_error"`
}

type predictionsConfig struct {
	Fetch    bool     `yaml:"fetch"`
	Endpoint string   `yaml:"endpoint"`
	Budget   duration `yaml:"budget"`
	// Concurrency bounds the predictions that a micro-batch asks for side by side.
	Concurrency int      `yaml:"concurrency"`
	CacheSize   int      `yaml:"cache_size"`
	CacheTTL    duration `yaml:"cache_ttl"`
}

type redisConfig struct {
	Address      string `yaml:"address"`
	Username     string `yaml:"username"`
	Password     secret `yaml:"password"`
	PasswordFile string `yaml:"password_file"`
	Database     int    `yaml:"database"`
	TLS          bool   `yaml:"tls"`
}

type deliverConfig struct {
	Events deliverToConfig `yaml:"events"`
	ODP    deliverToConfig `yaml:"odp"`
}

type deliverToConfig struct {
	Endpoint        string   `yaml:"endpoint"`
	Timeout         duration `yaml:"timeout"`
	Concurrency     int      `yaml:"concurrency"`
	MaxBatchRecords int      `yaml:"max_batch_records"`
	PublicKey       secret   `yaml:"public_key"` // ODP's
	PublicKeyFile   string   `yaml:"public_key_file"`
}

// isAddressed tells whether the configuration names ODP itself, so that no datafile
// is needed for it.
func (d *deliverToConfig) isAddressed() bool {
	return d.Endpoint != "" && (d.PublicKey != "" || d.PublicKeyFile != "")
}

// segmentParts say how segments are fetched.
type segmentParts struct {
	config  odp.Config
	host    string // instead of the datafile's
	policy  odp.Policy
	timeout time.Duration
	inRedis bool
}

// profileParts say where sticky profiles are kept.
type profileParts struct {
	inRedis bool
	size    int
	ttl     time.Duration
	policy  pipeline.ProfilePolicy
}

// deliveryParts say where finished bodies go.
type deliveryParts struct {
	endpoint        string // instead of the record's own, or the datafile's
	key             string // ODP's, with endpoint
	timeout         time.Duration
	concurrency     int
	maxBatchRecords int
}

func (c *streamConfig) serviceParts(parts *streamParts) error {
	var f faults
	f.add(c.segmentParts(parts))
	f.add(c.profileParts(parts))
	if p := c.Predictions; p.Fetch {
		config := cmab.DefaultConfig()
		config.Endpoint, config.Budget, config.CacheSize, config.CacheTTL = p.Endpoint, time.Duration(p.Budget), p.CacheSize, time.Duration(p.CacheTTL)
		if err := config.Validate(); err != nil {
			f.add(fmt.Errorf("predictions: %w", err))
		}
		f.when(p.Concurrency < 1 || p.Concurrency > 10_000, "predictions.concurrency must be from 1 to 10000")
		parts.predictions, parts.assign.PredictionConcurrency = &config, p.Concurrency
	}
	f.add(c.redisParts(parts))
	return errors.Join(f...)
}

func (c *streamConfig) segmentParts(parts *streamParts) error {
	s := c.Segments
	if !s.Fetch {
		return nil
	}
	var f faults
	policy, err := odp.ParsePolicy(s.Policy)
	if err != nil {
		f.add(fmt.Errorf("segments.policy: %w", err))
	}
	f.oneOf("segments.cache", s.Cache, "memory", "redis")
	f.within("segments.timeout", s.Timeout, 0, 10*time.Minute)
	f.when(policy == odp.Stale && s.StaleFor <= 0, "segments.policy stale needs segments.stale_for: how old an answer may be")
	f.when(s.Host != "" && sinks.CheckEndpoint(s.Host) != nil, "segments.host must be an http or https address")
	config := odp.DefaultConfig()
	config.UserKey, config.RequestTimeout, config.MaxInFlight = s.Identifier, time.Duration(s.RequestTimeout), s.MaxInFlight
	config.CacheSize, config.CacheTimeout = s.CacheSize, time.Duration(s.CacheTimeout)
	config.RefreshAhead, config.StaleFor, config.UnknownIsNone = time.Duration(s.RefreshAhead), time.Duration(s.StaleFor), s.UnknownIsNone
	if err := config.Validate(); err != nil {
		f.add(fmt.Errorf("segments: %w", err))
	}
	parts.segments = &segmentParts{
		config: config, host: strings.TrimSuffix(s.Host, "/"), policy: policy, timeout: time.Duration(s.Timeout), inRedis: s.Cache == "redis",
	}
	return errors.Join(f...)
}

func (c *streamConfig) profileParts(parts *streamParts) error {
	var f faults
	p := c.Profiles
	f.oneOf("profiles.store", p.Store, "none", "memory", "redis")
	policy, err := pipeline.ParseProfilePolicy(p.OnError)
	if err != nil {
		f.add(fmt.Errorf("profiles.on_error: %w", err))
	}
	f.when(p.Store == "memory" && p.Size < 1, "profiles.size must be at least 1")
	f.when(p.TTL < 0, "profiles.ttl must not be negative")
	if p.Store != "none" {
		parts.profiles = &profileParts{inRedis: p.Store == "redis", size: p.Size, ttl: time.Duration(p.TTL), policy: policy}
	}
	return errors.Join(f...)
}

func (c *streamConfig) redisParts(parts *streamParts) error {
	needs := parts.segments != nil && parts.segments.inRedis || parts.profiles != nil && parts.profiles.inRedis
	r := c.Redis
	if r == nil {
		if needs {
			return errors.New("redis.address is required: segments.cache or profiles.store is redis")
		}
		return nil
	}
	var f faults
	host, _, err := net.SplitHostPort(r.Address)
	f.when(err != nil, "redis.address must be host:port")
	f.when(r.Database < 0, "redis.database must not be negative")
	password, err := readSecret("redis.password", r.Password, c.path(r.PasswordFile))
	f.add(err)
	parts.redis = &redis.Options{Addr: r.Address, Username: r.Username, Password: password, DB: r.Database}
	if r.TLS {
		parts.redis.TLSConfig = &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	}
	return errors.Join(f...)
}

func (c *streamConfig) deliverParts(parts *streamParts) error {
	var f faults
	for _, d := range []struct {
		name string
		from *deliverToConfig
		to   *deliveryParts
	}{
		{"deliver.events", &c.Deliver.Events, &parts.deliverEvents},
		{"deliver.odp", &c.Deliver.ODP, &parts.deliverODP},
	} {
		f.when(d.from.Endpoint != "" && sinks.CheckEndpoint(d.from.Endpoint) != nil, "%s.endpoint must be an http or https address", d.name)
		f.within(d.name+".timeout", d.from.Timeout, 100*time.Millisecond, 5*time.Minute)
		f.when(d.from.Concurrency < 1 || d.from.Concurrency > 1000, "%s.concurrency must be from 1 to 1,000", d.name)
		f.when(d.from.MaxBatchRecords < 1 || d.from.MaxBatchRecords > 10_000, "%s.max_batch_records must be from 1 to 10,000", d.name)
		*d.to = deliveryParts{
			endpoint: d.from.Endpoint, timeout: time.Duration(d.from.Timeout), concurrency: d.from.Concurrency, maxBatchRecords: d.from.MaxBatchRecords,
		}
	}
	e := &c.Deliver.Events
	f.when(e.PublicKey != "" || e.PublicKeyFile != "", "deliver.events.public_key: the event endpoint wants none")
	o := &c.Deliver.ODP
	key, err := readSecret("deliver.odp.public_key", o.PublicKey, c.path(o.PublicKeyFile))
	f.add(err)
	f.when(err == nil && key != "" && o.Endpoint == "", "deliver.odp.public_key needs deliver.odp.endpoint")
	parts.deliverODP.endpoint, parts.deliverODP.key = strings.TrimSuffix(o.Endpoint, "/"), key
	return errors.Join(f...)
}
