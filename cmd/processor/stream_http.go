package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sortition/decision/datafile"
)

// serveHTTP answers for metrics, health and the datafile's webhook until ctx is done.
// Without an address it only waits.
//
//	GET  /metrics   for Prometheus
//	GET  /healthz   200 while the process works
//	GET  /readyz    200 when it has its datafile, is a member of its groups, and brokers answer; else 503 and why
//	POST /webhooks/optimizely   if there is a webhook
func (s *stream) serveHTTP(ctx context.Context) error {
	if s.parts.listen == "" {
		return nil
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", s.parts.listen)
	if err != nil {
		return fmt.Errorf("http.listen: %w", err)
	}
	s.logger.Info("listening", slog.String("address", listener.Addr().String()))
	return serveUntil(ctx, listener, s.httpHandler(), s.logger, "metrics and health")
}

func (s *stream) httpHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{Registry: s.metrics.registry}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", s.answerReady)
	if s.webhook != nil {
		mux.Handle(datafile.WebhookPath, s.webhook)
	}
	return mux
}

// readiness is the answer of /readyz.
type readiness struct {
	Ready    bool     `json:"ready"`
	Waits    []string `json:"waits_for,omitempty"`
	Revision string   `json:"revision,omitempty"` // of the datafile in force
}

// ready tells whether the stream does its work, and what it waits for.
func (s *stream) ready(now time.Time) readiness {
	var r readiness
	if s.source != nil {
		if project := s.source.Current(); project == nil {
			r.Waits = append(r.Waits, "a datafile")
		} else {
			r.Revision = project.Revision()
		}
	}
	if !s.metrics.started.Load() {
		r.Waits = append(r.Waits, "brokers and topics")
	} else {
		for _, l := range s.legs {
			generations, state := l.subscriber.Stats().Generations, l.subscriber.State()
			if lacks := l.watch.look(generations, &state, now); lacks != "" {
				r.Waits = append(r.Waits, lacks+" of group "+s.parts.groupOf(l.stage.Name()))
			}
		}
	}
	r.Ready = len(r.Waits) == 0
	return r
}

func (s *stream) answerReady(w http.ResponseWriter, _ *http.Request) {
	r := s.ready(time.Now())
	w.Header().Set("Content-Type", "application/json")
	if !r.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(r)
}
