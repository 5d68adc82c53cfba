package sinks_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"sortition/internal/emulator"
	"sortition/sinks"
)

func TestMain(m *testing.M) {
	if runKillChild() {
		return
	}
	goleak.VerifyTestMain(m)
}

// head is the beginning of an event batch of a revision.
func head(revision string) string {
	return `{"account_id":"770011","project_id":"880022","revision":"` + revision +
		`","client_name":"sortition","client_version":"1","anonymize_ip":true,"enrich_decisions":true,"visitors":[`
}

func uuidOf(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

// visitor is the n-th visitor: a conversion that the validator has nothing
// against.
func visitor(n int) string {
	return fmt.Sprintf(`{"visitor_id":"user-%d","attributes":[],"snapshots":[{"events":[{"entity_id":"901","key":"purchase","uuid":"%s","timestamp":1767225600123}]}]}`, n, uuidOf(n))
}

// bodyOf is an event batch of the visitors from to to-1.
func bodyOf(from, to int) []byte {
	visitors := make([]string, 0, to-from)
	for n := from; n < to; n++ {
		visitors = append(visitors, visitor(n))
	}
	return []byte(head("7") + strings.Join(visitors, ",") + "]}")
}

func batchOf(endpoint string, from, to int) sinks.Batch {
	return sinks.Batch{Endpoint: endpoint, ID: uuidOf(from), Visitors: to - from, Body: bodyOf(from, to)}
}

func newPoster(t *testing.T, o sinks.PosterOptions) *sinks.Poster {
	t.Helper()
	p, err := sinks.NewPoster(o)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

func newEmulator(t *testing.T) *emulator.Server {
	t.Helper()
	return emulator.Start(t, emulator.Options{})
}

// deadline is the context of a test that must come to its end.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// posts are the event requests so far.
func posts(em *emulator.Server) []emulator.Attempt { return em.Attempts("/v1/events") }

// requireSameBodies checks that there were n requests, all with the same bytes.
func requireSameBodies(t *testing.T, attempts []emulator.Attempt, n int, body []byte) {
	t.Helper()
	require.Len(t, attempts, n)
	for i := range attempts {
		require.Equal(t, string(body), string(attempts[i].Body), "attempt %d", i+1)
	}
}

// requireGap checks the pause between two attempts.
func requireGap(t *testing.T, attempts []emulator.Attempt, i int, least, most time.Duration) {
	t.Helper()
	gap := attempts[i+1].Time.Sub(attempts[i].Time)
	require.GreaterOrEqual(t, gap, least, "between attempts %d and %d", i+1, i+2)
	require.Less(t, gap, most, "between attempts %d and %d", i+1, i+2)
}
