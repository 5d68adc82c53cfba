package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"sortition/internal/sample"
)

// What explain prints of a decision is what assign writes of it, nulls included.
func TestExplainAgreesWithAssign(t *testing.T) {
	dir := t.TempDir()
	in, out, datafile := filepath.Join(dir, "in.ndjson"), filepath.Join(dir, "out.ndjson"), filepath.Join(dir, "d.json")
	require.NoError(t, os.WriteFile(datafile, sample.Datafile(1, 12), 0o666))
	var d struct {
		FeatureFlags []struct{ Key string }
	}
	require.NoError(t, json.Unmarshal(sample.Datafile(1, 12), &d))
	flags := []string{"no such flag"}
	for _, f := range d.FeatureFlags {
		flags = append(flags, f.Key)
	}
	nulls, texts := 0, 0
	for _, user := range []string{"u-1", "u-2", "u-3", "u-4"} {
		line, err := json.Marshal(map[string]any{"user_id": user, "decide": flags})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(in, line, 0o666))
		assign := &assignCmd{Datafile: datafile, Input: []string{in}, Output: out, Stream: "s", Quiet: true}
		require.NoError(t, assign.Run(context.Background(), stdio{os.Stdin, os.Stdout, os.Stderr}))
		var record struct{ Decisions []map[string]any }
		text, err := os.ReadFile(out)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(text, &record))
		require.Len(t, record.Decisions, len(flags))
		for i, flag := range flags {
			file, err := os.Create(filepath.Join(dir, "explained"))
			require.NoError(t, err)
			explain := &explainCmd{Datafile: datafile, Flag: flag, User: user, JSON: true}
			require.NoError(t, explain.Run(context.Background(), stdio{os.Stdin, file, os.Stderr}))
			require.NoError(t, file.Close())
			text, err := os.ReadFile(file.Name())
			require.NoError(t, err)
			var explained map[string]any
			require.NoError(t, json.Unmarshal(text, &explained))
			for _, name := range []string{"flag_key", "enabled", "variation_key", "rule_key", "rule_type", "experiment_id", "variation_id", "variables", "error"} {
				require.Equal(t, record.Decisions[i][name], explained[name], "%s of %s for %s", name, flag, user)
				if explained[name] == nil {
					nulls++
				} else {
					texts++
				}
			}
		}
	}
	require.Greater(t, nulls, 12, "with an error at least three ids are null, for four users")
	require.Greater(t, texts, nulls)
}
