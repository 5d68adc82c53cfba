package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/internal/emulator"
)

// An emulatorProcess is the real command.
type emulatorProcess struct {
	cmd      *exec.Cmd
	urls     emulator.URLs
	out, err bytes.Buffer
}

func startEmulator(t testing.TB, args ...string) *emulatorProcess {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "urls.json")
	p := &emulatorProcess{}
	p.cmd = exec.CommandContext(t.Context(), self)
	p.cmd.Args = append([]string{"processor", "emulator", "--addr", "127.0.0.1:0", "--urls", file}, args...) // TestMain goes by the name
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	require.NoError(t, p.cmd.Start())
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(file)
		return err == nil && json.Unmarshal(text, &p.urls) == nil
	}, 20*time.Second, 5*time.Millisecond)
	return p
}

// end sends a signal and returns the exit code, -1 for death by a signal.
func (p *emulatorProcess) end(t testing.TB, signal os.Signal) int {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(signal))
	_ = p.cmd.Wait() // the exit code tells
	return p.cmd.ProcessState.ExitCode()
}

func call(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(text)
}

func eventBody(n int) string {
	return fmt.Sprintf(`{"account_id":"1","project_id":"2","revision":"3","client_name":"test","client_version":"1","anonymize_ip":true,
"enrich_decisions":true,"visitors":[{"visitor_id":"u","attributes":[],"snapshots":[{"events":[
{"entity_id":"9","key":"buy","uuid":"00000000-0000-4000-8000-%012d","timestamp":1767225600000}]}]}]}`, n)
}

func TestEmulatorUntilInterrupt(t *testing.T) {
	p := startEmulator(t, "--token", "TOK", "--sdk-key", "KEY", "--odp-here", "--fault", `{"route":"/v1/events","script":[500]}`)
	status, datafile := call(t, http.MethodGet, strings.Replace(p.urls.Datafile, "{sdk_key}", "KEY", 1), "")
	assert.Equal(t, 200, status)
	assert.Contains(t, datafile, p.urls.Base, "ODP's host")
	status, _ = call(t, http.MethodPost, p.urls.Events, eventBody(1))
	assert.Equal(t, 500, status)
	status, _ = call(t, http.MethodPost, p.urls.Events, eventBody(1))
	assert.Equal(t, 204, status)
	assert.Equal(t, 0, p.end(t, os.Interrupt))
	assert.Contains(t, p.out.String(), p.urls.Events)
	assert.NotContains(t, p.out.String()+p.err.String(), "TOK")
}

// What was acknowledged and what was set is there after kill -9, whenever it
// comes, and again after the next.
func TestEmulatorKilled(t *testing.T) {
	dir := t.TempDir()
	acknowledged := map[string]bool{}
	next := 0
	for round := range 5 {
		p := startEmulator(t, "--data", dir)
		_, text := call(t, http.MethodGet, p.urls.Admin+"uuids", "")
		var kept map[string]int
		require.NoError(t, json.Unmarshal([]byte(text), &kept))
		for id := range acknowledged {
			require.Contains(t, kept, id, "round %d", round)
		}
		if round > 0 {
			_, datafile := call(t, http.MethodGet, strings.Replace(p.urls.Datafile, "{sdk_key}", "KEY", 1), "")
			require.Equal(t, fmt.Sprintf(`{"revision":"%d"}`, round-1), datafile)
		}
		status, _ := call(t, http.MethodPut, p.urls.Admin+"datafiles/KEY", fmt.Sprintf(`{"revision":"%d"}`, round))
		require.Equal(t, 200, status)

		// Clients post as fast as they can, until the process is gone under them.
		var mu sync.Mutex
		var clients sync.WaitGroup
		for range 3 {
			clients.Go(func() {
				for {
					mu.Lock()
					next++
					n := next
					mu.Unlock()
					res, err := http.Post(p.urls.Events, "application/json", strings.NewReader(eventBody(n))) //nolint:noctx // ends with the process
					if err != nil {
						return
					}
					_ = res.Body.Close() // empty
					if res.StatusCode == http.StatusNoContent {
						mu.Lock()
						acknowledged[fmt.Sprintf("00000000-0000-4000-8000-%012d", n)] = true
						mu.Unlock()
					}
				}
			})
		}
		enough := 200 * (round + 1)
		require.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(acknowledged) >= enough }, 30*time.Second, time.Millisecond)
		assert.Equal(t, -1, p.end(t, syscall.SIGKILL))
		clients.Wait()
	}
	t.Logf("%d events acknowledged over 5 kills, all kept", len(acknowledged))
}
