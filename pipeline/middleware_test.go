package pipeline

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// chained is a handler behind the pipeline's middleware, and what it was asked.
func chained(t *testing.T, o Options, handle func(try int) error) (message.HandlerFunc, *int) {
	t.Helper()
	p, err := New(o, Leg{Stage: newTestAssign(t, &store{})})
	require.NoError(t, err)
	tries := 0
	h := message.HandlerFunc(func(*message.Message) ([]*message.Message, error) {
		tries++
		return nil, handle(tries)
	})
	middleware := p.middleware()
	for i := len(middleware) - 1; i >= 0; i-- { // the first one is the outermost
		h = middleware[i](h)
	}
	return h, &tries
}

func observations(t *testing.T, r *prometheus.Registry, name string) map[string]uint64 {
	t.Helper()
	families, err := r.Gather()
	require.NoError(t, err)
	counts := map[string]uint64{}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				counts[labelOf(m, "verdict")] += m.GetHistogram().GetSampleCount()
			}
		}
	}
	return counts
}

func labelOf(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// Metrics is outermost: a message that needed three tries is one message. Retry is
// around the Recoverer: it sees a panic as an error, and leaves it alone.
func TestTrapW08OrderOfMiddleware(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		metrics, err := NewMetrics(registry)
		require.NoError(t, err)
		h, tries := chained(t, Options{Metrics: metrics}, func(try int) error {
			if try < 3 {
				return errTransport
			}
			return nil
		})
		_, err = h(messageOf(records("x")))
		require.NoError(t, err)
		assert.Equal(t, 3, *tries)
		assert.Equal(t, map[string]uint64{"ack": 1}, observations(t, registry, "sortition_batch_duration_seconds"))

		h, tries = chained(t, Options{Metrics: metrics}, func(int) error { return errTransport })
		_, err = h(messageOf(records("x")))
		require.ErrorIs(t, err, errTransport)
		assert.Equal(t, 3, *tries, "then it is the Subscriber's turn")

		h, tries = chained(t, Options{Metrics: metrics}, func(int) error { panic("ours") })
		_, err = h(messageOf(records("x")))
		require.ErrorContains(t, err, "ours")
		assert.Equal(t, 1, *tries)
		assert.Equal(t, map[string]uint64{"ack": 1, "nack": 2}, observations(t, registry, "sortition_batch_duration_seconds"))
	})
}

// A batch that was taken away belongs to somebody else: nothing is tried again.
func TestCancelledBatchIsNotRetried(t *testing.T) {
	for _, cause := range []error{context.Canceled, context.DeadlineExceeded} {
		h, tries := chained(t, Options{}, func(int) error { return errors.Join(errTransport, cause) })
		_, err := h(messageOf(records("x")))
		require.ErrorIs(t, err, cause)
		assert.Equal(t, 1, *tries)
	}
	h, tries := chained(t, Options{Retries: -1}, func(int) error { return errTransport })
	_, err := h(messageOf(records("x")))
	require.ErrorIs(t, err, errTransport)
	assert.Equal(t, 1, *tries)
}

func TestPipelineIsChecked(t *testing.T) {
	_, err := New(Options{})
	require.ErrorContains(t, err, "no stage")
	stage := newTestAssign(t, &store{})
	_, err = New(Options{CloseTimeout: -1}, Leg{Stage: stage}, Leg{Stage: stage})
	require.ErrorContains(t, err, "CloseTimeout")
	require.ErrorContains(t, err, "twice")
}

// Retry sleeps in the handler, whose partition waits and may be asked for: all its
// pauses together are far below the time a revoked partition is given to finish.
func TestTrapW09RetryPausesAreShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, tries := chained(t, Options{}, func(int) error { return errTransport })
		start := time.Now()
		_, err := h(messageOf(records("x")))
		require.ErrorIs(t, err, errTransport)
		assert.Equal(t, 3, *tries)
		assert.Less(t, time.Since(start), 3*time.Second, "the default RevokeBudget is 20 s")
	})
}
