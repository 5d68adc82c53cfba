package sinks_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sortition/sinks"
)

// answers_test.go has what needs a server that behaves in ways the emulator
// doesn't.

// An endless answer costs a bounded time and memory, and its status counts.
func TestEndlessAnswer(t *testing.T) {
	for _, status := range []int{200, 400} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(status)
			for {
				if _, err := io.WriteString(w, strings.Repeat("x", 1<<16)); err != nil {
					return
				}
			}
		}))
		begin := time.Now()
		result, err := newPoster(t, sinks.PosterOptions{}).Deliver(deadline(t), batchOf(server.URL, 0, 1))
		require.NoError(t, err)
		require.Less(t, time.Since(begin), 5*time.Second)
		if status == 200 {
			require.Equal(t, 1, result.Delivered)
		} else {
			require.Len(t, result.Refused[0].Answer, 1<<10)
		}
		server.Close()
	}
}

// Connections are kept, also after answers with a body, and requests under way
// are bounded.
func TestPoolAndConcurrency(t *testing.T) {
	var open, most, conns atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := open.Add(1)
		defer open.Add(-1)
		for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, strings.Repeat("x", 10_000))
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	p := newPoster(t, sinks.PosterOptions{Concurrency: 3})
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() {
			for n := range 10 {
				if _, err := p.Deliver(t.Context(), batchOf(server.URL, n, n+1)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	callers.Wait()
	require.LessOrEqual(t, most.Load(), int64(3))
	require.Less(t, conns.Load(), int64(20), "200 requests over kept connections")
	require.EqualValues(t, 200, p.Stats().Batches)
}

// Errors and refusals name neither users nor addresses with passwords.
func TestErrorsAreDiscreet(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write(body)
	}))
	endpoint := strings.Replace(server.URL, "://", "://name:secret@", 1) + "/v1/events?token=secret"
	p := newPoster(t, sinks.PosterOptions{})
	result, err := p.Deliver(deadline(t), batchOf(endpoint, 0, 1))
	require.NoError(t, err)
	require.NotContains(t, result.Refused[0].Reason, "user-0")
	require.Contains(t, result.Refused[0].Answer, "user-0", "what is kept beside the body")
	server.Close()
	_, err = p.Deliver(deadline(t), batchOf(endpoint, 0, 1))
	require.Error(t, err)
	require.NotContains(t, err.Error(), "secret")
	require.NotContains(t, err.Error(), "user-0")
	for _, unusable := range []string{"", "logx", "ftp://secret@host/", "http://", "http://se\x7fcret/", "://secret"} {
		result, err := p.Deliver(deadline(t), batchOf(unusable, 0, 1))
		require.NoError(t, err)
		require.Len(t, result.Refused, 1, unusable)
		require.NotContains(t, result.Refused[0].Reason, "secret")
		require.ErrorIs(t, sinks.CheckEndpoint(unusable), sinks.ErrEndpoint)
		require.True(t, sinks.IsPermanent(sinks.CheckEndpoint(unusable)))
	}
}

func TestPosterOptions(t *testing.T) {
	_, err := sinks.NewPoster(sinks.PosterOptions{Timeout: -1, Concurrency: -1})
	require.ErrorContains(t, err, "timeout")
	require.ErrorContains(t, err, "concurrency", "all faults at once")
	require.False(t, sinks.IsPermanent(context.Canceled))
	require.False(t, sinks.IsPermanent(nil))
}
