package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"sortition/decision"
	"sortition/internal/kafkatest"
	"sortition/pipeline"
	"sortition/schemas"
)

// devExplanation is why a decision of the stream is what it is.
type devExplanation struct {
	User, Flag, Revision string
	Text                 string // as `processor explain` prints it
	DatafileURL          string
	Command              string // that prints the same
	Activity             string // the record, as it was read
}

// explain finds the activity behind a decision record, and walks the flag's rules for
// its user once more, with the datafile and the segments of the time.
func (w *devWorld) explain(ctx context.Context, partition int, offset int64, flag string) (*devExplanation, error) {
	r := kafkatest.NewReader(w.broker.Addrs())
	defer r.Close()
	record, err := r.One(ctx, devTopics.Decisions, partition, offset)
	if err != nil {
		return nil, err
	}
	d, err := readDecision(record.Value)
	if err != nil {
		return nil, err
	}
	source, err := r.One(ctx, devTopics.Activities, d.Source.Partition, d.Source.Offset)
	if err != nil {
		return nil, err
	}
	p := w.datafile.project(d.Datafile)
	if p == nil {
		return nil, errors.New("its datafile is too long ago")
	}
	var a schemas.Activity
	var decoder schemas.Decoder
	if err := decoder.Decode(source.Value, &a); err != nil {
		return nil, err
	}
	var u decision.User
	u.Reset(p, a.UserID)
	for i := range a.Attributes {
		u.SetAttribute(a.Attributes[i].Key, pipeline.ValueOf(&a.Attributes[i].Value))
	}
	if d.Segments != nil {
		u.SetSegments(d.Segments)
	}
	for _, f := range a.Forced {
		u.SetForcedDecision(f.FlagKey, f.RuleKey, f.VariationKey)
	}
	var options decision.Options
	for _, name := range a.Options {
		option, _ := decision.ParseOption(name)
		options |= option
	}
	var pretty bytes.Buffer
	if json.Indent(&pretty, source.Value, "", "  ") != nil {
		pretty.Write(source.Value)
	}
	return &devExplanation{
		User: a.UserID, Flag: flag, Revision: p.Revision(), Text: renderExplanation(p.Explain(ctx, &u, flag, options, nil), ink{}),
		DatafileURL: "/api/datafile?digest=" + url.QueryEscape(p.Digest()), Activity: pretty.String(), Command: explainCommand(&a, source.Value, d.Segments, flag),
	}, nil
}

// explainCommand is the command line that explains the same.
func explainCommand(a *schemas.Activity, value []byte, segments []string, flag string) string {
	var wire struct {
		Attributes json.RawMessage `json:"attributes"`
	}
	words := []string{"processor explain --datafile d.json --flag", shellQuoted(flag), "--user", shellQuoted(a.UserID)}
	if json.Unmarshal(value, &wire) == nil && len(wire.Attributes) > 0 {
		words = append(words, "--attributes", shellQuoted(string(wire.Attributes)))
	}
	if segments != nil {
		words = append(words, "--segments", shellQuoted(strings.Join(segments, ",")))
	}
	for _, f := range a.Forced {
		target := f.FlagKey
		if f.RuleKey != "" {
			target += "/" + f.RuleKey
		}
		words = append(words, "--forced", shellQuoted(target+"="+f.VariationKey))
	}
	return strings.Join(words, " ")
}

// shellQuoted quotes a word for a POSIX shell, if it needs that.
func shellQuoted(word string) string {
	isPlain := word != "" && strings.IndexFunc(word, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.:/@,=", r)
	}) < 0
	if isPlain {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

var devExplainPage = template.Must(template.New("explain").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{{.Flag}} for {{.User}}</title>
<style>
:root{color-scheme:light dark;font:15px/1.5 system-ui,sans-serif}
body{margin:2rem auto;max-width:70rem;padding:0 1.25rem;background:light-dark(#f7f7f5,#16181d);color:light-dark(#1d2129,#e4e6eb)}
h1{font-size:1.3rem;margin:.2rem 0 1rem}h2{font-size:.95rem;margin:1.6rem 0 .4rem}
pre{background:light-dark(#fff,#1f2229);border:1px solid light-dark(#e2e2dd,#30343d);border-radius:8px;padding:1rem;overflow:auto;font:13px/1.45 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere}
a{color:light-dark(#1557b0,#8ab4f8)}
</style>
<a href="/">← all decisions</a>
<h1>Why does {{.User}} get this of {{.Flag}}?</h1>
<pre>{{.Text}}</pre>
<h2>The same from the command line</h2>
<pre>{{.Command}}</pre>
<p>with <a href="{{.DatafileURL}}" download="d.json">the datafile of revision {{.Revision}}</a> as d.json.</p>
<h2>The activity</h2>
<pre>{{.Activity}}</pre>
</html>
`))

func (p *devPage) explain(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	partition, err := strconv.Atoi(q.Get("partition"))
	offset, err2 := strconv.ParseInt(q.Get("offset"), 10, 64)
	if err := errors.Join(err, err2); err != nil || partition < 0 || offset < 0 || q.Get("flag") == "" {
		http.Error(w, "which decision? partition=, offset= and flag= are needed", http.StatusBadRequest)
		return
	}
	e, err := p.world.explain(r.Context(), partition, offset, q.Get("flag"))
	if err != nil {
		http.Error(w, fmt.Sprintf("can't be explained: %v", err), http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = devExplainPage.Execute(w, e)
}
