package client

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sortition/internal/emulator"
)

// kill_test.go runs a small program with an outbox, which is this test binary in
// another role, and kills it. What its calls had acknowledged must arrive.

const (
	childVariable  = "SORTITION_TEST_CLIENT" // what the child is told: round, folder, endpoint
	roundsVariable = "KILL_ROUNDS"           // default 5
)

// child is the small program: two goroutines decide and track, and say on standard
// output what was acknowledged. It ends when it is killed; in round 0 it makes no
// events, and ends when the outbox is empty.
func child() int {
	told := strings.SplitN(os.Getenv(childVariable), " ", 3)
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	round, err := strconv.Atoi(told[0])
	if err != nil {
		return fail(err)
	}
	datafile, err := os.ReadFile(filepath.Join(told[1], "datafile.json"))
	if err != nil {
		return fail(err)
	}
	var unsent sync.Map // users whose impression was not taken
	var mu sync.Mutex   // guards standard output and current
	current := ""
	c, err := Open(context.Background(), WithDatafile(datafile), WithEventEndpoint(told[2]), WithOutbox(filepath.Join(told[1], "outbox"), OutboxOptions{}),
		WithCloseTimeout(time.Minute), BlockWhenFull(), WithErrorHandler(func(err error) {
			mu.Lock()
			defer mu.Unlock()
			unsent.Store(current, err)
		}))
	if err != nil {
		return fail(err)
	}
	acknowledge := func(what string) { _, _ = os.Stdout.WriteString(what + "\n") } // one write, to a pipe: whole or not at all
	if round > 0 {
		ctx := context.Background()
		go func() {
			for n := 0; ; n++ {
				user := fmt.Sprintf("decide-%d-%d", round, n)
				mu.Lock()
				current = user
				mu.Unlock()
				c.NewUser(user, map[string]any{"plan": "pro"}).DecideAll(ctx)
				if _, failed := unsent.Load(user); !failed {
					acknowledge(user)
				}
			}
		}()
		for n := 0; ; n++ {
			user := fmt.Sprintf("track-%d-%d", round, n)
			if c.NewUser(user, nil).TrackEvent(ctx, "bought", map[string]any{"n": n}) == nil {
				acknowledge(user)
			}
		}
	}
	if err := c.Close(context.Background()); err != nil {
		return fail(err)
	}
	return 0
}

func TestKill(t *testing.T) {
	rounds := 5
	if text := os.Getenv(roundsVariable); text != "" {
		var err error
		rounds, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	em := emulator.Start(t, emulator.Options{MaxAttempts: 200_000, MaxBytes: 1 << 30})
	// Half of the requests get no good answer, some of them although they took effect.
	for _, f := range []emulator.Fault{
		{Fraction: 0.2, Status: 503, Seed: seed}, {Fraction: 0.2, Cut: emulator.CutBefore, Seed: seed + 1}, {Fraction: 0.2, Cut: emulator.CutAfter, Seed: seed + 2},
	} {
		f.Route = string(emulator.RouteEvents)
		_, err := em.AddFault(f)
		require.NoError(t, err)
	}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "datafile.json"), text(t, worked(t)), 0o600))
	// begun is closed when the child has said something for the first time, or ends.
	start := func(round int) (command *exec.Cmd, begun <-chan struct{}, said func() []string) {
		command = exec.Command(os.Args[0])
		command.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s %s", childVariable, round, dir, em.URLs().Events))
		command.Stderr = os.Stderr
		out, err := command.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, command.Start())
		lines := make(chan []string, 1) // capacity 1: its one sender never waits
		first := make(chan struct{})
		go func() {
			var all []string
			for s := bufio.NewScanner(out); s.Scan(); {
				if all = append(all, s.Text()); len(all) == 1 {
					close(first)
				}
			}
			if len(all) == 0 {
				close(first)
			}
			lines <- all
		}()
		return command, first, func() []string { return <-lines }
	}

	var acknowledged []string
	for round := 1; round <= rounds; round++ {
		command, begun, lines := start(round)
		if round%3 != 0 { // else it may be killed while it starts
			<-begun
		}
		time.Sleep(time.Duration(random.IntN(400)) * time.Millisecond) // nothing is waited for: any moment is a good one
		require.NoError(t, command.Process.Kill())
		acknowledged = append(acknowledged, lines()...)
		require.Error(t, command.Wait(), "killed")
	}
	t.Logf("%d calls acknowledged in %d rounds; %d requests by now", len(acknowledged), rounds, em.Requests(emulator.RouteEvents))

	em.ClearFaults()
	command, _, lines := start(0)
	lines()
	require.NoError(t, command.Wait())

	uuids := map[string]map[string]bool{} // by user
	for _, v := range em.Visitors() {
		if uuids[v.ID] == nil {
			uuids[v.ID] = map[string]bool{}
		}
		uuids[v.ID][v.UUID] = true
	}
	for _, user := range acknowledged {
		want := 1
		if strings.HasPrefix(user, "decide") {
			want = 4 // flags of the datafile, all of which send impressions
		}
		require.Len(t, uuids[user], want, "%s: each event has arrived, its repeats with the same uuid", user)
	}
	require.NotEmpty(t, acknowledged, "the child was never fast enough")
	counts := em.Counts()
	t.Logf("%d events arrived, %d of them repeats", counts.Visitors, counts.Repeats)
	require.Empty(t, counts.Problems, "a repeat has the same bytes")
	require.Zero(t, counts.Forgotten)
}
