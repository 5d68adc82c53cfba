package sinks

import (
	"encoding/json"
	"fmt"
	"net/url"
	"sync"

	"sortition/schemas"
)

// A Batch is one finished event batch: bytes to POST, and where to. Body is never
// changed by this package and must not be by anybody else: every attempt, and
// every attempt after a crash, sends the same bytes. Source: events.md EV-3,
// event-batching.md EB-4, EB-P3.
type Batch struct {
	Endpoint string // absolute http or https URL
	ID       string // id of its first event; "" if unknown. For people, never for logic
	Visitors int    // number of elements of "visitors"
	Body     []byte // one JSON object, UTF-8
}

// parseEndpoint checks an endpoint. The error doesn't repeat the URL, which may
// hold a password.
func parseEndpoint(endpoint string) (*url.URL, error) {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: not a URL", ErrEndpoint)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("%w: its scheme must be http or https", ErrEndpoint)
	case u.Host == "":
		return nil, fmt.Errorf("%w: it names no host", ErrEndpoint)
	}
	return u, nil
}

// CheckEndpoint tells whether batches can be sent to a URL. The error is
// [ErrEndpoint].
func CheckEndpoint(endpoint string) error {
	_, err := parseEndpoint(endpoint)
	return err
}

// CountVisitors counts the visitors of an event batch; false if body isn't one.
func CountVisitors(body []byte) (int, bool) {
	s, _ := scans.Get().(*scan)
	defer scans.Put(s)
	visitors, ok := s.visitors(body)
	return len(visitors), ok
}

// Split halves a batch. Both halves have the head of the whole, so nothing but
// the list of visitors differs, and every visitor keeps its bytes, uuid and
// timestamp included. It reports false if there is nothing to halve: a single
// visitor, or no event batch at all. Source: event-batching.md EB-P5.
func (b Batch) Split() (left, right Batch, ok bool) {
	s, _ := scans.Get().(*scan)
	defer scans.Put(s)
	visitors, ok := s.visitors(b.Body)
	n := len(visitors)
	if !ok || n < 2 {
		return b, Batch{}, false
	}
	half := n / 2
	head, tail := b.Body[:visitors[0].Start], b.Body[visitors[n-1].End:]
	part := func(visitors []schemas.Span) []byte {
		inner := b.Body[visitors[0].Start:visitors[len(visitors)-1].End]
		body := make([]byte, 0, len(head)+len(inner)+len(tail))
		return append(append(append(body, head...), inner...), tail...)
	}
	left = Batch{Endpoint: b.Endpoint, ID: b.ID, Visitors: half, Body: part(visitors[:half])}
	right = Batch{Endpoint: b.Endpoint, Visitors: n - half, Body: part(visitors[half:])}
	right.ID = firstUUID(b.Body[visitors[half].Start:visitors[half].End])
	return left, right, true
}

// firstUUID is the uuid of a visitor's first event, "" if it has none.
func firstUUID(visitor []byte) string {
	var v struct {
		Snapshots []struct {
			Events []struct {
				UUID string `json:"uuid"`
			} `json:"events"`
		} `json:"snapshots"`
	}
	if json.Unmarshal(visitor, &v) != nil || len(v.Snapshots) == 0 || len(v.Snapshots[0].Events) == 0 {
		return ""
	}
	return v.Snapshots[0].Events[0].UUID
}

// A scan is what looking for visitors takes, made for reuse.
type scan struct {
	decoder schemas.Decoder
	spans   []schemas.Span
}

var scans = sync.Pool{New: func() any { return new(scan) }}

// visitors finds the elements of the member "visitors" of a JSON object,
// without the commas and white space between them. It reports false for
// anything else, and for an object that has the member twice. They are valid until the
// next call.
func (s *scan) visitors(body []byte) ([]schemas.Span, bool) {
	var ok bool
	if s.spans, ok = s.decoder.Elements(s.spans[:0], body, visitorsName); ok {
		return s.spans, true
	}
	return findVisitorsSlowly(body)
}

const visitorsName = "visitors"

// findVisitorsSlowly is for bodies that are not what we make, but that JSON allows: with
// keys that come twice, halves of surrogates, or text that is not UTF-8.
func findVisitorsSlowly(body []byte) ([]schemas.Span, bool) {
	if !json.Valid(body) { // what follows may then rely on the grammar
		return nil, false
	}
	i := skipSpace(body, 0)
	if body[i] != '{' {
		return nil, false
	}
	var visitors []schemas.Span
	found := false
	for i = skipSpace(body, i+1); body[i] != '}'; {
		if body[i] == ',' {
			i = skipSpace(body, i+1)
		}
		keyEnd := skipValue(body, i)
		var key string
		if json.Unmarshal(body[i:keyEnd], &key) != nil {
			return nil, false
		}
		i = skipSpace(body, skipSpace(body, keyEnd)+1) // over the colon
		if key != visitorsName {
			i = skipSpace(body, skipValue(body, i))
			continue
		}
		if found || body[i] != '[' {
			return nil, false
		}
		found = true
		for i = skipSpace(body, i+1); body[i] != ']'; i = skipSpace(body, i) {
			if body[i] == ',' {
				i = skipSpace(body, i+1)
			}
			end := skipValue(body, i)
			visitors = append(visitors, schemas.Span{Start: i, End: end})
			i = end
		}
		i = skipSpace(body, i+1)
	}
	return visitors, found
}

// skipSpace is the place of the first byte at or after i that is no white space.
func skipSpace(s []byte, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\t' || s[i] == '\n' || s[i] == '\r') {
		i++
	}
	return i
}

// skipValue is the end of the value that starts at i. s is valid JSON.
func skipValue(s []byte, i int) int {
	depth := 0
	for i < len(s) {
		switch s[i] {
		case '"':
			for i++; s[i] != '"'; i++ {
				if s[i] == '\\' {
					i++
				}
			}
			i++
		case '{', '[':
			depth++
			i++
			continue
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\t', '\n', '\r':
			i++
			continue
		default: // a number or a name
			for i < len(s) && !isDelimiter(s[i]) {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
	return i
}

func isDelimiter(c byte) bool {
	switch c {
	case ',', ':', '}', ']', ' ', '\t', '\n', '\r':
		return true
	}
	return false
}
