package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/odp"
	"sortition/pipeline"
)

// outage is ODP's event API that is away until a time, and then takes a second for
// each batch.
type outage struct {
	until time.Time

	mu              sync.Mutex // guards the counts
	underway, taken int
	most            int // under way at once
}

func (o *outage) SendEvents(context.Context, odp.EventBatch) error {
	if time.Now().Before(o.until) {
		return errors.New("away")
	}
	o.count(1)
	time.Sleep(time.Second)
	o.count(-1)
	return nil
}

func (o *outage) count(change int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.underway += change
	o.most = max(o.most, o.underway)
	if change < 0 {
		o.taken++
	}
}

func (*outage) Close() {}

// After an outage of ODP, deliveries go on side by side, and it doesn't count as down.
func TestODPEndpointRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &outage{until: time.Now().Add(time.Minute)}
		e := newODPEndpoint(deliveryParts{endpoint: "http://odp.test", key: "k"}, func() odp.Integration { return odp.Integration{} }, slog.New(slog.DiscardHandler))
		e.close()
		e.api = api
		const numBatches = 8
		var all sync.WaitGroup
		for range numBatches {
			all.Go(func() {
				d, err := e.Deliver(t.Context(), &pipeline.Record{Value: []byte(`[{"action":"a","type":"t","identifiers":{"fs_user_id":"u"},"data":{}}]`)})
				assert.NoError(t, err)
				assert.Equal(t, pipeline.Delivery{Accepted: 1}, d)
			})
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		require.True(t, e.isDown.Load())
		all.Wait()
		require.False(t, e.isDown.Load())
		require.Equal(t, numBatches, api.taken)
		require.Equal(t, numBatches-1, api.most, "all who waited, when the first was through")
	})
}

// Events wait for the integration that a datafile names later, and are not refused.
func TestODPEndpointWaitsForTheIntegration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var named atomic.Pointer[odp.Integration]
		named.Store(&odp.Integration{})
		var said bytes.Buffer
		e := newODPEndpoint(deliveryParts{}, func() odp.Integration { return *named.Load() }, slog.New(slog.NewTextHandler(&said, nil)))
		e.close()
		e.api = &outage{}
		record := &pipeline.Record{Value: []byte(`[{"action":"a","type":"t","identifiers":{"fs_user_id":"u"},"data":{}}]`)}
		done := make(chan pipeline.Delivery, 1)
		go func() {
			d, err := e.Deliver(t.Context(), record)
			assert.NoError(t, err)
			done <- d
		}()
		time.Sleep(time.Hour)
		require.Empty(t, done)
		named.Store(&odp.Integration{Host: "http://odp.test", PublicKey: "k"})
		require.Equal(t, pipeline.Delivery{Accepted: 1}, <-done)
		require.Equal(t, 2, strings.Count(said.String(), "msg="), said.String())

		named.Store(&odp.Integration{Host: "http://odp.test"})
		ctx, stop := context.WithCancel(t.Context())
		stop()
		_, err := e.Deliver(ctx, record)
		require.ErrorIs(t, err, odp.ErrNotIntegrated)
	})
}

// A delivery that is told to stop while it waits for the outage's end gives way.
func TestODPEndpointStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newODPEndpoint(deliveryParts{endpoint: "http://odp.test", key: "k"}, func() odp.Integration { return odp.Integration{} }, slog.New(slog.DiscardHandler))
		e.close()
		e.api = &outage{until: time.Now().Add(time.Hour)}
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() {
				_, err := e.Deliver(ctx, &pipeline.Record{Value: []byte(`[{"action":"a","type":"t","identifiers":{"fs_user_id":"u"},"data":{}}]`)})
				assert.Error(t, err)
			})
		}
		time.Sleep(time.Minute)
		stop()
		all.Wait()
		require.Empty(t, e.probe, "nobody holds it")
	})
}
