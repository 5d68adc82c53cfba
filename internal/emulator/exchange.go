package emulator

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// A Route is a part of the cloud, named by its path or what its paths begin with.
type Route string

// The routes.
const (
	RouteDatafile     Route = "/datafiles/"
	RouteAuthDatafile Route = "/datafiles/auth/"
	RouteEvents       Route = "/v1/events"
	RouteSegments     Route = "/v3/graphql"
	RouteODPEvents    Route = "/v3/events"
	RoutePredict      Route = "/predict/"
)

var routes = []Route{RouteDatafile, RouteAuthDatafile, RouteEvents, RouteSegments, RouteODPEvents, RoutePredict}

// maxRequestBody is what is read of a body at most. It is far beyond what the
// event endpoint takes, so that the validator can say "too large".
const maxRequestBody = 16 << 20

// A call is one request while it is worked on.
type call struct {
	r       *http.Request
	attempt *Attempt // its Body is the request's
}

// A reply is what shall be sent. A status of 4xx or 5xx means that the request
// had no effect.
type reply struct {
	status int
	header map[string]string
	body   []byte
}

// cloud wraps a route's handler with what all have: faults, and the record of
// each attempt, which is made before the answer goes out.
func (e *Emulator) cloud(route Route, handle func(*call) reply) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodOptions { // a browser asks before it posts
			h := w.Header()
			h.Set("Access-Control-Allow-Origin", "*")
			h.Set("Access-Control-Allow-Methods", "GET, POST")
			h.Set("Access-Control-Allow-Headers", "*")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		a := &Attempt{Time: e.now(), Route: route, Method: r.Method, Path: r.URL.Path, Header: r.Header.Clone()}
		hasBody := false
		if e.faults.needBody(r.URL.Path) {
			if hasBody = readBody(w, r, a); !hasBody {
				return
			}
		}
		fault := e.faults.pick(r.URL.Path, a.Body)
		if fault != nil {
			a.Fault = fault.name()
		}
		if fault != nil && fault.Cut == CutBefore {
			e.drop(w, a)
			return
		}
		if !hasBody && !readBody(w, r, a) {
			return
		}
		if fault != nil && !wait(r.Context(), e.closing, fault.Delay) {
			e.drop(w, a)
			return
		}
		answer := reply{status: http.StatusOK}
		if fault == nil || fault.hasEffect() {
			answer = handle(&call{r: r, attempt: a})
			a.Accepted = answer.status < 400
		}
		if fault != nil {
			answer = fault.apply(answer)
		}
		if fault == nil || !fault.isSilent() {
			a.Status = answer.status
		}
		if err := e.inbox.add(a); err != nil {
			e.log.Error("attempt not recorded", "error", err)
			answer = problem(http.StatusInternalServerError, "not recorded")
			fault = nil
		}
		switch {
		case fault == nil:
			send(w, r, answer)
		case fault.Hang:
			wait(r.Context(), e.closing, 365*24*time.Hour)
			cut(w)
		case fault.Cut == CutAfter:
			cut(w)
		case fault.Cut == CutReply:
			sendHalf(w, answer)
		default:
			send(w, r, answer)
		}
	})
}

// drop records an attempt that came to nothing, and closes its connection: to
// return without an answer would be a 200.
func (e *Emulator) drop(w http.ResponseWriter, a *Attempt) {
	if err := e.inbox.add(a); err != nil {
		e.log.Error("attempt not recorded", "error", err)
	}
	cut(w)
}

// readBody reads a request's body; false if it has answered already, or nobody
// is there to answer to.
func readBody(w http.ResponseWriter, r *http.Request, a *Attempt) bool {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequestBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		send(w, r, problem(http.StatusRequestEntityTooLarge, "too large"))
		return false
	}
	if a.Body = body; err != nil {
		cut(w)
	}
	return err == nil
}

// wait waits, or until the client or the emulator leaves: false then.
func wait(ctx context.Context, closing <-chan struct{}, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	case <-closing:
		return false
	}
}

func send(w http.ResponseWriter, r *http.Request, a reply) {
	writeHead(w, a)
	if r.Method != http.MethodHead && hasContent(a.status) {
		_, _ = w.Write(a.body) // the client may be gone
	}
}

func writeHead(w http.ResponseWriter, a reply) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	for name, value := range a.header {
		h.Set(name, value)
	}
	if hasContent(a.status) {
		h.Set("Content-Length", strconv.Itoa(len(a.body)))
	}
	w.WriteHeader(a.status)
}

func hasContent(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// cut closes the connection without an answer.
func cut(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		// No connection of its own, as in HTTP/2 or a test's recorder: say at least so.
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // at once, whatever is on its way
	}
	_ = conn.Close()
}

// sendHalf closes the connection amid the answer.
func sendHalf(w http.ResponseWriter, a reply) {
	if len(a.body) < 2 || !hasContent(a.status) {
		a.status, a.body = http.StatusOK, []byte(`{"cut":"here"}`)
	}
	writeHead(w, a)
	_, _ = w.Write(a.body[:len(a.body)/2])
	c := http.NewResponseController(w)
	_ = c.Flush()
	if conn, _, err := c.Hijack(); err == nil {
		_ = conn.Close()
	}
}
