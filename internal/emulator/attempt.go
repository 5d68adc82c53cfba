package emulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
	"unicode/utf8"

	"sortition/sinks"
)

// An Attempt is one request to the cloud, and what became of it. Slices and maps
// are shared and must not be changed.
type Attempt struct {
	Seq      int64 // 1, 2, … in the order they were recorded
	Time     time.Time
	Route    Route
	Method   string
	Path     string
	Header   http.Header
	Body     []byte
	Status   int    // answered; 0: no answer
	Fault    string // what went wrong on purpose, "" for nothing
	Accepted bool   // it took effect, whatever was answered
	Problems []sinks.Problem
	Visitors []Visitor // of the event endpoint

	repeats int
}

// attemptWire is an attempt in files and in the admin API.
type attemptWire struct {
	Seq        int64             `json:"seq"`
	Time       time.Time         `json:"time"`
	Route      Route             `json:"route"`
	Method     string            `json:"method"`
	Path       string            `json:"path"`
	Headers    map[string]string `json:"headers,omitempty"`
	Status     int               `json:"status"`
	Fault      string            `json:"fault,omitempty"`
	Accepted   bool              `json:"accepted"`
	Problems   []sinks.Problem   `json:"problems,omitempty"`
	Visitors   []Visitor         `json:"visitors,omitempty"`
	Repeats    int               `json:"repeats,omitempty"`
	Body       string            `json:"body,omitempty"`
	BodyBase64 []byte            `json:"body_base64,omitempty"` // a body that is not UTF-8
}

// secrets are the headers whose values leave the memory for no file and no page.
var secrets = map[string]bool{"Authorization": true, "X-Api-Key": true, "Cookie": true}

// wire makes the attempt's outer form; of header fields with several values it
// has the first.
func (a *Attempt) wire() attemptWire {
	w := attemptWire{
		Seq: a.Seq, Time: a.Time, Route: a.Route, Method: a.Method, Path: a.Path, Status: a.Status, Fault: a.Fault,
		Accepted: a.Accepted, Problems: a.Problems, Repeats: a.repeats, Headers: make(map[string]string, len(a.Header)),
	}
	for name := range a.Header {
		if w.Headers[name] = a.Header.Get(name); secrets[name] {
			w.Headers[name] = "(not kept)"
		}
	}
	if utf8.Valid(a.Body) {
		w.Body = string(a.Body)
	} else {
		w.BodyBase64 = a.Body
	}
	return w
}

// parseAttempt reads what wire made.
func parseAttempt(line []byte) (*Attempt, error) {
	var w attemptWire
	if err := json.Unmarshal(line, &w); err != nil {
		return nil, fmt.Errorf("read an attempt: %w", err)
	}
	a := &Attempt{
		Seq: w.Seq, Time: w.Time, Route: w.Route, Method: w.Method, Path: w.Path, Status: w.Status, Fault: w.Fault,
		Accepted: w.Accepted, Problems: w.Problems, Header: http.Header{}, Body: w.BodyBase64, repeats: w.Repeats,
	}
	if a.Body == nil {
		a.Body = []byte(w.Body)
	}
	for name, value := range w.Headers {
		a.Header.Set(name, value)
	}
	return a, nil
}
