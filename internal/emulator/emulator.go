package emulator

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"sortition/sinks"
)

// Options of an [Emulator]. The zero value is an emulator without a datafile that
// keeps everything in memory.
type Options struct {
	// Datafile is served from the start, if not nil. It is not copied.
	Datafile []byte
	// SDKKey is its key. Default: the datafile's own sdkKey, or "local".
	SDKKey string
	// Token is what the authenticated route asks for. Default: it refuses everybody.
	Token string
	// ODPKey is the public key that ODP's routes ask for. Default: those of the
	// datafiles' integrations, and any but an empty one if they name none.
	ODPKey string
	// Seed is what predictions and segments come from when no table says what they are.
	Seed uint64
	// Dir keeps what is received and what was set; made if missing. Default: memory only.
	Dir string
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Logger hears of changes of state, never of users. Default: nobody.
	Logger *slog.Logger

	// Recorded is called with every attempt when it is recorded, one after the other, and
	// before it is answered. It must not change the attempt or call the emulator.
	Recorded func(*Attempt)

	MaxAttempts int   // attempts kept in memory; default 10,000
	MaxBytes    int64 // of their bodies; default 64 MiB
	MaxUUIDs    int   // event uuids that are counted one by one, and as many ids of ODP events; default 1,000,000
	FileBytes   int64 // size of a file in Dir at which the next is begun; default 64 MiB
}

// An Emulator is the cloud. Use [New]. Safe for concurrent use.
type Emulator struct {
	opts   Options
	log    *slog.Logger
	now    func() time.Time
	state  *state
	faults *faults
	inbox  *inbox
	mux    *http.ServeMux

	closeOnce sync.Once
	closing   chan struct{} // closed by Close; ends what hangs
}

// New makes an emulator, and opens Options.Dir if there is one. It starts nothing;
// Close it in the end.
func New(opts Options) (*Emulator, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.MaxAttempts <= 0 {
		opts.MaxAttempts = 10_000
	}
	if opts.MaxBytes <= 0 {
		opts.MaxBytes = 64 << 20
	}
	if opts.MaxUUIDs <= 0 {
		opts.MaxUUIDs = 1_000_000
	}
	if opts.FileBytes <= 0 {
		opts.FileBytes = 64 << 20
	}
	e := &Emulator{opts: opts, log: opts.Logger, now: opts.Now, faults: &faults{now: opts.Now}, closing: make(chan struct{})}
	var err error
	if e.state, err = openState(opts.Dir, opts.Seed, opts.Now); err != nil {
		return nil, err
	}
	if opts.Datafile != nil {
		if err := e.state.seedDatafile(opts.SDKKey, opts.Datafile); err != nil {
			return nil, err
		}
	}
	validator := sinks.NewValidator(sinks.ValidatorConfig{Against: e.state.catalog, MaxUUIDs: opts.MaxUUIDs})
	if e.inbox, err = openInbox(opts, validator); err != nil {
		return nil, err
	}
	e.mux = e.routes()
	return e, nil
}

// Close ends requests that hang, and closes the files. Requests that come later
// fail if there are files.
func (e *Emulator) Close() error {
	e.release()
	return e.inbox.close()
}

// release lets go of the requests that hang.
func (e *Emulator) release() { e.closeOnce.Do(func() { close(e.closing) }) }

// ServeHTTP answers all routes.
func (e *Emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) { e.mux.ServeHTTP(w, r) }

func (e *Emulator) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("/datafiles/", e.cloud(RouteDatafile, e.datafile))
	mux.Handle("/datafiles/auth/", e.cloud(RouteAuthDatafile, e.datafile))
	mux.Handle("/v1/events", e.cloud(RouteEvents, e.events))
	mux.Handle("/v3/graphql", e.cloud(RouteSegments, e.segments))
	mux.Handle("/v3/events", e.cloud(RouteODPEvents, e.odpEvents))
	mux.Handle("/predict/{rule}", e.cloud(RoutePredict, e.predict))
	e.adminRoutes(mux)
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /{$}", e.page)
	return mux
}

// SDKKey is the key of the datafile it was started with; "" without one.
func (e *Emulator) SDKKey() string { return e.state.firstKey() }

// SeedDatafile serves a datafile from the start, as Options.Datafile does: under
// the key, or if it is "" the datafile's own, or "local". If an earlier process
// with the same files was seeded with the same one, what it serves now stays.
// raw is not copied.
func (e *Emulator) SeedDatafile(key string, raw []byte) error {
	return e.state.seedDatafile(key, raw)
}

// Datafile returns what is served under a key, false if nothing is. The bytes are not
// to be changed.
func (e *Emulator) Datafile(key string) ([]byte, bool) {
	d := e.state.datafile(key)
	if d == nil {
		return nil, false
	}
	return d.Raw, true
}

// SetDatafile serves another datafile under a key. It takes anything, broken text
// too, so that clients can be tested with it; faults tells what is wrong with it.
// raw is not copied.
func (e *Emulator) SetDatafile(key string, raw []byte, options ...DatafileOption) (faults error, err error) {
	if key == "" {
		return nil, errors.New("set a datafile: it needs an SDK key")
	}
	d := newDatafile(key, raw)
	for _, o := range options {
		o(d)
	}
	if err := e.state.setDatafile(d); err != nil {
		return d.faults, fmt.Errorf("set a datafile: %w", err)
	}
	e.log.Info("datafile set", "revision", d.Revision, "valid", d.faults == nil)
	return d.faults, nil
}
