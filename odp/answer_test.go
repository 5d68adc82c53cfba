package odp

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sortition/internal/emulator"
)

// TestOutcomes is the outcome table of odp.md section 4, row by row, over HTTP.
func TestOutcomes(t *testing.T) {
	edges := func(nodes string) string {
		return `{"data":{"customer":{"audiences":{"edges":[` + nodes + `]}}}}`
	}
	const vip = `{"node":{"name":"vip","state":"qualified"}}`
	body := func(text string) emulator.Fault { return emulator.Fault{Status: 200, Body: text} }
	for _, row := range []struct {
		name           string
		fault          emulator.Fault
		want           []string
		class          Class
		classification string
	}{
		{name: "edges", fault: body(edges(vip + `,{"node":{"name":"b2","state":"not_qualified"}}`)), want: []string{"vip"}},
		{name: "order and duplicates", fault: body(edges(`{"node":{"name":"b2","state":"qualified"}},` + vip + "," + vip)), want: []string{"b2", "vip", "vip"}},
		{name: "state is case-sensitive", fault: body(edges(`{"node":{"name":"vip","state":"Qualified"}}`)), want: []string{}},
		{name: "no edges", fault: body(edges("")), want: []string{}},
		{name: "edge without state", fault: body(edges(vip + `,{"node":{"name":"b2"}}`)), class: DecodeError},
		{name: "qualified edge without name", fault: body(edges(`{"node":{"state":"qualified"}}`)), class: DecodeError},
		{name: "unqualified edge without name", fault: body(edges(`{"node":{"state":"not_qualified"}},` + vip)), want: []string{"vip"}},
		{name: "edge null", fault: body(edges(`null`)), class: DecodeError},
		{name: "customer null", fault: body(`{"data":{"customer":null}}`), class: DecodeError},
		{name: "customer missing", fault: body(`{"data":{}}`), class: DecodeError},
		{name: "data null", fault: body(`{"data":null}`), class: DecodeError},
		{name: "edges null", fault: body(`{"data":{"customer":{"audiences":{"edges":null}}}}`), class: DecodeError},
		{name: "edges missing", fault: body(`{"data":{"customer":{"audiences":{}}}}`), class: DecodeError},
		{name: "empty object", fault: body(`{}`), class: DecodeError},
		{name: "null", fault: body(`null`), class: DecodeError},
		{name: "array", fault: body(`[]`), class: DecodeError},
		{name: "string", fault: body(`"text"`), class: DecodeError},
		{name: "number", fault: body(`1`), class: DecodeError},
		{
			name:  "invalid identifier",
			fault: body(`{"errors":[{"extensions":{"classification":"DataFetchingException","code":"INVALID_IDENTIFIER_EXCEPTION"}}],"data":{"customer":null}}`), class: InvalidIdentifier,
		},
		{
			name:  "another classification",
			fault: body(`{"errors":[{"extensions":{"classification":"TestExceptionClass","code":"X"}}]}`), class: ServerError, classification: "TestExceptionClass",
		},
		{
			name:  "the classification alone is nothing special",
			fault: body(`{"errors":[{"extensions":{"classification":"InvalidIdentifierException"}}]}`), class: ServerError, classification: "InvalidIdentifierException",
		},
		{name: "code without classification", fault: body(`{"errors":[{"extensions":{"code":"INVALID_IDENTIFIER_EXCEPTION"}}]}`), class: DecodeError},
		{name: "errors empty", fault: body(`{"errors":[]}`), class: DecodeError},
		{name: "errors null", fault: body(`{"errors":null}`), class: DecodeError},
		{name: "no extensions", fault: body(`{"errors":[{"message":"m"}]}`), class: DecodeError},
		{name: "errors empty beside valid data", fault: body(`{"errors":[],` + edges(vip)[1:]), class: DecodeError},
		{
			name:  "errors beside valid data",
			fault: body(`{"errors":[{"extensions":{"classification":"C"}}],` + edges(vip)[1:]), class: ServerError, classification: "C",
		},
		{
			name:  "two errors",
			fault: body(`{"errors":[{"extensions":{"classification":"A"}},{"extensions":{"classification":"DataFetchingException","code":"INVALID_IDENTIFIER_EXCEPTION"}}]}`),
			class: ServerError, classification: "A",
		},
		{name: "204", fault: emulator.Fault{Status: 204}, class: JSONError},
		{name: "no JSON", fault: body(`<html>`), class: JSONError},
		{name: "broken JSON", fault: emulator.Fault{Status: 200, BrokenJSON: true}, class: JSONError},
		{name: "connection closed", fault: emulator.Fault{Cut: emulator.CutAfter}, class: NetworkError},
		{name: "connection closed amid the answer", fault: emulator.Fault{Cut: emulator.CutReply}, class: NetworkError},
		{name: "timeout", fault: emulator.Fault{Hang: true}, class: NetworkError},
	} {
		t.Run(row.name, func(t *testing.T) {
			em := newODP(t)
			require.NoError(t, em.SetSegments("u", "vip"))
			row.fault.Route = string(emulator.RouteSegments)
			_, err := em.AddFault(row.fault)
			require.NoError(t, err)
			s := newSegments(t, integrationOf(em, "vip", "b2"), func(c *Config) { c.RequestTimeout = 300 * time.Millisecond })
			r := s.Fetch(deadline(t), User{Value: "u"}, 0)
			require.Equal(t, row.class, ClassOf(r.Err), "%v", r.Err)
			if row.class == ClassNone {
				require.NoError(t, r.Err)
				require.Equal(t, row.want, r.Segments)
				return
			}
			require.Nil(t, r.Segments)
			var e *Error
			require.ErrorAs(t, r.Err, &e)
			require.Equal(t, row.classification, e.Classification)
			require.Len(t, queries(em), 1, "the SDKs don't ask twice, nor do we")
			require.NotContains(t, r.Err.Error(), testKey)
			// Failures are never kept. Source: odp.md OD-P4.
			s.Fetch(deadline(t), User{Value: "u"}, 0)
			require.Len(t, queries(em), 2)
		})
	}
}

// TestStatuses: every status but 2xx is an HTTP error, whatever the body.
func TestStatuses(t *testing.T) {
	em := newODP(t)
	s := newSegments(t, integrationOf(em, "vip"), func(c *Config) { c.BreakerFailures = 0 })
	for _, status := range []int{301, 307, 400, 401, 403, 404, 408, 425, 429, 500, 502, 503, 599} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			_, err := em.AddFault(emulator.Fault{
				Route: string(emulator.RouteSegments), Status: status, Times: 1, Header: map[string]string{"Location": em.URLs().Base},
				Body: `{"data":{"customer":{"audiences":{"edges":[]}}}}`,
			})
			require.NoError(t, err)
			before := len(em.Attempts(""))
			r := s.Fetch(deadline(t), User{Value: "u"}, 0)
			require.ErrorIs(t, r.Err, ErrHTTP)
			var e *Error
			require.ErrorAs(t, r.Err, &e)
			require.Equal(t, status, e.Status)
			require.Contains(t, r.Err.Error(), strconv.Itoa(status))
			require.Equal(t, status == 408 || status == 425 || status == 429 || status >= 500, IsTransient(r.Err))
			require.Len(t, em.Attempts(""), before+1)
		})
	}
}

// TestUnreachable: nobody listens, and hosts that aren't any.
func TestUnreachable(t *testing.T) {
	for host, class := range map[string]Class{
		"http://127.0.0.1:1": NetworkError, "not a host": InvalidHost, "http://[::1": InvalidHost, "https://": InvalidHost, "ftp://odp.test": InvalidHost, "http://%zz": InvalidHost,
	} {
		s := newSegments(t, Integration{Host: host, PublicKey: "k", Segments: []string{"vip"}}, nil)
		r := s.Fetch(deadline(t), User{Value: "user-17"}, 0)
		require.Equal(t, class, ClassOf(r.Err), "%s: %v", host, r.Err)
		require.NotContains(t, r.Err.Error(), "user-17")
	}
}

// TestRequest is the request of odp.md section 4.
func TestRequest(t *testing.T) {
	em := newODP(t)
	s := newSegments(t, integrationOf(em, "vip_buyers", `a "quoted" one`), nil)
	for _, u := range []User{{Value: "user-1"}, {Value: `"}){x}` + "\n\\ü"}, {Value: ""}, {Value: "vuid_1"}, {Key: VUID, Value: "vuid_1"}} {
		require.NoError(t, s.Fetch(deadline(t), u, 0).Err)
		all := queries(em)
		a := all[len(all)-1]
		require.Empty(t, a.Problems)
		require.Equal(t, http.MethodPost, a.Method)
		require.Equal(t, "/v3/graphql", a.Path)
		require.Equal(t, "application/json", a.Header.Get("Content-Type"))
		require.Equal(t, testKey, a.Header.Get("X-Api-Key"))
		var wire struct {
			Query     string
			Variables struct {
				UserID    string `json:"userId"`
				Audiences []string
			}
		}
		require.NoError(t, json.Unmarshal(a.Body, &wire))
		require.Equal(t, u.Value, wire.Variables.UserID)
		require.Equal(t, []string{"vip_buyers", `a "quoted" one`}, wire.Variables.Audiences)
		key := u.Key
		if key == "" {
			key = FSUserID // also for an id that looks like a VUID: odp.md OD-P2
		}
		require.Contains(t, wire.Query, "customer("+key+":$userId)")
		require.NotContains(t, wire.Query, "vip_buyers")
	}
}

// TestRequestRefusals: what can't be asked isn't, or it would ask for somebody else.
func TestRequestRefusals(t *testing.T) {
	em := newODP(t)
	s := newSegments(t, integrationOf(em, "vip"), nil)
	for _, u := range []User{{Value: "\xff"}, {Key: "a b", Value: "u"}, {Key: "x:$userId){}", Value: "u"}, {Key: "1a", Value: "u"}} {
		require.ErrorIs(t, s.Fetch(deadline(t), u, 0).Err, ErrInvalidIdentifier)
	}
	require.Empty(t, queries(em))
}

func TestLargeAnswer(t *testing.T) {
	em := newODP(t)
	_, err := em.AddFault(emulator.Fault{Route: string(emulator.RouteSegments), Body: `{"x":"` + strings.Repeat("x", maxAnswer) + `"}`})
	require.NoError(t, err)
	s := newSegments(t, integrationOf(em, "vip"), nil)
	require.ErrorIs(t, s.Fetch(deadline(t), User{Value: "u"}, 0).Err, ErrDecode)
}

// TestErrorNames: every class has a name, a sentence and is its own only.
func TestErrorNames(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Classes() {
		require.NotContains(t, c.String(), "class(")
		require.False(t, seen[c.String()])
		seen[c.String()] = true
		e := &Error{Class: c, Detail: "more"}
		require.NotEmpty(t, sentences[c])
		for _, sentinel := range []*Error{ErrNotReady, ErrDisabled, ErrNotIntegrated, ErrInvalidIdentifier, ErrDecode, ErrJSON, ErrHTTP, ErrNetwork, ErrServer, ErrInvalidHost, ErrCircuitOpen, ErrClosed, ErrInvalidEvent, ErrFull} {
			require.Equal(t, sentinel.Class == c, errors.Is(fetchError(e), sentinel))
		}
	}
	require.Contains(t, ErrDisabled.Error(), "not enabled") // the documentation's odpNotEnabled
}

// FuzzAnswer: no answer panics, and an answer that was understood is one.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"data":{"customer":{"audiences":{"edges":[{"node":{"name":"vip","state":"qualified"}}]}}}}`))
	f.Add([]byte(`{"errors":[{"extensions":{"classification":"C","code":"X"}}]}`))
	f.Add([]byte(" {\"data\" :{\"customer\":{\"audiences\":{\"edges\":[ {\"node\":{\"state\":\"qualified\",\"name\":\"vip\"}} ,\n{\"node\":{\"name\":\"b2\",\"state\":\"no\"}}]}}}} \n"))
	f.Add([]byte(`{"data":{"customer":{"audiences":{"edges":[]}}}}{}`))
	f.Add([]byte(`{"data":{"customer":{"audiences":{"edges":[{"node":{"name":"a","name":"qualified"}},]}}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		segments, err := parseAnswer(body)
		if quick, ok := parsePlain(body); ok {
			if whole, err := parseAny(body); err != nil || !slices.Equal(quick, whole) {
				t.Fatalf("%q: %v read in haste, %v and %v at leisure", body, quick, whole, err)
			}
		}
		if (err == nil) != (segments != nil) {
			t.Fatalf("%q: %v and %v", body, segments, err)
		}
		if err == nil && !json.Valid(body) {
			t.Fatalf("%q was understood", body)
		}
	})
}
