package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sortition/internal/emulator"
	"sortition/internal/sample"
	"sortition/odp"
)

// segmentDatafile has one flag for users in the segment vip, off for all others.
const segmentDatafile = `{"version":"4","projectId":"1","accountId":"2","revision":"3","sdkKey":"k","anonymizeIP":true,"sendFlagDecisions":true,
"featureFlags":[{"id":"10","key":"lounge","experimentIds":["20"],"rolloutId":"","variables":[]}],
"experiments":[{"id":"20","key":"lounge_test","layerId":"21","status":"Running","audienceIds":["30"],"audienceConditions":["or","30"],"forcedVariations":{},
 "variations":[{"id":"40","key":"open","featureEnabled":true,"variables":[]}],"trafficAllocation":[{"entityId":"40","endOfRange":10000}]}],
"rollouts":[],"groups":[],"attributes":[],"events":[],"audiences":[],
"typedAudiences":[{"id":"30","name":"vips","conditions":["and",["or",["or",{"name":"odp.audiences","type":"third_party_dimension","match":"qualified","value":"vip"}]]]}],
"integrations":[{"key":"odp","host":"HOST","publicKey":"pk"}]}`

// A lounge is a folder with that datafile and an emulated ODP.
type lounge struct {
	em       *emulator.Server
	datafile string
	dir      string
}

func newLounge(tb testing.TB) *lounge {
	tb.Helper()
	l := &lounge{em: emulator.Start(tb, emulator.Options{ODPKey: "pk", Seed: 7}), dir: tb.TempDir()}
	l.datafile = filepath.Join(l.dir, "d.json")
	require.NoError(tb, os.WriteFile(l.datafile, []byte(strings.Replace(segmentDatafile, "HOST", l.em.URLs().ODP, 1)), 0o666))
	return l
}

type loungeRecord struct {
	UserID        string   `json:"user_id"`
	Segments      []string `json:"segments"`
	SegmentsError string   `json:"segments_error"`
	Decisions     []struct{ Enabled bool }
}

// assign runs the command on lines, and returns the records and what it told.
func (l *lounge) assign(t *testing.T, lines string, change func(*assignCmd)) (records []loungeRecord, told string, err error) {
	t.Helper()
	in, out := filepath.Join(l.dir, "in.ndjson"), filepath.Join(l.dir, "out.ndjson")
	require.NoError(t, os.WriteFile(in, []byte(lines), 0o666))
	c := &assignCmd{Datafile: l.datafile, Input: []string{in}, Output: out, Stream: "s", Workers: 3}
	c.ODP, c.ODPUserKey, c.ODPConcurrency, c.ODPCacheSize, c.ODPPolicy = true, odp.FSUserID, 8, 1000, "unknown"
	if change != nil {
		change(c)
	}
	errFile, err := os.Create(filepath.Join(l.dir, "stderr"))
	require.NoError(t, err)
	defer errFile.Close()
	err = c.Run(context.Background(), stdio{os.Stdin, os.Stdout, errFile})
	text, readErr := os.ReadFile(errFile.Name())
	require.NoError(t, readErr)
	if data, readErr := os.ReadFile(out); readErr == nil {
		for _, line := range bytes.Split(bytes.TrimSpace(data), []byte("\n")) {
			var r loungeRecord
			require.NoError(t, json.Unmarshal(line, &r))
			records = append(records, r)
		}
	}
	return records, string(text), err
}

// The emulator's table and its seeded rule are the truth; the records agree with it,
// the same for any number of workers.
func TestAssignODP(t *testing.T) {
	l := newLounge(t)
	require.NoError(t, l.em.SetSegmentRule(emulator.SegmentRule{Fraction: 0.3}))
	require.NoError(t, l.em.SetSegments("in", "vip"))
	require.NoError(t, l.em.SetSegments("out"))
	require.NoError(t, l.em.SetUnknown("stranger"))
	var lines strings.Builder
	lines.WriteString(`{"user_id":"in"}` + "\n" + `{"user_id":"out"}` + "\n" + `{"user_id":"stranger"}` + "\n" +
		`{"user_id":"out","segments":["vip"]}` + "\n" + `{"user_id":"in","segments":[]}` + "\n" + `{"user_id":"in","segments":null}` + "\n")
	for i := range 1500 {
		fmt.Fprintf(&lines, "{\"user_id\":\"u-%d\"}\n", i%500)
	}
	records, told, err := l.assign(t, lines.String(), nil)
	require.NoError(t, err)
	require.Len(t, records, 1506)
	for i, want := range []struct {
		on       bool
		segments []string
		err      string
	}{{true, []string{"vip"}, ""}, {false, []string{}, ""}, {false, nil, "invalid_identifier"}, {true, []string{"vip"}, ""}, {false, []string{}, ""}, {true, []string{"vip"}, ""}} {
		r := records[i]
		require.Equal(t, want.on, r.Decisions[0].Enabled, "%d", i)
		require.Equal(t, want.segments, r.Segments, "%d", i)
		require.Equal(t, want.err, r.SegmentsError, "%d", i)
	}
	on := 0
	for i, r := range records[6:] {
		require.Equal(t, records[6+i%500].Segments, r.Segments)
		require.Equal(t, len(r.Segments) == 1, r.Decisions[0].Enabled)
		if i < 500 && r.Decisions[0].Enabled {
			on++
		}
	}
	require.InDelta(t, 150, on, 50)
	require.Len(t, l.em.Attempts("/v3/graphql"), 503, "each user once")
	require.Contains(t, told, "segments  1,503 activities known, with 503 requests\n")
	require.Contains(t, told, "1 activity unknown: invalid_identifier 1\n")

	again, _, err := l.assign(t, lines.String(), func(c *assignCmd) { c.Workers = 1 })
	require.NoError(t, err)
	require.Equal(t, records, again)
	without, _, err := l.assign(t, lines.String(), func(c *assignCmd) { c.ODP = false })
	require.NoError(t, err)
	require.Nil(t, without[0].Segments)
	require.Empty(t, without[0].SegmentsError)
	require.True(t, without[3].Decisions[0].Enabled)
}

// Each policy, with an ODP that fails.
func TestAssignODPPolicies(t *testing.T) {
	l := newLounge(t)
	require.NoError(t, l.em.SetSegments("in", "vip"))
	lines := `{"user_id":"in"}` + "\n" + `{"user_id":"in2","segments":["vip"]}` + "\n"
	id, err := l.em.AddFault(emulator.Fault{Route: "/v3/graphql", Status: 503})
	require.NoError(t, err)
	records, told, err := l.assign(t, lines, nil)
	require.NoError(t, err)
	require.Equal(t, "http_error", records[0].SegmentsError)
	require.Contains(t, told, "http_error 1")

	rejects := filepath.Join(l.dir, "rejects")
	records, told, err = l.assign(t, lines, func(c *assignCmd) { c.ODPPolicy, c.Rejects = "dead_letter", rejects })
	require.ErrorIs(t, err, errRejected)
	require.Len(t, records, 1)
	require.Contains(t, told, "segments_unavailable 1")
	text, err := os.ReadFile(rejects)
	require.NoError(t, err)
	require.Contains(t, string(text), `"code":"segments_unavailable","detail":"http_error"`)

	time.AfterFunc(time.Second, func() { l.em.RemoveFault(id) })
	records, _, err = l.assign(t, lines, func(c *assignCmd) { c.ODPPolicy = "hold" })
	require.NoError(t, err)
	require.Equal(t, []string{"vip"}, records[0].Segments)
}

// Other identifiers come from the activity.
func TestAssignODPUserKey(t *testing.T) {
	l := newLounge(t)
	require.NoError(t, l.em.SetSegments("vuid_1", "vip"))
	records, _, err := l.assign(t, `{"user_id":"a","identifiers":{"vuid":"vuid_1"}}`+"\n"+`{"user_id":"vuid_1"}`+"\n", func(c *assignCmd) { c.ODPUserKey = odp.VUID })
	require.NoError(t, err)
	require.Equal(t, []string{"vip"}, records[0].Segments)
	require.Equal(t, "invalid_identifier", records[1].SegmentsError)
	require.Contains(t, string(l.em.Attempts("/v3/graphql")[0].Body), "customer(vuid:$userId)")

	// An activity may name its fs_user_id beside its user_id. CSV has no identifiers.
	records, _, err = l.assign(t, `{"user_id":"a","identifiers":{"fs_user_id":"vuid_1"}}`+"\n"+`{"user_id":"a","identifiers":{"fs_user_id":null}}`+"\n", nil)
	require.NoError(t, err)
	require.Equal(t, []string{"vip"}, records[0].Segments)
	require.Empty(t, records[1].Segments)
	records, _, err = l.assign(t, "user_id,plan\na,pro\nvuid_1,free\n", func(c *assignCmd) { c.InputFormat = "csv" })
	require.NoError(t, err)
	require.Empty(t, records[0].Segments)
	require.Equal(t, []string{"vip"}, records[1].Segments)
}

func TestAssignODPUsage(t *testing.T) {
	l := newLounge(t)
	for want, change := range map[string]func(*assignCmd){
		"--odp-policy":    func(c *assignCmd) { c.ODPPolicy = "never" },
		"for streams":     func(c *assignCmd) { c.ODPPolicy = "stale" },
		"in flight":       func(c *assignCmd) { c.ODPConcurrency = 0 },
		"user key":        func(c *assignCmd) { c.ODPUserKey = "a b" },
		"not integrated":  func(c *assignCmd) { c.Datafile = l.apart(t) },
		"no such file or": func(c *assignCmd) { c.Datafile = "nowhere.json" },
	} {
		_, _, err := l.assign(t, "", change)
		require.ErrorContains(t, err, want)
	}
	// No audience asks: nothing is fetched.
	plain := filepath.Join(l.dir, "plain.json")
	text := strings.Replace(strings.Replace(segmentDatafile, "HOST", l.em.URLs().ODP, 1), `"qualified"`, `"exists"`, 1)
	require.NoError(t, os.WriteFile(plain, []byte(text), 0o666))
	_, _, err := l.assign(t, `{"user_id":"a"}`+"\n", func(c *assignCmd) { c.Datafile = plain })
	require.NoError(t, err)
	require.Empty(t, l.em.Attempts("/v3/graphql"))
}

func (l *lounge) apart(t *testing.T) string {
	t.Helper()
	path := filepath.Join(l.dir, "apart.json")
	text := strings.Replace(segmentDatafile, `"key":"odp"`, `"key":"other"`, 1)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o666))
	return path
}

// BenchmarkAssignODP holds the rate of a run whose users are in the cache 99 times in 100
// against that of one without ODP: with one flag decided, with ten, as many as the sample
// has, and with sixty. ODP is an emulator in another process. The run has one processor
// and leaves the emulator another, as if ODP were elsewhere. Runs take turns, and each
// metric is the median of the turns (-benchtime 9x). Floor of x-without: 0.7.
func BenchmarkAssignODP(b *testing.B) {
	l := newLounge(b)
	for _, datafile := range []struct {
		name string
		path string
	}{{"1flag", l.datafile}, {"10flags", l.large(b, 10)}, {"60flags", l.large(b, 60)}} {
		b.Run(datafile.name, func(b *testing.B) { l.bench(b, datafile.path) })
	}
}

// large is a datafile of so many flags with the lounge's integration and audience.
func (l *lounge) large(b *testing.B, flags int) string {
	b.Helper()
	var large, small map[string]any
	require.NoError(b, json.Unmarshal(sample.Datafile(1, flags), &large))
	text, err := os.ReadFile(l.datafile)
	require.NoError(b, err)
	require.NoError(b, json.Unmarshal(text, &small))
	large["integrations"] = small["integrations"]
	typed, _ := large["typedAudiences"].([]any)
	large["typedAudiences"] = append(typed, small["typedAudiences"].([]any)...)
	text, err = json.Marshal(large)
	require.NoError(b, err)
	path := filepath.Join(l.dir, fmt.Sprintf("large%d.json", flags))
	require.NoError(b, os.WriteFile(path, text, 0o666))
	return path
}

func (l *lounge) bench(b *testing.B, datafile string) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const activities = 500_000
	path, lines := benchActivities(b, activities)
	var text bytes.Buffer
	for i, line := range lines {
		// Each two-hundredth is a new user, the others are 500: 99 % are hits.
		var m map[string]json.RawMessage
		require.NoError(b, json.Unmarshal(line, &m))
		user := fmt.Sprintf(`"u-%d"`, i%500)
		if i%200 == 0 {
			user = fmt.Sprintf(`"new-%d"`, i)
		}
		m["user_id"] = json.RawMessage(user)
		delete(m, "segments")
		line, err := json.Marshal(m)
		require.NoError(b, err)
		text.Write(append(line, '\n'))
	}
	require.NoError(b, os.WriteFile(path, text.Bytes(), 0o666))
	cloud := startEmulator(b, "--datafile", datafile)
	defer cloud.end(b, os.Interrupt)
	run := func(withODP bool) time.Duration {
		c := &assignCmd{Datafile: datafile, Input: []string{path}, Output: os.DevNull, Stream: "bench", Quiet: true}
		c.ODP, c.ODPUserKey, c.ODPConcurrency, c.ODPCacheSize, c.ODPPolicy = withODP, odp.FSUserID, 64, 100_000, "unknown"
		c.ODPHost = cloud.urls.ODP
		start := time.Now()
		require.NoError(b, c.Run(context.Background(), stdio{os.Stdin, os.Stdout, os.Stderr}))
		return time.Since(start)
	}
	run(false)
	var rates, ratios []float64
	for b.Loop() {
		with, without := run(true), run(false)
		rates = append(rates, activities/with.Seconds())
		ratios = append(ratios, without.Seconds()/with.Seconds())
	}
	median := func(of []float64) float64 { slices.Sort(of); return of[len(of)/2] }
	b.ReportMetric(median(rates), "activities/s")
	b.ReportMetric(median(ratios), "x-without")
	b.ReportMetric(0, "ns/op")
}

// What a run can't do is known before its outbox is opened: else that would stay open,
// and what an earlier run left in it be on its way with nobody to account for it.
func TestAssignODPNotIntegrated(t *testing.T) {
	l := newLounge(t)
	without, _, ok := strings.Cut(segmentDatafile, `"integrations"`)
	require.True(t, ok)
	require.NoError(t, os.WriteFile(l.datafile, []byte(without+`"integrations":[]}`), 0o666))
	outbox := filepath.Join(l.dir, "outbox")
	_, _, err := l.assign(t, `{"user_id":"u"}`, func(c *assignCmd) {
		c.Deliver, c.Outbox, c.Endpoint = true, outbox, l.em.URLs().Events
	})
	require.ErrorIs(t, err, odp.ErrNotIntegrated)
	require.NoDirExists(t, outbox)
}
