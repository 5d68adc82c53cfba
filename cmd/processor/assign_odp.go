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
	nameless odp.Resolution // of activities without the identifier
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
	o := &assignODP{segments: segments, userKey: f.ODPUserKey, policy: policy}
	o.nameless = odp.Resolution{Result: odp.Result{Err: odp.ErrInvalidIdentifier}, Verdict: odp.DecideUnknown}
	if policy == odp.DeadLetter {
		o.nameless.Verdict = odp.Refuse
	}
	return o, nil
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
func (o *assignODP) account(w io.Writer, known int64) {
	if o == nil {
		return
	}
	s := o.segments.Stats()
	fmt.Fprintf(w, "%-10s%s known, with %s\n", "segments", count(known, "activity", "activities"),
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

// given is what a line's activity is to be given: the segments, or, if they aren't in
// the cache, what came of asking. Neither: nothing, because it has segments or can't be
// used.
type given struct {
	segments []string
	found    *odp.Resolution
}

// A query is a chunk's users, and those of them who aren't in the cache.
type query struct {
	lines []int // by user
	users []odp.User
	ids   []byte
	ends  []int
	found []odp.Resolution
}

// workAhead decides chunks whose segments are known, and takes more of them as long as
// there are none.
func (w *assignWorker) workAhead(ctx context.Context) error {
	for {
		var m move
		m, w.task, w.desk = w.ahead.next()
		switch m {
		case leave:
			return nil
		case read:
			err := w.take(ctx)
			if errors.Is(err, io.EOF) {
				w.ahead.joined(nil)
				continue
			}
			if err != nil {
				return err
			}
			w.ahead.joined(w.task)
			if w.lookUp() {
				w.ahead.ready(w.task)
				continue
			}
			t := w.task
			w.start(ctx, func(ctx context.Context) error { return w.ask(ctx, t) })
		case decide:
			if err := w.decide(ctx); err != nil {
				return err
			}
			w.ahead.left(w.task, w.desk)
		}
	}
}

// lookUp gives the task's lines the segments that are in the cache. It reads of the
// lines no more than that takes; each is decoded when it is decided. isAll tells that
// nobody has to be asked for; else it is those in the query.
func (w *assignWorker) lookUp() (isAll bool) {
	t, a := w.task, &w.query
	n := len(t.chunk.Lines)
	t.given = slices.Grow(t.given[:0], n)[:n]
	clear(t.given)
	a.lines, a.users, a.ends, a.ids = a.lines[:0], a.users[:0], a.ends[:0], a.ids[:0]
	for i := range t.chunk.Lines {
		line := &t.chunk.Lines[i]
		var p schemas.Peek
		if !w.peek(t.file, line, t.chunk.Data[line.From:line.To], &p) || p.HasSegments {
			continue
		}
		id := p.Identifier
		if id == "" {
			if w.odp.userKey != odp.FSUserID {
				t.given[i].found = &w.odp.nameless
				continue
			}
			id = p.UserID
		}
		a.ids = append(a.ids, id...)
		a.ends = append(a.ends, len(a.ids))
		a.lines = append(a.lines, i)
	}
	ids, from := string(a.ids), 0
	for _, end := range a.ends {
		a.users = append(a.users, odp.User{Value: ids[from:end]})
		from = end
	}
	others := 0
	w.odp.segments.Known(a.users, func(i int, segments []string, isKnown bool) {
		if isKnown {
			t.given[a.lines[i]].segments = segments
			return
		}
		a.lines[others], a.users[others] = a.lines[i], a.users[i]
		others++
	})
	a.lines, a.users = a.lines[:others], a.users[:others]
	return others == 0
}

// ask finds out the segments of those who aren't in the cache.
func (a *assignment) ask(ctx context.Context, t *task) (err error) {
	q := &t.query
	if q.found, err = a.odp.segments.AppendResolved(ctx, q.found[:0], q.users, a.odp.policy, 0); err != nil {
		return err
	}
	for i, line := range q.lines {
		t.given[line].found = &q.found[i]
	}
	a.ahead.ready(t)
	return nil
}

// peek tells what enriching needs of a line; false if the line can't be used.
func (w *assignWorker) peek(file *inputFile, line *fileio.Line, data []byte, p *schemas.Peek) bool {
	switch {
	case line.Err != nil:
		return false
	case file.isCSV:
		var a schemas.Activity
		if file.columns.Decode(data, &w.peeker, &a) != nil {
			return false
		}
		p.Of(&a, w.odp.userKey)
		return true
	}
	return w.peeker.Peek(nil, data, w.plan.mapping, w.odp.userKey, p)
}

// giveSegments gives the activity of the i-th line its segments, or says why it has
// none: in its record, or as a reject instead of one.
func (w *assignWorker) giveSegments(i int) (class string, reject *schemas.Reject) {
	segments, r := w.given[i].segments, w.given[i].found
	if r != nil && r.Verdict == odp.DecideKnown {
		segments = r.Segments
	}
	switch {
	case segments != nil:
		w.out.totals.known++
		w.activity.Segments, w.activity.HasSegments = segments, true
		return "", nil
	case r == nil:
		return "", nil
	}
	w.odp.failures[odp.ClassOf(r.Err)].Add(1)
	if r.Verdict == odp.Refuse {
		return "", &schemas.Reject{Code: pipeline.ReasonSegments, Detail: r.Code()}
	}
	return r.Code(), nil
}
