package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"sortition/examples"
	"sortition/internal/emulator"
	"sortition/internal/kafkatest"
)

const connectPassword = "hunter2"

// connectRig is all that a stream talks to, in order.
type connectRig struct {
	broker, cloud, redis string
	emulator             *emulator.Server
	mini                 *miniredis.Miniredis
	folder, caFile       string
	config               map[string]string // lines of the configuration by what they are for
}

func newConnectRig(t *testing.T) *connectRig {
	t.Helper()
	r := &connectRig{folder: t.TempDir()}
	// A certificate for 127.0.0.1, from the standard library's own tests.
	server := quietTLS()
	certificate := server.TLS.Certificates[0]
	r.caFile = filepath.Join(r.folder, "ca.pem")
	require.NoError(t, os.WriteFile(r.caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	server.Close()
	topics := make([]kafkatest.Topic, 0, 5)
	for _, name := range []string{"activities", "decisions", "events", "odp-events", "dead-letters"} {
		topics = append(topics, kafkatest.Topic{Name: name, Partitions: 2})
	}
	cluster := kafkatest.Fake(t, topics, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}),
		kfake.EnableSASL(), kfake.Superuser("PLAIN", "me", connectPassword))
	r.broker = cluster.Addrs()[0]
	r.mini = miniredis.RunT(t)
	r.mini.RequireAuth(connectPassword)
	r.redis = r.mini.Addr()
	r.emulator = emulator.Start(t, emulator.Options{Token: "token-" + connectPassword})
	r.cloud = r.emulator.URL()
	raw, err := emulator.PointODP(examples.Datafile(), r.cloud)
	require.NoError(t, err)
	require.NoError(t, r.emulator.SeedDatafile("key-"+connectPassword, raw))
	r.config = map[string]string{
		"brokers":     fmt.Sprintf(`brokers: ["%s"]`, r.broker),
		"tls":         fmt.Sprintf("tls: {ca_file: %s}", r.caFile),
		"sasl":        "sasl: {mechanism: PLAIN, username: me, password: " + connectPassword + "}",
		"topics":      "{}",
		"key":         "key-" + connectPassword,
		"token":       "token-" + connectPassword,
		"template":    r.cloud + "/datafiles/auth/{sdk_key}.json",
		"events":      r.cloud + "/v1/events",
		"predictions": r.cloud + "/predict/{}",
		"odp":         "{}",
		"segments":    "", // the datafile's
		"redis":       fmt.Sprintf("{address: %q, password: %s}", r.redis, connectPassword),
	}
	return r
}

// quietTLS is a server that doesn't log what clients think of its certificate.
func quietTLS() *httptest.Server {
	s := httptest.NewUnstartedServer(nil)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	return s
}

// check runs `check --connect` with some lines of the configuration replaced, and
// returns what was tried by name.
func (r *connectRig) check(t *testing.T, timeout time.Duration, replaced ...string) (configReport, error) {
	t.Helper()
	line := map[string]string{}
	for name, text := range r.config {
		line[name] = text
	}
	for i := 0; i < len(replaced); i += 2 {
		require.Contains(t, line, replaced[i])
		line[replaced[i]] = replaced[i+1]
	}
	path := filepath.Join(r.folder, "sortition.yaml")
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, `
kafka:
  %s
  %s
  %s
topics: %s
datafile: {sdk_key: "%s", access_token: "%s", url_template: "%s", cache_file: cache.json, archive: archive}
segments: {fetch: true, cache: redis, host: "%s"}
predictions: {fetch: true, endpoint: "%s"}
deliver: {events: {endpoint: "%s"}, odp: %s}
redis: %s
`, line["brokers"], line["tls"], line["sasl"], line["topics"], line["key"], line["token"], line["template"], line["segments"], line["predictions"],
		line["events"], line["odp"], line["redis"]), 0o600))
	out, err := os.Create(filepath.Join(r.folder, "out"))
	require.NoError(t, err)
	defer out.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	failed := (&checkCmd{Config: path, Connect: true, Timeout: timeout, JSON: true}).Run(ctx, stdio{nil, out, out})
	text, err := os.ReadFile(out.Name())
	require.NoError(t, err)
	require.NotContains(t, string(text), connectPassword, "no secret is shown")
	var report configReport
	require.NoError(t, json.Unmarshal(text, &report), "%s", text)
	var shown strings.Builder
	writeAttempts(&shown, report.Tried)
	t.Log(shown.String())
	for _, kept := range []string{"cache.json", "archive"} {
		require.NoFileExists(t, filepath.Join(r.folder, kept))
		require.NoDirExists(t, filepath.Join(r.folder, kept))
	}
	return report, failed
}

func TestCheckConnect(t *testing.T) {
	r := newConnectRig(t)
	report, err := r.check(t, patience)
	require.NoError(t, err)
	require.True(t, report.IsValid)
	var names []string
	for _, a := range report.Tried {
		require.True(t, a.OK, "%+v", a)
		require.NotZero(t, a.TookMS)
		names = append(names, a.What)
	}
	slices.Sort(names)
	require.Equal(t, []string{
		"broker", "datafile", "events", "group", "group", "group", "predictions", "redis", "segments", "topic", "topic", "topic", "topic", "topic",
	}, names)
	require.NotNil(t, report.Datafile)
	require.Equal(t, "42", report.Datafile.Summary.Revision)

	// Nothing was changed.
	counts := r.emulator.Counts()
	require.Zero(t, counts.Visitors)
	require.Empty(t, counts.Problems)
	require.Zero(t, counts.ODPEvents)
	require.Empty(t, r.mini.Keys())
}

// Each thing is broken in turn; it is named with what to do, and the others are well.
func TestCheckConnectNamesWhatIsBroken(t *testing.T) {
	r := newConnectRig(t)
	// Some of these end with it; others need a while on a machine with other work, to read
	// the system's certificates.
	const slow = 3 * time.Second
	other := quietTLS()
	defer other.Close()
	for _, c := range []struct {
		name     string
		replaced []string
		broken   string // what, and anything about the rest
		result   string
		advice   string
		faults   []emulator.Fault
		timeout  time.Duration
	}{
		{
			name: "a bootstrap broker", replaced: []string{"brokers", fmt.Sprintf(`brokers: ["%s", "127.0.0.1:1"]`, r.broker)},
			broken: "broker 127.0.0.1:1", result: "refused", advice: "nothing listens",
		},
		{name: "no TLS", replaced: []string{"tls", ""}, broken: "broker topic group", advice: "it may want TLS", timeout: slow},
		{name: "authority", replaced: []string{"tls", "tls: {}"}, broken: "broker topic group", result: "unknown authority", advice: "authority isn't trusted", timeout: slow},
		{name: "server name", replaced: []string{"tls", fmt.Sprintf("tls: {ca_file: %s, server_name: kafka.test}", r.caFile)}, broken: "broker topic group", advice: "another name", timeout: slow},
		{
			name: "password", replaced: []string{"sasl", "sasl: {mechanism: PLAIN, username: me, password: no-" + connectPassword + "}"},
			broken: "broker topic group", advice: "credentials are refused", timeout: slow,
		},
		{name: "mechanism", replaced: []string{"sasl", "sasl: {mechanism: SCRAM-SHA-512, username: nobody, password: " + connectPassword + "}"}, broken: "broker topic group", timeout: slow},
		{name: "topic", replaced: []string{"topics", "{decisions: elsewhere}"}, broken: "topic elsewhere", result: "does not exist", advice: "create the topic"},
		{name: "datafile's key", replaced: []string{"key", "wrong"}, broken: "datafile ODP", advice: "datafile.sdk_key"},
		{name: "datafile's token", replaced: []string{"token", "wrong"}, broken: "datafile ODP", advice: "access_token"},
		{name: "datafile's address", replaced: []string{"template", "http://127.0.0.1:1/{sdk_key}"}, broken: "datafile ODP", result: "refused", advice: "nothing listens"},
		{name: "event endpoint", replaced: []string{"events", "http://127.0.0.1:1/"}, broken: "events", result: "refused", advice: "nothing listens"},
		{name: "event endpoint's TLS", replaced: []string{"events", other.URL}, broken: "events", advice: "authority isn't trusted"},
		{name: "no TLS at the event endpoint", replaced: []string{"events", strings.Replace(r.cloud, "http:", "https:", 1)}, broken: "events", advice: ""},
		{name: "event endpoint down", faults: []emulator.Fault{{Route: "/v1/events", Status: 503}}, broken: "events", result: "503", advice: "not well"},
		{name: "event endpoint hangs", faults: []emulator.Fault{{Route: "/v1/events", Hang: true}}, broken: "events", result: "no answer within 2s", advice: "firewall", timeout: 2 * time.Second},
		{name: "ODP's key", replaced: []string{"odp", fmt.Sprintf("{endpoint: %q, public_key: wrong}", r.cloud)}, broken: "ODP", advice: "the key is wrong"},
		{name: "segments' host", replaced: []string{"segments", "http://127.0.0.1:1"}, broken: "segments", result: "refused"},
		{name: "predictions", replaced: []string{"predictions", "http://127.0.0.1:1/{}"}, broken: "predictions", result: "refused", advice: "nothing listens"},
		{name: "Redis", replaced: []string{"redis", `{address: "127.0.0.1:1"}`}, broken: "redis", result: "refused", advice: "nothing listens"},
		{name: "Redis' password", replaced: []string{"redis", fmt.Sprintf("{address: %q}", r.redis)}, broken: "redis", advice: "redis.password"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.timeout == 0 {
				c.timeout = patience
			}
			for _, f := range c.faults {
				_, err := r.emulator.AddFault(f)
				require.NoError(t, err)
			}
			defer r.emulator.ClearFaults()
			report, err := r.check(t, c.timeout, c.replaced...)
			require.ErrorIs(t, err, errShown)
			require.False(t, report.IsValid)
			kinds := strings.Fields(c.broken)
			isKind := len(kinds) > 1 && strings.ContainsAny(kinds[1], ".:") || c.broken == "topic elsewhere"
			first := true
			for _, a := range report.Tried {
				isMeant := slices.Contains(kinds, a.What)
				if isKind {
					isMeant = a.What == kinds[0] && a.Target == kinds[1]
				}
				if !isMeant {
					require.True(t, a.OK || a.What == "segments" && slices.Contains(kinds, "datafile"), "%+v", a)
					continue
				}
				require.False(t, a.OK, "%+v", a)
				if first {
					require.Contains(t, a.Result, c.result)
					require.Contains(t, a.Advice, c.advice)
					first = false
				}
			}
			require.False(t, first && !slices.Contains(kinds, "datafile"))
		})
	}
}

// Dead letters must fit where what they come from fits; topics that the stream will
// create may be missing.
func TestCheckConnectTopics(t *testing.T) {
	onBrokers(t, func(t *testing.T, addrs []string) {
		name := fmt.Sprintf("check-%d", time.Now().UnixNano())
		require.NoError(t, kafkatest.CreateTopic(t.Context(), addrs, kafkatest.Topic{Name: name + "-in", Partitions: 3}, "max.message.bytes", "3000000"))
		require.NoError(t, kafkatest.CreateTopic(t.Context(), addrs, kafkatest.Topic{Name: name + "-letters", Partitions: 1}, "max.message.bytes", "2000000"))
		path := filepath.Join(t.TempDir(), "sortition.yaml")
		datafile, err := filepath.Abs(filepath.Join("..", "..", "examples", "datafile.json"))
		require.NoError(t, err)
		letters := "-letters"
		check := func(create string) (text string, failed error) {
			require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, `
kafka: {brokers: ["%s"], group: "%s"}
handlers: [assign]
datafile: {path: "%s"}
topics: {activities: %[2]s-in, decisions: %[2]s-decisions, events: %[2]s-events, odp_events: "", dead_letters: %[2]s%[5]s%[4]s}
`, addrs[0], name, datafile, create, letters), 0o600))
			out, err := os.Create(filepath.Join(t.TempDir(), "out"))
			require.NoError(t, err)
			defer out.Close()
			failed = (&checkCmd{Config: path, Connect: true, Timeout: patience}).Run(t.Context(), stdio{nil, out, out})
			raw, err := os.ReadFile(out.Name())
			require.NoError(t, err)
			return string(bytes.TrimSpace(raw)), failed
		}
		text, failed := check("")
		require.ErrorIs(t, failed, errShown)
		require.Contains(t, text, "takes records up to 2,000,000 bytes, and "+name+"-in up to 3,000,000")
		require.Contains(t, text, "3 of 6 failed")
		text, failed = check(", create: {}")
		require.ErrorIs(t, failed, errShown)
		require.Contains(t, text, "not there yet: the stream will create it")
		require.Contains(t, text, "1 of 6 failed")
		require.NoError(t, kafkatest.CreateTopic(t.Context(), addrs, kafkatest.Topic{Name: name + "-large", Partitions: 1}, "max.message.bytes", "3004096"))
		letters = "-large"
		text, failed = check(", create: {}")
		require.NoError(t, failed, text)
		require.Contains(t, text, "records up to 3,004,096 bytes")
		require.Contains(t, text, "all 6 answer as they should")
	})
}
