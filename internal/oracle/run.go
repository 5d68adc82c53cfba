package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"sortition/decision"
)

// A run is one comparison: which cases, with what, and what came of it.
type run struct {
	cases          int
	perDatafile    int
	seed           uint64
	workers        int
	maxDifferences int
	python         string
	folder         string // of the differences
	version        string // of the SDK
	out            io.Writer

	next atomic.Int64 // datafile to do
	mu   sync.Mutex   // guards what follows, and out
	sum  summary
}

// summary is the account of a run.
type summary struct {
	datafiles, cases, compared, decisions, events, profiles int
	differences                                             int
	byRule                                                  map[rule]int
	met                                                     coverage
}

// errEnough ends a run that has found differences enough.
var errEnough = errors.New("enough differences")

// do compares all cases. Each worker has a process of the SDK and takes one datafile after the
// other.
func (r *run) do(ctx context.Context) error {
	r.sum.byRule, r.sum.met = map[rule]int{}, coverage{}
	g, ctx := errgroup.WithContext(ctx)
	for range r.workers {
		g.Go(func() error { return r.work(ctx) })
	}
	if err := g.Wait(); !errors.Is(err, errEnough) {
		return err
	}
	return nil
}

func (r *run) work(ctx context.Context) (err error) {
	s, err := startSDK(ctx, r.python)
	if err != nil {
		return err
	}
	defer func() {
		if end := s.close(); err == nil {
			err = end
		}
	}()
	j := &judge{sdk: s}
	datafiles := (r.cases + r.perDatafile - 1) / r.perDatafile
	for {
		i := int(r.next.Add(1)) - 1
		if i >= datafiles || ctx.Err() != nil {
			return ctx.Err()
		}
		if err := r.one(j, i, min(r.perDatafile, r.cases-i*r.perDatafile)); err != nil {
			return err
		}
	}
}

// one compares the cases of one datafile. What is generated depends on the seed and
// the datafile's number alone.
func (r *run) one(j *judge, index, n int) error {
	draws := seeded(r.seed, uint64(index))
	known, err := generate(draws)
	if err != nil {
		return err
	}
	b := &batch{Datafile: known.datafile}
	for k := range n {
		b.Cases = append(b.Cases, known.makeCase(draws, fmt.Sprintf("%d-%d-%d", r.seed, index, k)))
	}
	p, err := decision.Compile([]byte(b.Datafile))
	if err != nil {
		return r.report(&batch{b.Datafile, nil}, []difference{{"datafile", mustMarshal(err.Error()), nil}}, fmt.Sprintf("%d-%d", r.seed, index))
	}
	verdicts, err := j.judge(p, b)
	if errors.Is(err, errRefused) {
		return r.report(&batch{b.Datafile, nil}, []difference{{"datafile", nil, mustMarshal(err.Error())}}, fmt.Sprintf("%d-%d", r.seed, index))
	}
	if err != nil {
		return err
	}
	sum := summary{datafiles: 1, met: coverage{}}
	for i := range verdicts {
		v := &verdicts[i]
		sum.cases++
		if v.isSkipped {
			continue
		}
		sum.compared++
		sum.decisions += len(v.ours.Decisions)
		sum.events += len(v.ours.Events)
		if v.ours.Profile != nil {
			sum.profiles++
		}
		if err := j.observe(sum.met, p, known, &b.Cases[i], v); err != nil {
			return err
		}
	}
	r.add(&sum, verdicts)
	for i := range verdicts {
		if d := verdicts[i].differences; d != nil {
			if err := r.difference(j.sdk, b, i, d); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *run) add(s *summary, verdicts []verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sum.datafiles += s.datafiles
	r.sum.cases += s.cases
	r.sum.compared += s.compared
	r.sum.decisions += s.decisions
	r.sum.events += s.events
	r.sum.profiles += s.profiles
	r.sum.met.merge(s.met)
	for i := range verdicts {
		for _, name := range verdicts[i].rules {
			r.sum.byRule[name]++
		}
	}
}

// difference shrinks a case that differs and reports it. Where the case alone does not
// differ, one before it left something behind: then all up to it are kept.
func (r *run) difference(s asker, b *batch, i int, d []difference) error {
	small, found, err := shrink(s, b.Datafile, b.Cases[i], d[0].Part)
	if err != nil {
		return err
	}
	if found == nil {
		small, found = &batch{b.Datafile, b.Cases[:i+1]}, d
	}
	return r.report(small, found, b.Cases[i].ID)
}

// A reproduction is a difference as it is kept.
type reproduction struct {
	ID          string          `json:"id"`
	Seed        uint64          `json:"seed"`
	SDK         string          `json:"sdk"`
	Differences []difference    `json:"differences"`
	Cases       []testCase      `json:"cases"` // the last one differs
	Datafile    json.RawMessage `json:"datafile"`
}

func (r *run) report(b *batch, d []difference, id string) error {
	raw, err := json.MarshalIndent(reproduction{id, r.seed, r.version, d, b.Cases, json.RawMessage(b.Datafile)}, "", " ")
	if err != nil {
		return fmt.Errorf("encode a difference: %w", err)
	}
	name := filepath.Join(r.folder, "difference-"+id+".json")
	if err := os.MkdirAll(r.folder, 0o755); err != nil {
		return fmt.Errorf("keep a difference: %w", err)
	}
	if err := os.WriteFile(name, append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("keep a difference: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sum.differences++
	fmt.Fprintf(r.out, "\nDIFFERENCE %s, kept in %s\n", id, name)
	for _, one := range d {
		fmt.Fprintf(r.out, "  %s\n    ours %s\n    SDK  %s\n", one.Part, one.Ours, one.SDK)
	}
	if len(b.Cases) > 0 {
		fmt.Fprintf(r.out, "  case %s\n", mustMarshal(b.Cases[len(b.Cases)-1]))
	}
	fmt.Fprintf(r.out, "  datafile %s\n", b.Datafile)
	if r.sum.differences >= r.maxDifferences {
		return errEnough
	}
	return nil
}
