package emulator_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/internal/emulator"
	"sortition/sinks"
)

// envForeign is the folder into which foreign/install.sh put the official SDKs.
const envForeign = "SORTITION_FOREIGN"

// Official SDKs, unmodified, take the emulator for the cloud: they fetch their
// datafile and segments, decide, predict and send events, and nothing of it is
// wrong. Both decide the same.
func TestForeignClients(t *testing.T) {
	sdks := os.Getenv(envForeign)
	switch {
	case sdks != "":
	case os.Getenv("CI") == "true":
		t.Fatalf("%s is not set: this test needs the official SDKs (foreign/install.sh)", envForeign)
	default:
		t.Skipf("NOT RUN with the official SDKs: %s is not set (foreign/install.sh installs them)", envForeign)
	}
	sdks, err := filepath.Abs(sdks)
	require.NoError(t, err)
	python := []string{filepath.Join(sdks, "python", "bin", "python"), filepath.Join("foreign", "client.py")}
	node := []string{"node", filepath.Join("foreign", "client.mjs")}

	const users, flags, token = 12, 5, "TOK"
	answers := map[string]string{}
	for name, tt := range map[string]struct {
		command  []string
		token    string
		warnings map[sinks.Code]int64
	}{
		"python":       {python, "", nil},
		"python/token": {python, token, nil},
		// It sends null where others send "", twice per impression for which nothing matched:
		// 6 of banner, 12 of empty, 8 of vip.
		"node":       {node, "", map[sinks.Code]int64{sinks.CodeNullID: 52}},
		"node/token": {node, token, map[sinks.Code]int64{sinks.CodeNullID: 52}},
	} {
		t.Run(name, func(t *testing.T) {
			em := emulator.Start(t, emulator.Options{Token: token, Seed: 5})
			raw, err := os.ReadFile(filepath.Join("foreign", "datafile.json"))
			require.NoError(t, err)
			raw, err = emulator.PointODP(raw, em.URL())
			require.NoError(t, err)
			require.NoError(t, em.SeedDatafile("", raw))
			for i := range users { // every third is a buyer
				if i%3 == 0 {
					require.NoError(t, em.SetSegments(fmt.Sprint("user-", i), "vip_buyers"))
				} else {
					require.NoError(t, em.SetSegments(fmt.Sprint("user-", i)))
				}
			}
			answers[name] = runForeign(t, sdks, append(tt.command, mustJSON(t, em.URLs()), strconv.Itoa(users), tt.token))

			c := em.Counts()
			assert.EqualValues(t, users*flags, c.Impressions)
			assert.EqualValues(t, users, c.Conversions)
			assert.Equal(t, users*flags+users, c.UUIDs, "all different")
			assert.Zero(t, c.Repeats)
			if tt.warnings == nil {
				tt.warnings = map[sinks.Code]int64{}
			}
			assert.Equal(t, tt.warnings, c.Problems)
			for _, a := range em.Attempts("") {
				assert.True(t, a.Accepted, a.Path)
				for _, p := range a.Problems {
					assert.Equal(t, sinks.SeverityWarning, p.Severity, p)
				}
			}
			fetched := emulator.RouteDatafile
			if tt.token != "" {
				fetched = emulator.RouteAuthDatafile
			}
			assert.NotZero(t, c.Routes[fetched].Statuses[200])
			assert.EqualValues(t, users, c.Routes[emulator.RouteSegments].Statuses[200])
			assert.EqualValues(t, users, c.Routes[emulator.RoutePredict].Statuses[200])
			assert.NotZero(t, c.Routes[emulator.RouteODPEvents].Statuses[202])
		})
	}
	for name, answer := range answers {
		assert.JSONEq(t, answers["python"], answer, name)
	}
	var decided map[string]struct {
		Fetched   bool
		Segments  []string
		Decisions map[string]struct{ Enabled bool }
	}
	require.NoError(t, json.Unmarshal([]byte(answers["python"]), &decided))
	require.Len(t, decided, users)
	assert.Equal(t, []string{"vip_buyers"}, decided["user-3"].Segments)
	assert.True(t, decided["user-3"].Fetched)
	assert.True(t, decided["user-3"].Decisions["vip"].Enabled)
	assert.False(t, decided["user-4"].Decisions["vip"].Enabled)
	assert.True(t, decided["user-4"].Decisions["reco"].Enabled)
}

func runForeign(t *testing.T, sdks string, args []string) string {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second
	cmd.Env = append(os.Environ(), "SORTITION_FOREIGN_SDK="+filepath.Join(sdks, "node"))
	require.NoError(t, cmd.Run(), "%s", &errs)
	return out.String()
}

func mustJSON(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	require.NoError(t, err)
	return string(text)
}
