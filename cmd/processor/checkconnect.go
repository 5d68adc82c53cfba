package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"

	"sortition/pipeline/kafkago"
)

// An attempt is one thing that `check --connect` tried.
type attempt struct {
	What   string  `json:"what"`   // broker, topic, group, datafile, …
	Target string  `json:"target"` // its address or name, without secrets
	OK     bool    `json:"ok"`
	Result string  `json:"result"`           // what was found, or what went wrong
	Advice string  `json:"advice,omitempty"` // what to do about it
	TookMS float64 `json:"took_ms"`
}

func (a *attempt) took() time.Duration { return time.Duration(a.TookMS * float64(time.Millisecond)) }

// A trial is an attempt to be made.
type trial struct {
	what, target string
	// try returns what was found. It must heed ctx, and change nothing anywhere.
	try func(ctx context.Context) (found string, err error)
}

// An advised error knows what to do about it.
type advised struct {
	error
	advice string
}

func (e advised) Unwrap() error { return e.error }

// connecting is a run of trials.
type connecting struct {
	*configCheck
	timeout time.Duration
	kafka   *kafkago.Probe
	// fetched is the datafile that a source of HTTP gives; fetched once, for all.
	fetched func() (*checkReport, error)

	mu         sync.Mutex // guards advertised
	advertised []string   // addresses of brokers, by the cluster's own word
}

// connect tries everything that the stream will talk to, side by side, each within the
// timeout. Only ctx makes it fail.
func (c *configCheck) connect(ctx context.Context, timeout time.Duration) error {
	run := &connecting{configCheck: c, timeout: timeout}
	probe, err := c.parts.connection.Probe(c.parts.allTopics()...)
	if err != nil {
		return err // the connection has been checked: no fault is left to find
	}
	defer probe.Close()
	run.kafka = probe
	run.fetched = sync.OnceValues(func() (*checkReport, error) { return run.fetchDatafile(ctx) })

	trials := slices.Concat(run.brokerTrials(c.parts.connection.Brokers), run.topicTrials(), run.groupTrials(), run.serviceTrials())
	tried := run.all(ctx, trials)
	// The cluster may name brokers by addresses that don't work from here.
	var further []string
	for _, address := range run.advertised {
		if !slices.Contains(c.parts.connection.Brokers, address) && !slices.Contains(further, address) {
			further = append(further, address)
		}
	}
	slices.Sort(further)
	second := run.all(ctx, run.brokerTrials(further))
	for i := range second {
		if !second[i].OK {
			second[i].Advice = "the cluster names this address itself (advertised.listeners): it must be reachable from here, and under this name"
		}
	}
	if fetched, err := run.fetchedIfPolled(); err == nil && fetched != nil {
		c.report.Datafile = fetched
		c.report.Warnings = c.report.Warnings[:0]
		c.warn() // again, of the datafile that is in force
	}
	n := len(c.parts.connection.Brokers)
	c.report.Tried = slices.Concat(tried[:n], second, tried[n:])
	return ctx.Err()
}

// all makes trials side by side.
func (r *connecting) all(ctx context.Context, trials []trial) []attempt {
	attempts := make([]attempt, len(trials))
	var group errgroup.Group
	for i, t := range trials {
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, r.timeout)
			defer cancel()
			start := time.Now()
			found, err := t.try(ctx)
			a := attempt{What: t.what, Target: t.target, OK: err == nil, Result: found}
			if err != nil {
				a.Result, a.Advice = whatWentWrong(ctx, err, r.timeout)
				a.Result = withoutSecrets(a.Result)
			}
			a.TookMS = float64(time.Since(start).Microseconds()) / 1000
			attempts[i] = a
			return nil
		})
	}
	_ = group.Wait() // nothing fails; it is in the attempts
	return attempts
}

// whatWentWrong says it in short, and what to do.
func whatWentWrong(ctx context.Context, err error, timeout time.Duration) (result, advice string) {
	result = err.Error()
	var inURL *url.Error
	if errors.As(err, &inURL) { // whose text repeats the address, with a key in it maybe
		result = inURL.Err.Error()
		if inURL.Op == "parse" {
			result = "the address is none" // the error repeats the part of it that is wrong
		}
	}
	var known advised
	var noName *net.DNSError
	var header tls.RecordHeaderError
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verification *tls.CertificateVerificationError
	var missing *kafkago.TopicMissingError
	switch {
	case errors.As(err, &known):
		return result, known.advice
	case errors.Is(err, kafka.SASLAuthenticationFailed):
		return result, "the credentials are refused: look at kafka.sasl (user name, password, mechanism), and whether the user exists"
	case errors.Is(err, kafka.UnsupportedSASLMechanism):
		return result, "the broker has another mechanism: look at kafka.sasl.mechanism"
	case errors.Is(err, kafka.TopicAuthorizationFailed), errors.Is(err, kafka.GroupAuthorizationFailed), errors.Is(err, kafka.ClusterAuthorizationFailed):
		return result, "the user lacks the right: grant Read and Describe on what is read and on the groups, Write and Describe on what is written"
	case errors.As(err, &missing):
		return result, "create the topic, or say topics.create, or correct its name under topics"
	case errors.As(err, &noName):
		return result, "the name is not known here: look for a typing error, and at DNS"
	case errors.As(err, &header):
		return result, "what listens there doesn't speak TLS: another port, or no TLS"
	case errors.As(err, &authority), errors.As(err, &invalid):
		return result, "the certificate's authority isn't trusted, or it is out of date: give the authority's certificate (ca_file), or install it"
	case errors.As(err, &hostname):
		return result, "the certificate is for another name: use that name, or say server_name"
	case errors.As(err, &verification):
		return result, "the certificate isn't accepted"
	case errors.Is(err, syscall.ECONNREFUSED):
		return result, "nothing listens there: look at host and port, and whether it runs"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return result, "it hung up: it may want TLS or credentials that are not configured, or the other way round"
	case ctx.Err() != nil, errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer within %s (%s)", timeout, result), "a firewall, the wrong port, or TLS on one side only; --timeout gives it longer"
	}
	return result, ""
}
