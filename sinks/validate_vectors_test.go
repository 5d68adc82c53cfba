package sinks_test

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/sinks"
)

// Nothing that the SDKs were seen to send may be called wrong.
func TestValidateRecordedEvents(t *testing.T) {
	dir := filepath.Join("..", "decision", "testdata", "vectors")
	files, err := filepath.Glob(filepath.Join(dir, "cases-*.ndjson.gz"))
	require.NoError(t, err)
	known := map[string]*sinks.Catalog{}
	events := 0
	for _, name := range files {
		file, err := os.Open(name)
		require.NoError(t, err)
		z, err := gzip.NewReader(file)
		require.NoError(t, err)
		lines := bufio.NewScanner(z)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			var vector struct {
				ID, Datafile string
				Expect       struct{ Impressions, Conversions []map[string]any }
			}
			require.NoError(t, json.Unmarshal(lines.Bytes(), &vector))
			catalog := known[vector.Datafile]
			if catalog == nil {
				catalog = readCatalog(t, filepath.Join(dir, "datafiles", vector.Datafile))
				known[vector.Datafile] = catalog
			}
			all := append(vector.Expect.Impressions, vector.Expect.Conversions...)
			if len(all) == 0 {
				continue
			}
			body := recordedBody(t, catalog, all)
			v := sinks.NewValidator(sinks.ValidatorConfig{Against: func(string, string) *sinks.Catalog { return catalog }})
			report := v.Check(body, validateNow)
			if !assert.Empty(t, report.Problems, vector.ID) {
				return
			}
			require.Equal(t, len(vector.Expect.Impressions), report.Impressions, vector.ID)
			require.Equal(t, len(vector.Expect.Conversions), report.Conversions, vector.ID)
			events += len(all)
		}
		require.NoError(t, lines.Err())
		require.NoError(t, file.Close())
	}
	require.NotZero(t, events, "no vectors found")
	t.Logf("%d recorded events of %d files are well", events, len(files))
}

func readCatalog(t *testing.T, path string) *sinks.Catalog {
	t.Helper()
	raw, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		var file *os.File
		file, err = os.Open(path + ".gz")
		require.NoError(t, err)
		defer file.Close()
		z, err := gzip.NewReader(file)
		require.NoError(t, err)
		var text strings.Builder
		_, err = bufio.NewReader(z).WriteTo(&text)
		require.NoError(t, err)
		raw = []byte(text.String())
	}
	catalog, err := sinks.CatalogOf(raw)
	require.NoError(t, err)
	return catalog
}

// recordedBody puts back what was removed from the recorded visitors.
func recordedBody(t *testing.T, c *sinks.Catalog, visitors []map[string]any) []byte {
	t.Helper()
	for i, v := range visitors {
		event := v["snapshots"].([]any)[0].(map[string]any)["events"].([]any)[0].(map[string]any)
		event["uuid"] = fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
		event["timestamp"] = validateNow.UnixMilli()
	}
	body, err := json.Marshal(map[string]any{
		"account_id": c.AccountID, "project_id": c.ProjectID, "revision": c.Revision, "client_name": "python-sdk", "client_version": "5.7.0",
		"anonymize_ip": false, "enrich_decisions": true, "visitors": visitors,
	})
	require.NoError(t, err)
	return body
}
