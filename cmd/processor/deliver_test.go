package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sortition/internal/emulator"
	"sortition/internal/sample"
	"sortition/sinks"
)

// A mailing is a folder with a datafile and activities, and an emulator.
type mailing struct {
	dir string
	em  *emulator.Server
}

func newMailing(t *testing.T, activities int) *mailing {
	t.Helper()
	m := &mailing{dir: t.TempDir(), em: emulator.Start(t, emulator.Options{MaxAttempts: 1 << 20, MaxBytes: 1 << 30, MaxUUIDs: 1 << 22})}
	writeShop(t, m.dir)
	options := sample.DefaultOptions()
	options.Bad = 0
	g := sample.NewGenerator(1, options)
	var lines []byte
	for range activities {
		lines = append(g.AppendNext(lines), '\n')
	}
	require.NoError(t, os.WriteFile(filepath.Join(m.dir, "a.ndjson"), lines, 0o666))
	require.NoError(t, os.WriteFile(filepath.Join(m.dir, "empty.ndjson"), nil, 0o666))
	return m
}

// args are those of a run that delivers.
func (m *mailing) args(input string, more ...string) []string {
	return append([]string{
		"assign", "--datafile", "shop.json", "-i", input, "-o", "d.ndjson", "--now", "1767225600000",
		"--deliver", "--outbox", "outbox", "--endpoint", m.em.URLs().Events,
	}, more...)
}

// made are the event bodies of a run, as --events writes them.
func (m *mailing) made(t *testing.T, input string, more ...string) []string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "e.ndjson")
	stderr, code := processor(t, m.dir, append([]string{
		"assign", "--datafile", "shop.json", "-i", input, "-o", os.DevNull, "--now", "1767225600000", "--events", name,
	}, more...)...)
	require.Equal(t, exitDone, code, stderr)
	return linesOf(t, name)
}

func linesOf(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	if len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// received counts the bodies that took effect.
func (m *mailing) received() map[string]int {
	got := map[string]int{}
	for _, a := range m.em.Received() {
		got[string(a.Body)]++
	}
	return got
}

// account opens the outbox between runs.
func (m *mailing) account(t *testing.T) sinks.Account {
	t.Helper()
	o, err := sinks.OpenOutbox(filepath.Join(m.dir, "outbox"), sinks.OutboxOptions{})
	require.NoError(t, err)
	defer func() { require.NoError(t, o.Close()) }()
	return o.Account()
}

func visitorsIn(t *testing.T, bodies []string) (n int) {
	t.Helper()
	for _, b := range bodies {
		visitors, ok := sinks.CountVisitors([]byte(b))
		require.True(t, ok)
		n += visitors
	}
	return n
}

func TestDeliver(t *testing.T) {
	m := newMailing(t, 200)
	want := m.made(t, "a.ndjson")
	require.Greater(t, len(want), 20)
	stderr, code := processor(t, m.dir, m.args("a.ndjson", "--events", "e.ndjson")...)
	require.Equal(t, exitDone, code, stderr)
	require.Equal(t, want, linesOf(t, filepath.Join(m.dir, "e.ndjson")))
	got := m.received()
	require.Len(t, got, len(want))
	for _, body := range want {
		require.Equal(t, 1, got[body])
	}
	for _, a := range m.em.Received() {
		for _, p := range a.Problems { // a conversion may well be from before the first decision
			require.NotEqual(t, sinks.SeverityError, p.Severity, "%v", p)
		}
		require.Equal(t, "sortition/"+version, a.Header.Get("User-Agent"))
	}
	events := count(int64(visitorsIn(t, want)), "event", "events") + " in " + count(int64(len(want)), "body", "bodies")
	require.Contains(t, stderr, "made      "+events+"\n")
	require.Contains(t, stderr, "delivered "+events+"\n")
	require.NotContains(t, stderr, "refused")
	require.NotContains(t, stderr, "pending")
}

// What is refused is kept with its reason, and the rest arrives.
func TestDeliverRefused(t *testing.T) {
	m := newMailing(t, 50)
	want := m.made(t, "a.ndjson")
	_, err := m.em.AddFault(emulator.Fault{Route: "/v1/events", Status: 403, Times: 2})
	require.NoError(t, err)
	stderr, code := processor(t, m.dir, m.args("a.ndjson")...)
	require.Equal(t, exitRejected, code, stderr)
	require.Contains(t, stderr, "status 403 Forbidden")
	require.Contains(t, stderr, "refused ")
	require.Len(t, m.received(), len(want)-2)
	require.Len(t, linesOf(t, filepath.Join(m.dir, "outbox", sinks.RefusedFile)), 2)
	a := m.account(t)
	require.EqualValues(t, len(want), a.Appended.Batches)
	require.EqualValues(t, 2, a.Refused.Batches)
	require.Zero(t, a.Pending)
}

// An endpoint that is down: the run ends after a while, says so, and the next
// one, with nothing of its own, sends everything.
func TestDeliverLater(t *testing.T) {
	m := newMailing(t, 50)
	want := m.made(t, "a.ndjson")
	_, err := m.em.AddFault(emulator.Fault{Route: "/v1/events", Status: 503})
	require.NoError(t, err)
	stderr, code := processor(t, m.dir, m.args("a.ndjson", "--patience", "300ms", "--quiet")...)
	require.Equal(t, exitFailed, code)
	events := count(int64(visitorsIn(t, want)), "event is", "events are")
	require.Equal(t, "processor: nothing can be delivered: "+events+" in the outbox\n", stderr)
	require.FileExists(t, filepath.Join(m.dir, "d.ndjson"), "the decisions are there all the same")
	require.Empty(t, m.received())

	m.em.ClearFaults()
	stderr, code = processor(t, m.dir, m.args("empty.ndjson")...)
	require.Equal(t, exitDone, code, stderr)
	require.Contains(t, stderr, "made      0 events in 0 bodies\n")
	require.Contains(t, stderr, "earlier   "+count(int64(visitorsIn(t, want)), "event", "events"))
	require.Contains(t, stderr, "delivered "+count(int64(visitorsIn(t, want)), "event", "events"))
	got := m.received()
	require.Len(t, got, len(want))
	for _, body := range want {
		require.Equal(t, 1, got[body])
	}
}

// The endpoint of the datafile's region is used if no other is given: here by
// running through a proxy that refuses, so nothing leaves this machine.
func TestDeliverRegion(t *testing.T) {
	m := newMailing(t, 5)
	t.Setenv("HTTPS_PROXY", strings.TrimSuffix(m.em.URL(), "/"))
	_, code := processor(t, m.dir, "assign", "--datafile", "shop.json", "-i", "a.ndjson", "-o", "d.ndjson",
		"--deliver", "--patience", "200ms")
	require.Equal(t, exitFailed, code)
	o, err := sinks.OpenOutbox(filepath.Join(m.dir, defaultOutbox), sinks.OutboxOptions{})
	require.NoError(t, err)
	defer func() { require.NoError(t, o.Close()) }()
	require.Positive(t, o.Account().Pending.Batches)
	require.Zero(t, o.Account().Delivered)
	var mu sync.Mutex // guards endpoints
	endpoints := map[string]bool{}
	ctx, cancel := context.WithCancel(t.Context())
	require.ErrorIs(t, o.Run(ctx, func(_ context.Context, b sinks.Batch) (sinks.Result, error) {
		mu.Lock()
		defer mu.Unlock()
		endpoints[b.Endpoint] = true
		cancel()
		return sinks.Result{Delivered: b.Visitors}, nil
	}), context.Canceled)
	require.Equal(t, map[string]bool{"https://logx.optimizely.com/v1/events": true}, endpoints)
}

func TestDeliverUsage(t *testing.T) {
	m := newMailing(t, 5)
	for _, args := range [][]string{
		{"--endpoint", "http://host/"}, {"--outbox", "x"}, {"--deliver", "--endpoint", "logx"}, {"--deliver", "--patience", "-1s"},
	} {
		stderr, code := processor(t, m.dir, append([]string{"assign", "--datafile", "shop.json", "-i", "a.ndjson", "-o", "d"}, args...)...)
		require.Equal(t, exitUsage, code, stderr)
		require.NoDirExists(t, filepath.Join(m.dir, defaultOutbox))
		require.NoFileExists(t, filepath.Join(m.dir, "d"))
	}
	o, err := sinks.OpenOutbox(filepath.Join(m.dir, "outbox"), sinks.OutboxOptions{})
	require.NoError(t, err)
	defer func() { require.NoError(t, o.Close()) }()
	stderr, code := processor(t, m.dir, m.args("a.ndjson")...)
	require.Equal(t, exitFailed, code)
	require.Equal(t, "processor: open outbox outbox: outbox is in use by another process\n", stderr)
}

// An interrupt ends the run soon, and says what is left.
func TestDeliverInterrupted(t *testing.T) {
	m := newMailing(t, 50)
	_, err := m.em.AddFault(emulator.Fault{Route: "/v1/events", Hang: true})
	require.NoError(t, err)
	cmd := exec.Command("processor", m.args("a.ndjson")...)
	cmd.Dir = m.dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(m.dir, "d.ndjson")) // what follows is the delivery
		return err == nil
	}, 10*time.Second, 5*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	begin := time.Now()
	_ = cmd.Wait() // the exit code tells
	require.Less(t, time.Since(begin), 5*time.Second)
	require.Equal(t, exitFailed, cmd.ProcessState.ExitCode())
	require.Contains(t, stderr.String(), "pending ")
	require.Contains(t, stderr.String(), "interrupted")
	a := m.account(t)
	require.Equal(t, a.Appended, a.Pending)
}

// What the SDKs were recorded to send goes through outbox and delivery unchanged:
// TestVectorsThroughAssign compares the bodies with the recordings, this one the
// bodies with what arrives.
func TestVectorsDelivered(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the command for every recorded datafile: not in the short form")
	}
	names, err := filepath.Glob(filepath.Join(vectorFolder, "cases-*.ndjson.gz"))
	require.NoError(t, err)
	require.NotEmpty(t, names)
	byDatafile := map[string][]*vectorCase{}
	for _, name := range names {
		for _, c := range readVectors(t, name) {
			byDatafile[c.Datafile] = append(byDatafile[c.Datafile], c)
		}
	}
	em := emulator.Start(t, emulator.Options{MaxAttempts: 1 << 20, MaxBytes: 1 << 30})
	bodies, events := 0, 0
	for datafile, cases := range byDatafile {
		dir := t.TempDir()
		var input []byte
		for _, c := range cases {
			input = append(append(input, jsonText(c.activity())...), '\n')
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, "a.ndjson"), input, 0o666))
		absolute, err := filepath.Abs(filepath.Join(vectorFolder, "datafiles", datafile))
		require.NoError(t, err)
		require.NoError(t, em.Clear())
		stderr, code := processor(t, dir, "assign", "--datafile", absolute, "-i", "a.ndjson", "-o", os.DevNull, "--events", "e.ndjson",
			"--deliver", "--endpoint", em.URLs().Events)
		require.Equal(t, exitDone, code, stderr)
		arrived := map[string]int{}
		for _, a := range em.Received() {
			arrived[string(a.Body)]++
		}
		want := linesOf(t, filepath.Join(dir, "e.ndjson"))
		for _, body := range want {
			require.Equal(t, 1, arrived[body])
		}
		require.Len(t, arrived, len(want))
		bodies += len(want)
		events += visitorsIn(t, want)
	}
	require.NotZero(t, events)
	fmt.Printf("vectors delivered: %d events in %d bodies, unchanged, of %d datafiles\n", events, bodies, len(byDatafile))
}

// killRounds is how often the kill test kills: KILL_ROUNDS, or 5.
func killRounds(t *testing.T) int {
	t.Helper()
	text := os.Getenv("KILL_ROUNDS")
	if text == "" {
		return 5
	}
	rounds, err := strconv.Atoi(text)
	require.NoError(t, err)
	return rounds
}

func (m *mailing) killAfter(cmd *exec.Cmd, ended <-chan struct{}, delay time.Duration) {
	select {
	case <-ended:
	case <-time.After(delay):
		_ = cmd.Process.Kill() // SIGKILL
	}
}

// killAtSize kills when the outbox's files have grown by so many bytes.
func (m *mailing) killAtSize(t *testing.T, cmd *exec.Cmd, ended <-chan struct{}, size int64) {
	t.Helper()
	ticker := time.NewTicker(500 * time.Microsecond)
	defer ticker.Stop()
	dir := filepath.Join(m.dir, "outbox")
	for target := logBytes(dir) + size; ; {
		select {
		case <-ended:
			return
		case <-ticker.C:
			if logBytes(dir) >= target {
				_ = cmd.Process.Kill() // SIGKILL
				return
			}
		}
	}
}

func logBytes(dir string) (size int64) {
	names, _ := filepath.Glob(filepath.Join(dir, "*.log")) // the pattern is well-formed
	for _, name := range names {
		if info, err := os.Stat(name); err == nil { // else: removed meanwhile
			size += info.Size()
		}
	}
	return size
}

// assign --deliver is killed at random moments, against a server that fails half
// of its answers. What had reached the outbox arrives, and only as it was made.
func TestDeliverKilled(t *testing.T) {
	const seed = 20261122
	random := rand.New(rand.NewPCG(seed, 0))
	m := newMailing(t, 1000)
	_, err := m.em.AddFault(emulator.Fault{Route: "/v1/events", Fraction: 0.3, Seed: seed, Status: 503})
	require.NoError(t, err)
	// Of the others 2 in 7, so half in all: they took effect, but who knows?
	_, err = m.em.AddFault(emulator.Fault{Route: "/v1/events", Fraction: 2. / 7, Seed: seed, Cut: emulator.CutAfter})
	require.NoError(t, err)
	want := map[string]bool{}
	amid := 0 // rounds killed while events were being appended
	var appended uint64
	for round := range killRounds(t) {
		stream := []string{"--stream", "round-" + strconv.Itoa(round)}
		made := m.made(t, "a.ndjson", stream...)
		cmd := exec.Command("processor", m.args("a.ndjson", stream...)...)
		cmd.Dir = m.dir
		require.NoError(t, cmd.Start())
		ended := make(chan struct{}) // closed, never sent to
		go func() {
			defer close(ended)
			_ = cmd.Wait() // killed, or even done
		}()
		if round%3 == 2 { // well into the delivery
			m.killAfter(cmd, ended, time.Duration(random.IntN(1500))*time.Millisecond)
		} else { // while events are being appended, if it can be
			size := 0
			for _, body := range made {
				size += len(body)
			}
			m.killAtSize(t, cmd, ended, int64(random.IntN(size)))
		}
		<-ended
		now := m.account(t).Appended.Batches
		reached := int(now - appended)
		appended = now
		require.LessOrEqual(t, reached, len(made))
		if reached > 0 && reached < len(made) {
			amid++
		}
		for _, body := range made[:reached] { // in the order they were made
			want[body] = true
		}
	}
	m.em.ClearFaults()
	stderr, code := processor(t, m.dir, m.args("empty.ndjson")...)
	require.Equal(t, exitDone, code, stderr)
	a := m.account(t)
	require.Equal(t, a.Appended, a.Delivered)
	require.Len(t, want, int(appended))
	got := m.received()
	repeats := 0
	for body := range want {
		require.Positive(t, got[body], "reached the outbox and never arrived")
	}
	for body, times := range got {
		require.True(t, want[body], "arrived, and was never made like that")
		repeats += times - 1
	}
	require.Positive(t, amid, "no round was killed while events were being appended")
	require.Len(t, m.em.UUIDs(), int(a.Appended.Visitors), "repeats have equal uuids")
	fmt.Printf("kill -9: %d rounds (%d while appending), %d bodies in the outbox, all arrived, %d of them again\n",
		killRounds(t), amid, appended, repeats)
}
