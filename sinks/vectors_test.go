package sinks_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"sortition/internal/emulator"
	"sortition/sinks"
)

// The impressions and conversions that the SDKs were recorded to send go through
// batcher, outbox and delivery to the emulator, and none of their bytes changes.
func TestRecordedEventsArriveUnchanged(t *testing.T) {
	names, err := filepath.Glob(filepath.Join("..", "decision", "testdata", "vectors", "cases-*.ndjson.gz"))
	require.NoError(t, err)
	em := emulator.Start(t, emulator.Options{MaxAttempts: 1 << 20, MaxBytes: 1 << 30})
	o := newRunningOutbox(t, t.TempDir(), sinks.OutboxOptions{Concurrency: 1, Sync: sinks.SyncInterval})
	b, err := sinks.NewBatcher(sinks.BatcherOptions{
		Dispatch: func(ctx context.Context, b sinks.Batch) error {
			_, err := o.Append(ctx, b)
			return err
		},
		OnFailure: func(_ sinks.Batch, err error) { t.Error(err) },
	})
	require.NoError(t, err)
	done := make(chan error, 1) // 1: Run can end
	go func() { done <- b.Run(context.Background()) }()
	var want []string
	for _, name := range names {
		eachRecorded(t, name, func(datafile string, visitor []byte) {
			require.NoError(t, b.Add(t.Context(), sinks.Visitor{Endpoint: em.URLs().Events, Head: []byte(head(datafile)), Body: visitor}))
			want = append(want, datafile+" "+string(visitor))
		})
	}
	require.NotEmpty(t, want, "no vectors found")
	remains, err := b.Close(deadline(t))
	require.NoError(t, err)
	require.Empty(t, remains)
	require.NoError(t, <-done)
	require.NoError(t, o.Wait(deadline(t)))
	var got []string
	for _, a := range em.Received() {
		var body struct {
			Revision string
			Visitors []json.RawMessage
		}
		require.NoError(t, json.Unmarshal(a.Body, &body))
		require.LessOrEqual(t, len(body.Visitors), 10)
		for _, v := range body.Visitors {
			got = append(got, body.Revision+" "+string(v))
		}
	}
	require.Equal(t, want, got, "all of them, in order, under the head they came with")
	t.Logf("%d recorded events in %d bodies", len(got), len(em.Received()))
}

// eachRecorded hands over the recorded visitors of a file, as they are written.
func eachRecorded(t *testing.T, name string, each func(datafile string, visitor []byte)) {
	t.Helper()
	file, err := os.Open(name)
	require.NoError(t, err)
	defer file.Close()
	z, err := gzip.NewReader(file)
	require.NoError(t, err)
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var vector struct {
			Datafile string
			Expect   struct{ Impressions, Conversions []json.RawMessage }
		}
		require.NoError(t, json.Unmarshal(lines.Bytes(), &vector))
		for _, v := range append(vector.Expect.Impressions, vector.Expect.Conversions...) {
			each(vector.Datafile, v)
		}
	}
	require.NoError(t, lines.Err())
}
