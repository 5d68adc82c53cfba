package emulator

import (
	_ "embed"
	"html/template"
	"net/http"
	"slices"
	"time"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"clock": func(t time.Time) string { return t.UTC().Format("15:04:05.000") },
}).Parse(pageText))

// pageAttempts is how many requests the page shows.
const pageAttempts = 200

// page answers GET /.
func (e *Emulator) page(w http.ResponseWriter, r *http.Request) {
	attempts := e.Attempts("")
	attempts = attempts[max(0, len(attempts)-pageAttempts):]
	slices.Reverse(attempts)
	datafiles := []datafileWire{}
	for _, d := range e.state.listDatafiles() {
		datafiles = append(datafiles, d.wire())
	}
	type fault struct {
		ID, Hits    int64
		Route, Name string
		Left        int
	}
	faults := []fault{}
	for _, f := range e.Faults() {
		faults = append(faults, fault{f.ID, f.Hits, f.Route, f.name() + f.conditions(), f.Left})
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	err := pageTemplate.Execute(w, map[string]any{
		"URLs": urlsAt("http://"+r.Host, e.SDKKey()), "Counts": e.Counts(), "Routes": routes,
		"Attempts": attempts, "Shown": pageAttempts, "Datafiles": datafiles, "Faults": faults,
	})
	if err != nil {
		e.log.Warn("page not written", "error", err) // the client is gone, as a rule
	}
}
