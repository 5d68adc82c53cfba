package emulator

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// adminHelp is what GET /admin/ says. It is the documentation of the admin API.
var adminHelp = []adminCall{
	{"GET /admin/", "this list, and the addresses to point clients at"},
	{"GET /admin/counts", "numbers of requests, events, uuids, repeats and problems"},
	{"GET /admin/attempts?route=/v1/events&accepted=true&after=SEQ&limit=N", "requests and what became of them, oldest first; all parameters are optional, limit is 1000"},
	{"DELETE /admin/attempts", "forget what was received, its files too, and count from zero"},
	{"GET /admin/events?after=SEQ&limit=N", "events of accepted bodies one by one, with the number of their attempt"},
	{"GET /admin/uuids", "how often each event uuid took effect"},
	{"GET /admin/datafiles", "what is served"},
	{"PUT /admin/datafiles/KEY?last_modified=TEXT&etag=TEXT", "serve the request's body, whatever it is; the parameters set headers, empty ones leave them out"},
	{"DELETE /admin/datafiles/KEY", "serve nothing under the key"},
	{"GET /admin/faults", "what goes wrong on purpose"},
	{"POST /admin/faults", `add a fault, or an array of them, or {"route":"/v1/events","script":[500,500,204]}; fields: route, times, fraction, seed, contains, min_bytes, limit {requests, per_ms}, status, headers, retry_after, body, broken_json, delay_ms, hang, cut (before, after, reply), takes_effect`},
	{"DELETE /admin/faults, DELETE /admin/faults/ID", "remove all faults, or one"},
	{"GET /admin/segments", "which users are in which segments"},
	{"POST /admin/segments", `set users: {"users":{"u1":{"segments":["vip"]},"u2":{"unknown":true}}}, and the rule for all others: {"rule":{"fraction":0.3,"unknown":false}}`},
	{"DELETE /admin/segments", "remove all users from the table"},
	{"GET /admin/predictions", "what the prediction service answers"},
	{"POST /admin/predictions", `{"rule":"30002","user":"u1","variation_id":"50012"}, or an array; without user for everybody`},
	{"DELETE /admin/predictions", "remove all predictions"},
}

type adminCall struct {
	Call string `json:"call"`
	Does string `json:"does"`
}

// adminLimit is the default number of things in a list.
const adminLimit = 1000

func (e *Emulator) adminRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /admin/{$}", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{"urls": urlsAt("http://"+r.Host, e.SDKKey()), "calls": adminHelp})
	})
	mux.HandleFunc("GET /admin/counts", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, e.Counts()) })
	mux.HandleFunc("GET /admin/attempts", e.adminAttempts)
	mux.HandleFunc("DELETE /admin/attempts", func(w http.ResponseWriter, _ *http.Request) { answer(w, nil, e.Clear()) })
	mux.HandleFunc("GET /admin/events", e.adminEvents)
	mux.HandleFunc("GET /admin/uuids", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, e.UUIDs()) })
	mux.HandleFunc("GET /admin/datafiles", e.adminDatafiles)
	mux.HandleFunc("PUT /admin/datafiles/{key}", e.adminSetDatafile)
	mux.HandleFunc("DELETE /admin/datafiles/{key}", func(w http.ResponseWriter, r *http.Request) {
		switch ok, err := e.state.removeDatafile(r.PathValue("key")); {
		case err == nil && !ok:
			adminError(w, http.StatusNotFound, errors.New("no datafile of this key"))
		default:
			answer(w, nil, err)
		}
	})
	mux.HandleFunc("GET /admin/faults", e.adminFaults)
	mux.HandleFunc("POST /admin/faults", e.adminAddFaults)
	mux.HandleFunc("DELETE /admin/faults", func(w http.ResponseWriter, _ *http.Request) { e.ClearFaults(); answer(w, nil, nil) })
	mux.HandleFunc("DELETE /admin/faults/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
		if err != nil || !e.RemoveFault(id) {
			adminError(w, http.StatusNotFound, errors.New("no fault of this id"))
			return
		}
		answer(w, nil, nil)
	})
	mux.HandleFunc("GET /admin/segments", func(w http.ResponseWriter, _ *http.Request) {
		users, rule := e.state.segmentTable()
		writeJSON(w, http.StatusOK, segmentsWire{Users: users, Rule: &rule})
	})
	mux.HandleFunc("POST /admin/segments", e.adminSetSegments)
	mux.HandleFunc("DELETE /admin/segments", func(w http.ResponseWriter, _ *http.Request) { answer(w, nil, e.state.clearUsers()) })
	mux.HandleFunc("GET /admin/predictions", func(w http.ResponseWriter, _ *http.Request) {
		e.state.mu.RLock()
		defer e.state.mu.RUnlock()
		writeJSON(w, http.StatusOK, e.state.listPredictions())
	})
	mux.HandleFunc("POST /admin/predictions", func(w http.ResponseWriter, r *http.Request) {
		var list oneOrMore[Prediction]
		if readJSON(w, r, &list) {
			answerWrong(w, nil, e.state.setPredictions(list))
		}
	})
	mux.HandleFunc("DELETE /admin/predictions", func(w http.ResponseWriter, _ *http.Request) { answer(w, nil, e.state.clearPredictions()) })
}

func (e *Emulator) adminAttempts(w http.ResponseWriter, r *http.Request) {
	after, limit, ok := page(w, r)
	if !ok {
		return
	}
	query := r.URL.Query()
	list := []attemptWire{}
	for _, a := range e.Attempts(query.Get("route")) {
		if a.Seq <= after || query.Has("accepted") && a.Accepted != (query.Get("accepted") == "true") {
			continue
		}
		if len(list) == limit {
			break
		}
		wire := a.wire()
		wire.Visitors = a.Visitors
		list = append(list, wire)
	}
	writeJSON(w, http.StatusOK, list)
}

func (e *Emulator) adminEvents(w http.ResponseWriter, r *http.Request) {
	after, limit, ok := page(w, r)
	if !ok {
		return
	}
	type event struct {
		Attempt int64 `json:"attempt"`
		Visitor
		Raw json.RawMessage `json:"raw"`
	}
	list := []event{}
	for _, a := range e.Received() {
		if a.Seq <= after {
			continue
		}
		if len(list) >= limit { // attempts are listed whole, so that "after" can go on
			break
		}
		for _, v := range a.Visitors {
			list = append(list, event{a.Seq, v, v.Raw})
		}
	}
	writeJSON(w, http.StatusOK, list)
}

func (e *Emulator) adminDatafiles(w http.ResponseWriter, _ *http.Request) {
	list := []datafileWire{}
	for _, d := range e.state.listDatafiles() {
		list = append(list, d.wire())
	}
	writeJSON(w, http.StatusOK, list)
}

type datafileWire struct {
	Key          string    `json:"sdk_key"`
	Revision     string    `json:"revision"`
	Bytes        int       `json:"bytes"`
	LastModified string    `json:"last_modified"`
	ETag         string    `json:"etag"`
	SetAt        time.Time `json:"set_at"`
	Valid        bool      `json:"valid"`
	Faults       []string  `json:"faults,omitempty"`
}

func (d *datafile) wire() datafileWire {
	w := datafileWire{Key: d.Key, Revision: d.Revision, Bytes: len(d.Raw), LastModified: d.LastModified, ETag: d.ETag, SetAt: d.SetAt, Valid: d.faults == nil}
	if d.faults != nil {
		w.Faults = strings.Split(d.faults.Error(), "\n")
	}
	return w
}

func (e *Emulator) adminSetDatafile(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequestBody))
	if err != nil {
		adminError(w, http.StatusBadRequest, errors.New("read the datafile: cut short, or more than 16 MiB"))
		return
	}
	var options []DatafileOption
	query := r.URL.Query()
	if query.Has("last_modified") {
		options = append(options, LastModified(query.Get("last_modified")))
	}
	if query.Has("etag") {
		options = append(options, ETag(query.Get("etag")))
	}
	key := r.PathValue("key")
	if _, err = e.SetDatafile(key, raw, options...); err != nil {
		answer(w, nil, err)
		return
	}
	if d := e.state.datafile(key); d != nil {
		answer(w, d.wire(), nil)
	}
}

func (e *Emulator) adminFaults(w http.ResponseWriter, _ *http.Request) {
	list := []faultWire{}
	for _, f := range e.Faults() {
		list = append(list, wireOf(f))
	}
	writeJSON(w, http.StatusOK, list)
}

func (e *Emulator) adminAddFaults(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequestBody))
	var all []Fault
	if err == nil {
		// All or none: a script with a hole would be another script.
		all, err = ParseFaults(text)
	}
	if err != nil {
		adminError(w, http.StatusBadRequest, err)
		return
	}
	ids := make([]int64, 0, len(all))
	for _, f := range all {
		id, err := e.AddFault(f)
		if err != nil {
			adminError(w, http.StatusBadRequest, err)
			return
		}
		ids = append(ids, id)
	}
	writeJSON(w, http.StatusOK, map[string]any{"ids": ids})
}

type segmentsWire struct {
	Users map[string]Segments `json:"users,omitempty"`
	Rule  *SegmentRule        `json:"rule,omitempty"`
}

func (e *Emulator) adminSetSegments(w http.ResponseWriter, r *http.Request) {
	var wire segmentsWire
	if !readJSON(w, r, &wire) {
		return
	}
	if wire.Rule != nil {
		if err := e.state.setRule(*wire.Rule); err != nil {
			adminError(w, http.StatusBadRequest, err)
			return
		}
	}
	answer(w, nil, e.state.setUsers(wire.Users))
}

// page reads the parameters of a list.
func page(w http.ResponseWriter, r *http.Request) (after int64, limit int, ok bool) {
	limit = adminLimit
	var err error
	if text := r.URL.Query().Get("after"); text != "" {
		if after, err = strconv.ParseInt(text, 10, 64); err != nil {
			adminError(w, http.StatusBadRequest, errors.New("after must be a number"))
			return 0, 0, false
		}
	}
	if text := r.URL.Query().Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 {
			adminError(w, http.StatusBadRequest, errors.New("limit must be a number from 1"))
			return 0, 0, false
		}
	}
	return after, limit, true
}

// oneOrMore takes an array, or a single element without one.
type oneOrMore[T any] []T

func (l *oneOrMore[T]) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '[' {
		var list []T
		err := strict(text, &list)
		*l = list
		return err
	}
	var one T
	err := strict(text, &one)
	*l = oneOrMore[T]{one}
	return err
}

func strict(text []byte, into any) error {
	dec := json.NewDecoder(strings.NewReader(string(text)))
	dec.DisallowUnknownFields()
	return dec.Decode(into)
}

func readJSON(w http.ResponseWriter, r *http.Request, into any) bool {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequestBody))
	if err == nil {
		err = strict(text, into)
	}
	if err != nil {
		adminError(w, http.StatusBadRequest, err)
		return false
	}
	return true
}

// answer says what came of a call that can fail only for reasons of our own.
func answer(w http.ResponseWriter, value any, err error) {
	switch {
	case err != nil:
		adminError(w, http.StatusInternalServerError, err)
	case value == nil:
		w.WriteHeader(http.StatusNoContent)
	default:
		writeJSON(w, http.StatusOK, value)
	}
}

// answerWrong says what came of a call that may have asked for something wrong.
func answerWrong(w http.ResponseWriter, value any, err error) {
	if err != nil {
		adminError(w, http.StatusBadRequest, err)
		return
	}
	answer(w, value, nil)
}

func adminError(w http.ResponseWriter, status int, err error) {
	writeJSON(w, status, map[string]string{"error": err.Error()})
}
