package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sortition/cmab"
	"sortition/decision"
)

type noNetwork struct{}

func (noNetwork) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("no network")
}

// servicesOf are the metrics of what a stream asks, alone.
type servicesOf struct{ streamCollector }

func (c servicesOf) Collect(out chan<- prometheus.Metric) { c.collectServices(gatherer{out}) }

// Failures of predictions are told by class (cmab.md CM-P7).
func TestMetricsOfPredictions(t *testing.T) {
	config := cmab.DefaultConfig()
	config.Client, config.InitialBackoff = &http.Client{Transport: noNetwork{}}, 0
	p, err := cmab.New(config)
	require.NoError(t, err)
	defer p.Close()
	ended, end := context.WithCancel(t.Context())
	end()
	for _, ctx := range []context.Context{t.Context(), ended, ended} {
		_, err := p.Predict(ctx, &decision.PredictionQuery{RuleID: "1", UserID: "u"})
		require.Error(t, err)
	}
	registry := prometheus.NewRegistry()
	require.NoError(t, registry.Register(servicesOf{streamCollector{&stream{predictor: p}}}))
	families, err := registry.Gather()
	require.NoError(t, err)
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := strings.TrimPrefix(f.GetName(), "sortition_prediction_")
			for _, l := range m.Label {
				name += " " + l.GetValue()
			}
			got[name] = m.Counter.GetValue()
		}
	}
	require.Equal(t, map[string]float64{
		"calls_total": 3, "hits_total": 0, "shared_total": 0, "requests_total": 2, "retries_total": 1, "unknown_total": 0,
		"failures_total budget": 0, "failures_total status": 0, "failures_total reply": 0, "failures_total network": 1, "failures_total given_up": 2,
	}, got)
}
