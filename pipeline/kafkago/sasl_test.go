package kafkago

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"sortition/internal/kafkatest"
	"sortition/pipeline"
)

// authenticating makes a broker demand one SASL mechanism that kfake does not know.
// judge sees each message of a client and answers it with a challenge, or refuses.
// The result counts the connections that have got in.
func (b *broker) authenticating(t testing.TB, mechanism string, judge func(said []byte) (challenge []byte, refuse bool)) *atomic.Int64 {
	t.Helper()
	var admitted atomic.Int64
	k := b.fake.Kfake()
	k.ControlKey(kmsg.SASLHandshake.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		res := req.ResponseKind().(*kmsg.SASLHandshakeResponse)
		res.SupportedMechanisms = []string{mechanism}
		if req.(*kmsg.SASLHandshakeRequest).Mechanism != mechanism {
			res.ErrorCode = kerr.UnsupportedSaslMechanism.Code
		}
		return res, nil, true
	})
	k.ControlKey(kmsg.SASLAuthenticate.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		res := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		challenge, refuse := judge(req.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes)
		switch {
		case refuse:
			res.ErrorCode = kerr.SaslAuthenticationFailed.Code
		case challenge != nil:
			res.SASLAuthBytes = challenge
		default:
			admitted.Add(1)
		}
		return res, nil, true
	})
	return &admitted
}

// roundTrip stores and reads a record with one Connection, group included.
func (b *broker) roundTrip(t *testing.T, c Connection, topic string) {
	t.Helper()
	value := b.name(t, "value")
	p := b.producer(t, func(cfg *ProducerConfig) { cfg.Connection = c })
	require.NoError(t, p.Produce(t.Context(), []pipeline.Output{{Topic: topic, Value: []byte(value)}}))
	s := b.subscriber(t, b.name(t, "group"), func(cfg *SubscriberConfig) { cfg.Connection = c })
	messages := subscribe(t, s, topic)
	for !slices.Contains(collect(t, messages, 1), value) {
	}
	require.NoError(t, s.Close())
}

// refused returns why a Producer cannot store anything with c.
func (b *broker) refused(t *testing.T, c Connection, topic string, logger *slog.Logger) error {
	t.Helper()
	p := b.producer(t, func(cfg *ProducerConfig) {
		cfg.Connection = c
		cfg.RetryTimeout = 1200 * time.Millisecond
		cfg.Logger = logger
	})
	err := p.Produce(t.Context(), []pipeline.Output{{Topic: topic, Value: []byte("v")}})
	require.Error(t, err)
	return err
}

func TestOAuthBearerFromFile(t *testing.T) {
	b := fakeBroker(t)
	topic := b.topic(t, 1)
	var valid atomic.Value
	valid.Store("first.token")
	admitted := b.authenticating(t, "OAUTHBEARER", func(said []byte) ([]byte, bool) {
		switch string(said) {
		case "n,,\x01auth=Bearer " + valid.Load().(string) + "\x01identityPoolId=pool-1\x01logicalCluster=lkc-1\x01\x01":
			return nil, false
		case "\x01": // the client has understood that it is refused
			return nil, true
		default:
			return []byte(`{"status":"invalid_token","openid-configuration":"` + string(said) + `"}`), false
		}
	})
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("first.token\n"), 0o600))
	var dialled atomic.Int64
	c := Connection{Brokers: b.addrs,
		SASL: &SASL{Mechanism: OAuthBearer, TokenFile: file, TokenExtensions: map[string]string{"logicalCluster": "lkc-1", "identityPoolId": "pool-1"}},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			dialled.Add(1)
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}}
	b.roundTrip(t, c, topic)
	require.Positive(t, dialled.Load())
	eventually(t, "every connection is authenticated, the coordinator's too", func() bool { return dialled.Load() == admitted.Load() })

	// The token is renewed: what is opened from now on takes the new one, through
	// the same Connection.
	valid.Store("second.token")
	var log bytes.Buffer
	err := b.refused(t, c, topic, slog.New(slog.NewTextHandler(&log, nil)))
	require.ErrorIs(t, err, kafka.SASLAuthenticationFailed)
	require.NotContains(t, err.Error()+log.String(), "first.token", "the broker's reason may quote the token")
	require.NoError(t, os.WriteFile(file, []byte("  second.token"), 0o600))
	b.roundTrip(t, c, topic)

	require.NoError(t, os.Remove(file))
	require.ErrorIs(t, b.refused(t, c, topic, nil), os.ErrNotExist)
	require.NoError(t, os.WriteFile(file, []byte("no token\x01auth=Bearer s3cret"), 0o600))
	err = b.refused(t, c, topic, nil)
	require.ErrorContains(t, err, "what was given is no token")
	require.NotContains(t, err.Error(), "s3cret")
}

func TestOAuthBearerFromCommand(t *testing.T) {
	b := fakeBroker(t)
	topic := b.topic(t, 1)
	b.authenticating(t, "OAUTHBEARER", func(said []byte) ([]byte, bool) {
		return nil, string(said) != "n,,\x01auth=Bearer s3cret\x01\x01"
	})
	with := func(timeout time.Duration, command ...string) Connection {
		return Connection{Brokers: b.addrs, SASL: &SASL{Mechanism: OAuthBearer, TokenCommand: command, TokenTimeout: timeout}}
	}
	b.roundTrip(t, with(0, "printf", " %s \n", "s3cret"), topic)

	began := time.Now()
	// The child of the shell keeps the pipe open when the shell has been ended.
	err := b.refused(t, with(50*time.Millisecond, "sh", "-c", "echo s3cret; sleep 20; true"), topic, nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotContains(t, err.Error(), "s3cret")
	require.Less(t, time.Since(began), 10*time.Second)
	err = b.refused(t, with(0, "sh", "-c", "echo s3cret; echo s3cret >&2; exit 3"), topic, nil)
	require.ErrorContains(t, err, "run sh: exit status 3")
	require.NotContains(t, err.Error(), "s3cret")
	err = b.refused(t, with(0, "yes", "s3cret"), topic, nil)
	require.ErrorContains(t, err, "run yes")
	require.NotContains(t, err.Error(), "s3cret")
	require.ErrorContains(t, b.refused(t, with(0, "no-such-program"), topic, nil), "no-such-program")
	require.ErrorContains(t, b.refused(t, with(0, "true"), topic, nil), "what was given is no token")
}

func TestSASLReportsFaults(t *testing.T) {
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	for want, s := range map[string]SASL{
		"PLAIN needs a user name and a password":                              {Mechanism: Plain, Username: "u"},
		"SCRAM-SHA-256 needs a user name and a password":                      {Mechanism: ScramSHA256, Password: "p"},
		"OAUTHBEARER needs a token file or a token command, and not both":     {Mechanism: OAuthBearer},
		"needs a token file or a token command, and not both":                 {Mechanism: OAuthBearer, TokenFile: "f", TokenCommand: []string{"c"}},
		`the token extension "auth" cannot be sent`:                           {Mechanism: OAuthBearer, TokenFile: "f", TokenExtensions: map[string]string{"auth": "x"}},
		`the token extension "a" cannot be sent`:                              {Mechanism: OAuthBearer, TokenFile: "f", TokenExtensions: map[string]string{"a": "\x01"}},
		"TokenTimeout cannot be negative":                                     {Mechanism: OAuthBearer, TokenFile: "f", TokenTimeout: -1},
		"AWS_MSK_IAM: no region given, and none in the environment":           {Mechanism: MSKIAM},
		"known: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER, AWS_MSK_IA": {Mechanism: "GSSAPI"},
	} {
		_, err := s.mechanism()
		require.ErrorContains(t, err, want)
	}
}

// signature is Amazon's signature, version 4, over what an AWS_MSK_IAM client
// claims to be, computed from the secret as the broker would.
//
// Source: AWS documentation, "Create a signed AWS API request"; the payload's
// fields from the README of aws-msk-iam-auth.
func signature(said map[string]string, secret string) string {
	query := url.Values{"Action": {said["action"]}, "X-Amz-Algorithm": {said["x-amz-algorithm"]}, "X-Amz-Credential": {said["x-amz-credential"]},
		"X-Amz-Date": {said["x-amz-date"]}, "X-Amz-Expires": {said["x-amz-expires"]}, "X-Amz-SignedHeaders": {said["x-amz-signedheaders"]}}
	if token := said["x-amz-security-token"]; token != "" {
		query.Set("X-Amz-Security-Token", token)
	}
	empty := sha256.Sum256(nil)
	request := "GET\n/\n" + strings.ReplaceAll(query.Encode(), "+", "%20") + "\nhost:" + said["host"] + "\n\nhost\n" + hex.EncodeToString(empty[:])
	hashed := sha256.Sum256([]byte(request))
	scope := strings.SplitN(said["x-amz-credential"], "/", 2)[1]
	text := "AWS4-HMAC-SHA256\n" + said["x-amz-date"] + "\n" + scope + "\n" + hex.EncodeToString(hashed[:])
	key := []byte("AWS4" + secret)
	for _, part := range append(strings.Split(scope, "/"), text) {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	return hex.EncodeToString(key)
}

func TestMSKIAM(t *testing.T) {
	b := fakeBroker(t)
	topic := b.topic(t, 1)
	secret := "made-up-" + b.name(t, "secret")
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	t.Setenv("AWS_SESSION_TOKEN", "session/+=")
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	var judged atomic.Value
	admitted := b.authenticating(t, "AWS_MSK_IAM", func(raw []byte) ([]byte, bool) {
		said := map[string]string{}
		if err := json.Unmarshal(raw, &said); err != nil {
			return nil, true
		}
		judged.Store(said)
		return []byte(`{"version":"2020_10_22","request-id":"1"}`), said["x-amz-signature"] != signature(said, secret)
	})
	good := Connection{Brokers: b.addrs, SASL: &SASL{Mechanism: MSKIAM, Region: "eu-west-1"}}
	b.roundTrip(t, good, topic)
	said := judged.Load().(map[string]string)
	require.Equal(t, "127.0.0.1", said["host"])
	require.Equal(t, "kafka-cluster:Connect", said["action"])
	require.Equal(t, "session/+=", said["x-amz-security-token"])
	require.Regexp(t, `^AKIAEXAMPLE/\d{8}/eu-west-1/kafka-cluster/aws4_request$`, said["x-amz-credential"])
	require.Zero(t, admitted.Load(), "this broker answers with a challenge")

	t.Setenv("AWS_SECRET_ACCESS_KEY", "another")
	err := b.refused(t, good, topic, nil)
	require.ErrorIs(t, err, kafka.SASLAuthenticationFailed)
	require.NotContains(t, err.Error(), "another")
}

// saslListener returns the address at which the real Kafka of kafka.sh asks for
// SASL.
func (b *broker) saslListener(t *testing.T) []string {
	t.Helper()
	client := &kafka.Client{Addr: kafka.TCP(b.addrs...), Timeout: 10 * time.Second, Transport: &kafka.Transport{}}
	defer client.Transport.(*kafka.Transport).CloseIdleConnections()
	res, err := client.DescribeConfigs(t.Context(), &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{
		{ResourceType: kafka.ResourceTypeBroker, ResourceName: "1", ConfigNames: []string{"advertised.listeners"}}}})
	require.NoError(t, err)
	for _, r := range res.Resources {
		for _, e := range r.ConfigEntries {
			for _, l := range strings.Split(e.ConfigValue, ",") {
				if address, ok := strings.CutPrefix(l, "SASL://"); ok {
					return []string{address}
				}
			}
		}
	}
	if os.Getenv("CI") == "true" {
		require.FailNow(t, "the broker has no SASL listener: start it with make kafka")
	}
	t.Skip("NOT RUN: the broker has no SASL listener (make kafka starts one that has)")
	return nil
}

func TestSASLOnKafka(t *testing.T) {
	b := &broker{addrs: kafkatest.Real(t)}
	listener := b.saslListener(t)
	topic := b.topic(t, 2)
	// jwt is a token without a signature, which this broker takes.
	jwt := func(lifetime time.Duration) string {
		part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
		now := time.Now()
		return part(`{"alg":"none"}`) + "." + part(fmt.Sprintf(`{"sub":"tester","iat":%d,"exp":%d}`, now.Unix()-60, now.Add(lifetime).Unix())) + "."
	}
	good := map[Mechanism]SASL{
		Plain:       {Username: "tester", Password: "for-tests-only"},
		ScramSHA512: {Username: "tester", Password: "for-tests-only"},
		OAuthBearer: {TokenCommand: []string{"echo", jwt(time.Hour)}},
	}
	bad := map[Mechanism]SASL{
		Plain:       {Username: "tester", Password: "guess"},
		ScramSHA512: {Username: "tester", Password: "guess"},
		OAuthBearer: {TokenCommand: []string{"echo", jwt(-time.Second)}},
	}
	for mechanism := range good {
		t.Run(string(mechanism), func(t *testing.T) {
			s := good[mechanism]
			s.Mechanism = mechanism
			b.roundTrip(t, Connection{Brokers: listener, SASL: &s}, topic)
			s = bad[mechanism]
			s.Mechanism = mechanism
			err := b.refused(t, Connection{Brokers: listener, SASL: &s}, topic, nil)
			require.ErrorIs(t, err, kafka.SASLAuthenticationFailed)
		})
	}
	t.Run("none", func(t *testing.T) {
		require.NotErrorIs(t, b.refused(t, Connection{Brokers: listener}, topic, nil), kafka.SASLAuthenticationFailed)
	})
	t.Run("a token that runs out", func(t *testing.T) {
		// The broker hangs up when the token of a connection has run out; that must
		// cost nothing but another connection, with another token.
		file := filepath.Join(t.TempDir(), "token")
		require.NoError(t, os.WriteFile(file, []byte(jwt(2*time.Second)), 0o600))
		c := Connection{Brokers: listener, SASL: &SASL{Mechanism: OAuthBearer, TokenFile: file}}
		p := b.producer(t, func(cfg *ProducerConfig) { cfg.Connection = c; cfg.Logger = nil })
		s := b.subscriber(t, b.name(t, "group"), func(cfg *SubscriberConfig) { cfg.Connection = c; cfg.StartAt = Latest; cfg.Logger = nil })
		messages := subscribe(t, s, topic)
		eventually(t, "joined", func() bool { return s.Stats().Generations > 0 && s.Stats().Commits > 0 })
		require.NoError(t, os.WriteFile(file, []byte(jwt(time.Hour)), 0o600))
		for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
			require.NoError(t, p.Produce(t.Context(), []pipeline.Output{{Topic: topic, Value: []byte("v")}}))
			collect(t, messages, 1)
			time.Sleep(20 * time.Millisecond)
		}
	})
}
