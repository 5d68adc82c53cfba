package sinks_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sortition/internal/emulator"
	"sortition/sinks"
)

// The kill test starts this test binary again as a program that appends to an
// outbox and says what was acknowledged, and ends it with kill -9.
const (
	killDirEnv      = "SORTITION_TEST_OUTBOX"
	killEndpointEnv = "SORTITION_TEST_ENDPOINT"
	killRoundEnv    = "SORTITION_TEST_ROUND"
	// KILL_ROUNDS is how often the kill tests kill; 5 without it.
	killRoundsEnv = "KILL_ROUNDS"
)

const killVisitors = 3 // of a body

// runKillChild is the program; false if this process isn't it.
func runKillChild() bool {
	dir := os.Getenv(killDirEnv)
	if dir == "" {
		return false
	}
	round, err := strconv.Atoi(os.Getenv(killRoundEnv))
	check(err)
	endpoint := os.Getenv(killEndpointEnv)
	// A small outbox, so that segments come and go under the blows.
	o, err := sinks.OpenOutbox(dir, sinks.OutboxOptions{MaxBytes: 1 << 20, Sync: sinks.SyncPolicy(round % 2)})
	check(err)
	p, err := sinks.NewPoster(sinks.PosterOptions{})
	check(err)
	go func() { check(o.Run(context.Background(), p.DeliverDurably)) }()
	var group sync.WaitGroup
	for appender := range 3 {
		group.Go(func() {
			for i := 0; ; i++ {
				n := (round*3+appender)*1_000_000 + i*killVisitors
				seq, err := o.Append(context.Background(), batchOf(endpoint, n, n+killVisitors))
				check(err)
				// One write, so that the line is whole if it is there.
				_, err = fmt.Fprintf(os.Stdout, "%d %d\n", seq, n)
				check(err)
				if i%20 == 19 {
					time.Sleep(10 * time.Millisecond) // else it is full of what can't be delivered in time
				}
			}
		})
	}
	group.Wait()
	return true
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:forbidigo // a program of its own
	}
}

func killRounds(t *testing.T) int {
	t.Helper()
	text := os.Getenv(killRoundsEnv)
	if text == "" {
		return 5
	}
	rounds, err := strconv.Atoi(text)
	require.NoError(t, err)
	return rounds
}

// Whatever Append has acknowledged arrives, though the process is killed at
// random moments and the server fails half of its answers; what arrives again is
// the same.
func TestOutboxKilled(t *testing.T) {
	const seed = 20261122
	random := rand.New(rand.NewPCG(seed, 0))
	em := emulator.Start(t, emulator.Options{MaxAttempts: 1 << 20, MaxBytes: 1 << 30})
	_, err := em.AddFault(emulator.Fault{Route: "/v1/events", Fraction: 0.3, Seed: seed, Status: 503})
	require.NoError(t, err)
	// Of the rest 2 in 7, so half in all: it has taken effect, but who knows?
	_, err = em.AddFault(emulator.Fault{Route: "/v1/events", Fraction: 2. / 7, Seed: seed, Cut: emulator.CutAfter})
	require.NoError(t, err)
	dir := t.TempDir()
	acknowledged := map[int]uint64{}
	for round := range killRounds(t) {
		kill := time.Duration(random.IntN(1200)) * time.Millisecond
		for n, seq := range killOnce(t, dir, em.URLs().Events, round, kill) {
			acknowledged[n] = seq
		}
	}
	em.ClearFaults()

	o := newRunningOutbox(t, dir, sinks.OutboxOptions{})
	require.NoError(t, o.Wait(deadline(t)))
	account := o.Account()
	require.Zero(t, account.Refused)
	require.Equal(t, account.Appended, account.Delivered)
	require.GreaterOrEqual(t, account.Appended.Batches, uint64(len(acknowledged)))
	require.NotEmpty(t, acknowledged)

	arrived := map[string]int{}
	for _, a := range em.Received() {
		require.Empty(t, a.Problems)
		arrived[string(a.Body)]++
	}
	seqs := map[uint64]bool{}
	repeats := 0
	for n, seq := range acknowledged {
		require.False(t, seqs[seq], "no number is given twice")
		seqs[seq] = true
		require.Positive(t, arrived[string(bodyOf(n, n+killVisitors))], "acknowledged and never arrived")
	}
	for _, times := range arrived {
		repeats += times - 1
	}
	require.Len(t, arrived, int(account.Appended.Batches), "what arrived again had the same bytes")
	require.Len(t, em.UUIDs(), len(arrived)*killVisitors)
	t.Logf("%d bodies acknowledged, %d appended, %d arrived, %d repeats", len(acknowledged), account.Appended.Batches, len(arrived), repeats)
}

// killOnce runs the program until it is killed, and returns what was acknowledged.
func killOnce(t *testing.T, dir, endpoint string, round int, after time.Duration) map[int]uint64 {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killDirEnv+"="+dir, killEndpointEnv+"="+endpoint, killRoundEnv+"="+strconv.Itoa(round))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() }) // SIGKILL
	defer timer.Stop()
	acknowledged := map[int]uint64{}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var seq uint64
		var n int
		_, err := fmt.Sscanf(lines.Text(), "%d %d", &seq, &n)
		require.NoError(t, err)
		acknowledged[n] = seq
	}
	require.Error(t, cmd.Wait(), "it never ends by itself")
	require.Equal(t, -1, cmd.ProcessState.ExitCode(), "killed")
	return acknowledged
}
