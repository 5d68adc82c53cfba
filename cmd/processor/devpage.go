package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"sync"
	"time"
)

// devPage is the page of `processor dev`, and the JSON behind it:
//
//	GET  /                 the page: one file, nothing from elsewhere
//	GET  /api/state        a devState
//	POST /api/rollout      {"flag":"dark_mode","percent":100}: serve the next revision
//	GET  /api/datafile     the datafile in force, or that of ?digest=
//	GET  /explain          why the decision of a record is what it is: ?partition=&offset=&flag=
//	GET  /metrics, /healthz, /readyz   those of the stream
//
// It shows made-up users by name, and is for loopback.
type devPage struct {
	world    *devWorld
	listener net.Listener
	host     string // as it was asked for; "": any free port of loopback
	started  time.Time

	mu    sync.Mutex // guards meter
	meter devMeter
}

//go:embed dev.html
var devPageText []byte

func openDevPage(w *devWorld, addr string) (*devPage, error) {
	p := &devPage{world: w, started: time.Now()}
	if addr == "" {
		addr = "127.0.0.1:0"
	} else {
		p.host, _, _ = net.SplitHostPort(addr) // checked with the flags
	}
	var err error
	if p.listener, err = net.Listen("tcp", addr); err != nil {
		return nil, fmt.Errorf("--page: %w", err)
	}
	return p, nil
}

// url is where the page is.
func (p *devPage) url() string {
	host, port, _ := net.SplitHostPort(p.listener.Addr().String())
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port) + "/"
}

// run answers until ctx is done.
func (p *devPage) run(ctx context.Context) error {
	return serveUntil(ctx, p.listener, p.handler(), p.world.stream.logger, "the page")
}

func (p *devPage) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(devPageText)
	})
	mux.HandleFunc("GET /api/state", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, http.StatusOK, p.state()) })
	mux.HandleFunc("POST /api/rollout", p.rollOut)
	mux.HandleFunc("GET /api/datafile", p.datafile)
	mux.HandleFunc("GET /explain", p.explain)
	stream := p.world.stream.httpHandler()
	for _, path := range []string{"GET /metrics", "GET /healthz", "GET /readyz"} {
		mux.Handle(path, stream)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !p.isOurs(r.Host) {
			http.Error(w, "this page is not called so", http.StatusForbidden)
			return
		}
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'; form-action 'none'; base-uri 'none'")
		mux.ServeHTTP(w, r)
	})
}

// isOurs tells whether a request meant this server: a web site whose name somebody has
// pointed at loopback is not let in.
func (p *devPage) isOurs(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	return name == "localhost" || name == p.host || net.ParseIP(name) != nil
}

func (p *devPage) state() *devState {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.world.state(&p.meter, p.started)
}

// rollOut is the page's button. Another site's form can't press it: it can't send JSON
// without asking first.
func (p *devPage) rollOut(w http.ResponseWriter, r *http.Request) {
	var wish struct {
		Flag    string `json:"flag"`
		Percent *int   `json:"percent"`
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind != "application/json" {
		answerFault(w, http.StatusUnsupportedMediaType, errors.New("send application/json"))
		return
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&wish); err != nil || wish.Percent == nil {
		answerFault(w, http.StatusBadRequest, errors.New(`send {"flag":"KEY","percent":0 to 100}`))
		return
	}
	revision, err := p.world.datafile.rollOut(wish.Flag, *wish.Percent)
	if err != nil {
		answerFault(w, http.StatusBadRequest, err)
		return
	}
	answerJSON(w, http.StatusOK, map[string]string{"revision": revision})
}

func (p *devPage) datafile(w http.ResponseWriter, r *http.Request) {
	project := p.world.datafile.current()
	if digest := r.URL.Query().Get("digest"); digest != "" {
		project = p.world.datafile.project(digest)
	}
	if project == nil {
		answerFault(w, http.StatusNotFound, errors.New("no such datafile was in force lately"))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(project.Datafile())
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func answerFault(w http.ResponseWriter, status int, err error) {
	answerJSON(w, status, map[string]string{"error": err.Error()})
}
