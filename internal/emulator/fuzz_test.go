package emulator_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sortition/internal/emulator"
)

// Whatever is posted wherever: it answers, with JSON if with anything, and lists
// what it got.
func FuzzPost(f *testing.F) {
	paths := []string{"/v1/events", "/v3/graphql", "/v3/events", "/predict/30002", "/admin/faults", "/admin/segments", "/admin/predictions"}
	for i, seed := range []string{
		body(1, 2), `{"query":"` + segmentsQuery + `","variables":{"userId":"u","audiences":["vip"]}}`, "[" + odpEvent() + "]", predictionRequest("u", "gold"),
		`[{"route":"/v1/events","script":[500],"delay_ms":1}]`, `{"users":{"u":{"segments":["vip"]}},"rule":{"fraction":1}}`, `{"rule":"30002","variation_id":"1"}`,
	} {
		f.Add(uint8(i), []byte(seed))
	}
	e, err := emulator.New(emulator.Options{Datafile: []byte(datafile)})
	if err != nil {
		f.Fatal(err)
	}
	defer e.Close()
	f.Fuzz(func(t *testing.T, n uint8, text []byte) {
		e.ClearFaults()
		if err := e.Clear(); err != nil {
			t.Fatal(err)
		}
		path := paths[int(n)%len(paths)]
		call := func(method, path string, body string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(method, path, strings.NewReader(body))
			r.Header.Set("X-Api-Key", "pk-demo")
			w := httptest.NewRecorder()
			e.ServeHTTP(w, r)
			return w
		}
		w := call(http.MethodPost, path, string(text))
		if path == "/v1/events" && w.Code != 204 {
			t.Fatalf("status %d", w.Code)
		}
		if w.Body.Len() > 0 && !json.Valid(w.Body.Bytes()) {
			t.Fatalf("not JSON: %q", w.Body)
		}
		list := call(http.MethodGet, "/admin/attempts", "")
		var attempts []struct{ Body string }
		if err := json.Unmarshal(list.Body.Bytes(), &attempts); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(path, "/admin/") && len(attempts) != 1 {
			t.Fatalf("%d attempts", len(attempts))
		}
		if w := call(http.MethodGet, "/", ""); !strings.Contains(w.Body.String(), "</html>") {
			t.Fatal("the page is cut short")
		}
	})
}
