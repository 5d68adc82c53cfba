package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"

	"sortition/decision"
	"sortition/internal/fileio"
	"sortition/odp"
	"sortition/pipeline"
	"sortition/schemas"
)

// odpFlags are assign's flags about segments.
type odpFlags struct {
	ODP            bool   `name:"odp" help:"Fetch the audience segments of users whose activities don't name them, from the datafile's ODP integration."`
	ODPHost        string `name:"odp-host" placeholder:"URL" help:"Fetch from there instead of the integration's host: an emulator's."`
	ODPUserKey     string `name:"odp-user-key" default:"fs_user_id" placeholder:"NAME" help:"The identifier users are asked for by. It is looked up in the activity's identifiers; fs_user_id, if they don't name it, is the user_id."`
	ODPConcurrency int    `name:"odp-concurrency" default:"64" placeholder:"N" help:"Requests under way at once (64)."`
	ODPCacheSize   int    `name:"odp-cache-size" default:"100000" placeholder:"N" help:"Users whose segments are kept in memory (100000)."`
	ODPPolicy      string `name:"odp-policy" default:"unknown" placeholder:"POLICY" help:"When segments can't be had: unknown decides without them, and the record says why (default); hold asks until they can; dead_letter rejects the activity."`
}

const odpHelp = `
With --odp, segments are fetched for the activities that have none of their own, side by side and once per user for 10 minutes. If no
audience asks for a segment nothing is fetched. Failures are counted by class; segments_error in a record names it.
`

// assignODP fetches segments for a run. It is shared by the workers.
type assignODP struct {
	segments *odp.Segments
	userKey  string
	policy   odp.Policy
	fetched  atomic.Int64 // users whose segments are known now
	failures [256]atomic.Int64
}

// check reports what is wrong with the flags.
func (f *odpFlags) check() error {
	if !f.ODP {
		return nil
	}
	_, err := f.config()
	return err
}

func (f *odpFlags) config() (odp.Config, error) {
	cfg := odp.DefaultConfig()
	cfg.MaxInFlight, cfg.CacheSize, cfg.UserKey = f.ODPConcurrency, f.ODPCacheSize, f.ODPUserKey
	policy, err := odp.ParsePolicy(f.ODPPolicy)
	switch {
	case err != nil:
		err = fmt.Errorf("--odp-policy: %w", err)
	case policy == odp.Stale:
		err = errors.New("--odp-policy stale is for streams: a run has no old answers")
	}
	if fault := cfg.Validate(); fault != nil {
		err = errors.Join(err, fmt.Errorf("--odp: %w", fault))
	}
	return cfg, err
}

// open prepares the fetching; nil if nobody wants it. Close it.
func (f *odpFlags) open(ctx context.Context, p *decision.Project) (*assignODP, error) {
	if !f.ODP {
		return nil, nil
	}
	cfg, err := f.config()
	if err != nil {
		return nil, err
	}
	policy, err := odp.ParsePolicy(f.ODPPolicy)
	if err != nil {
		return nil, err
	}
	var i odp.Integration
	i.Host, i.PublicKey = p.ODP()
	i.Segments = p.Segments()
	if f.ODPHost != "" {
		i.Host = strings.TrimSuffix(f.ODPHost, "/")
	}
	if !i.IsIntegrated() {
		return nil, fmt.Errorf("--odp: %w: the datafile names no host or no public key", odp.ErrNotIntegrated)
	}
	segments, err := odp.NewSegments(cfg)
	if err != nil {
		return nil, err
	}
	segments.Update(ctx, i)
	return &assignODP{segments: segments, userKey: f.ODPUserKey, policy: policy}, nil
}

func (o *assignODP) close() {
	if o != nil {
		o.segments.Close()
	}
}

// progress says what was fetched so far, for the progress line.
func (o *assignODP) progress() string {
	if o == nil {
		return ""
	}
	s := o.segments.Stats()
	text := fmt.Sprintf("  %s asked", grouped(int64(s.Requests)))
	if failed := o.failed(); failed > 0 {
		text += fmt.Sprintf(", %s failed", grouped(failed))
	}
	if s.IsOpen {
		text += ", ODP is down"
	}
	return text
}

func (o *assignODP) failed() (n int64) {
	for i := range o.failures {
		n += o.failures[i].Load()
	}
	return n
}

// account says what came of the fetching.
func (o *assignODP) account(w io.Writer) {
	if o == nil {
		return
	}
	s := o.segments.Stats()
	fmt.Fprintf(w, "%-10s%s known, with %s\n", "segments", count(o.fetched.Load(), "activity", "activities"),
		count(int64(s.Requests), "request", "requests"))
	if failed := o.failed(); failed > 0 {
		var classes []string
		for _, class := range odp.Classes() {
			if n := o.failures[class].Load(); n > 0 {
				classes = append(classes, class.String()+" "+grouped(n))
			}
		}
		fmt.Fprintf(w, "%-10s%s unknown: %s\n", "", count(failed, "activity", "activities"), strings.Join(classes, ", "))
	}
}

// enriched is what a chunk's activities are to be given. Its lists are made for reuse.
type enriched struct {
	decoder schemas.Decoder
	of      []int // by line: index of the resolution, less than 0: none
	users   []odp.User
	ids     []byte
	ends    []int
	found   []odp.Resolution
}

// The lines that are not asked for.
const (
	asGiven      = -1 // the activity has segments, or can't be used
	noIdentifier = -2
)

// enrich finds out the segments of the chunk's users. It reads of the lines no more than
// that takes; each is decoded when it is decided.
func (w *assignWorker) enrich(ctx context.Context, file *inputFile) error {
	e := &w.enriched
	n := len(w.chunk.Lines)
	e.of, e.ends, e.users = slices.Grow(e.of[:0], n), slices.Grow(e.ends[:0], n), slices.Grow(e.users[:0], n)
	e.ids = e.ids[:0]
	for i := range w.chunk.Lines {
		line := &w.chunk.Lines[i]
		e.of = append(e.of, asGiven)
		var p schemas.Peek
		if !w.peek(file, line, w.chunk.Data[line.From:line.To], &p) || p.HasSegments {
			continue
		}
		id := p.Identifier
		if id == "" {
			if w.odp.userKey != odp.FSUserID {
				e.of[i] = noIdentifier
				continue
			}
			id = p.UserID
		}
		e.of[i] = len(e.ends)
		e.ids = append(e.ids, id...)
		e.ends = append(e.ends, len(e.ids))
	}
	ids, from := string(e.ids), 0
	for _, end := range e.ends {
		e.users = append(e.users, odp.User{Value: ids[from:end]})
		from = end
	}
	var err error
	e.found, err = w.odp.segments.AppendResolved(ctx, e.found[:0], e.users, w.odp.policy, 0)
	return err
}

// peek tells what enriching needs of a line; false if the line can't be used.
func (w *assignWorker) peek(file *inputFile, line *fileio.Line, data []byte, p *schemas.Peek) bool {
	d := &w.enriched.decoder
	switch {
	case line.Err != nil:
		return false
	case file.isCSV:
		var a schemas.Activity
		if file.columns.Decode(data, d, &a) != nil {
			return false
		}
		p.Of(&a, w.odp.userKey)
		return true
	}
	return d.Peek(nil, data, w.plan.mapping, w.odp.userKey, p)
}

// fetchThenEnter enriches the chunk, waits until the job may be decided, and takes a
// desk for it.
func (w *assignWorker) fetchThenEnter(ctx context.Context, job int64, file *inputFile) error {
	if err := w.enrich(ctx, file); err != nil {
		return err
	}
	d, ok := w.gate.enter(job)
	if !ok {
		if err := w.sequence.cause(); err != nil {
			return err
		}
		return context.Canceled
	}
	if d == nil {
		d = newDesk(w.assignment)
	}
	w.desk = d
	return nil
}

// giveSegments gives the activity of the i-th line its segments, or says why it has
// none: in its record, or as a reject instead of one.
func (w *assignWorker) giveSegments(i int) (class string, reject *schemas.Reject) {
	var r odp.Resolution
	switch at := w.enriched.of[i]; at {
	case asGiven:
		return "", nil
	case noIdentifier:
		r = odp.Resolution{Result: odp.Result{Err: odp.ErrInvalidIdentifier}, Verdict: odp.DecideUnknown}
		if w.odp.policy == odp.DeadLetter {
			r.Verdict = odp.Refuse
		}
	default:
		r = w.enriched.found[at]
	}
	if r.Verdict == odp.DecideKnown {
		w.odp.fetched.Add(1)
		w.activity.Segments, w.activity.HasSegments = r.Segments, true
		return "", nil
	}
	w.odp.failures[odp.ClassOf(r.Err)].Add(1)
	if r.Verdict == odp.Refuse {
		return "", &schemas.Reject{Code: pipeline.ReasonSegments, Detail: r.Code()}
	}
	return r.Code(), nil
}
