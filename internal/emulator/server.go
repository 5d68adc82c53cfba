package emulator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// URLs are what a client must be pointed at.
type URLs struct {
	Base         string `json:"base"`          // and the page
	Datafile     string `json:"datafile"`      // template with {sdk_key}
	AuthDatafile string `json:"auth_datafile"` // the same
	Events       string `json:"events"`
	ODP          string `json:"odp"`     // host, as a datafile's integration names it
	Predict      string `json:"predict"` // template with {} for the rule's id
	Admin        string `json:"admin"`
	SDKKey       string `json:"sdk_key"` // of the first datafile, "" if there is none
}

func urlsAt(base, sdkKey string) URLs {
	return URLs{
		Base: base, Datafile: base + "/datafiles/{sdk_key}.json", AuthDatafile: base + "/datafiles/auth/{sdk_key}.json",
		Events: base + "/v1/events", ODP: base, Predict: base + "/predict/{}", Admin: base + "/admin/", SDKKey: sdkKey,
	}
}

// Lines returns names and values, for people.
func (u URLs) Lines() [][2]string {
	return [][2]string{
		{"SDK key", u.SDKKey}, {"datafiles", u.Datafile}, {"with token", u.AuthDatafile}, {"events", u.Events},
		{"ODP host", u.ODP}, {"predictions", u.Predict}, {"admin", u.Admin}, {"page", u.Base + "/"},
	}
}

// shutdownGrace is how long requests may take to end when the server ends. Those
// that hang are let go at once.
const shutdownGrace = 5 * time.Second

// A Server is an emulator with an address.
type Server struct {
	*Emulator
	listener net.Listener
	base     string
}

// Listen takes an address, such as 127.0.0.1:0 for any free port. It answers
// nobody before Run.
func Listen(e *Emulator, addr string) (*Server, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("start the emulator: %w", err)
	}
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the emulator: %w", err), l.Close())
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost" // 0.0.0.0 is no address to point anybody at
	}
	u := url.URL{Scheme: "http", Host: net.JoinHostPort(host, port)}
	return &Server{Emulator: e, listener: l, base: u.String()}, nil
}

// URL is the server's base, such as http://127.0.0.1:40001.
func (s *Server) URL() string { return s.base }

// URLs are what a client must be pointed at.
func (s *Server) URLs() URLs { return urlsAt(s.base, s.SDKKey()) }

// Run serves until the context ends, and then returns nil when what was being
// answered is answered, or 5 seconds later. It closes the emulator. It can run once.
func (s *Server) Run(ctx context.Context) error {
	server := &http.Server{Handler: s.Emulator, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1) // 1: Serve can end when nobody waits for it any more
	go func() { done <- server.Serve(s.listener) }()
	var err error
	select {
	case err = <-done:
		err = fmt.Errorf("serve the emulator: %w", err)
		s.release()
	case <-ctx.Done():
		s.release()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
		defer cancel()
		if server.Shutdown(grace) != nil {
			err = server.Close()
		}
		if closed := <-done; !errors.Is(closed, http.ErrServerClosed) {
			err = errors.Join(err, closed)
		}
	}
	return errors.Join(err, s.Close())
}
