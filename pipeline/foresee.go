package pipeline

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"sortition/decision"
)

// foresight is the [decision.Predictor] of one worker: it knows what a batch will ask
// before the batch is decided. Asked one after another, a thousand predictions of 50 ms
// would hold their partition for 50 s.
//
//	rehearse every record: a prediction that isn't there yet is noted, and fails
//	fetch what was noted, side by side; if an answer leads on to another rule, rehearse again
//	decide every record: each prediction is there
//
// The answers are those of asking in the order of the records. What depends on that
// order is asked in it: predictions of one user and rule, which meet in the cache, and
// whatever stands before and after a reset of the cache. Only failures differ: of the
// same question, asked by the user's next record, the failure is the answer too.
//
// Source: cmab.md CM-P2, CM-P7; ADR 21.
type foresight struct {
	real        decision.Predictor
	concurrency int
	patience    patience

	record   int  // which record is decided now
	isNoting bool // this is a rehearsal

	asks    []ask
	index   map[askOf]int
	fetched int // asks before it are answered
	chains  map[chainOf]int
	heads   []int
}

// An ask is a prediction that a record needs. One record asks once for a rule: its next
// question would be the same, with the same id.
type ask struct {
	activity string // what PredictionID derives the id from
	query    decision.PredictionQuery
	next     int // the same user's next ask about the rule; 0: none

	isAnswered bool
	answer     decision.Prediction
	err        error
	panicked   *relayedPanic
}

type askOf struct {
	record int
	rule   string
}

type chainOf struct{ user, rule string }

var (
	_ decision.Predictor = (*foresight)(nil)

	errNotYet     = errors.New("the prediction isn't there yet")
	errNoPatience = errors.New("the batch has waited long enough for predictions")
)

// relayedPanic is what a predictor panicked with, elsewhere than where it is reported.
type relayedPanic struct {
	cause any
	stack []byte
}

func newForesight(real decision.Predictor, concurrency int, budget time.Duration) *foresight {
	f := &foresight{real: real, concurrency: concurrency, index: map[askOf]int{}, chains: map[chainOf]int{}}
	f.patience.budget, f.patience.slots = budget, concurrency
	return f
}

// reset forgets the batch.
func (f *foresight) reset() {
	const maxKept = 1 << 14 // a giant batch's room is not kept
	if len(f.asks) > maxKept {
		f.asks, f.index, f.chains, f.heads = nil, map[askOf]int{}, map[chainOf]int{}, nil
	}
	clear(f.asks)
	clear(f.index)
	f.asks, f.fetched = f.asks[:0], 0
	f.patience.reset()
}

// Predict answers what has been asked, and notes or asks what has not.
func (f *foresight) Predict(ctx context.Context, q *decision.PredictionQuery) (decision.Prediction, error) {
	of := askOf{f.record, q.RuleID}
	i, ok := f.index[of]
	if !ok {
		i = len(f.asks)
		activity, _ := ctx.Value(predictionKey{}).(string)
		f.asks = append(f.asks, ask{activity: activity, query: q.Clone()})
		f.index[of] = i
	}
	a := &f.asks[i]
	switch {
	case a.isAnswered:
	case f.isNoting:
		return decision.Prediction{}, errNotYet
	default: // a rehearsal can't know all: that of a record that panicked ends early
		f.follow(ctx, i, f.concurrency) // nothing goes beside it
	}
	if a.panicked != nil {
		panic(a.panicked)
	}
	return a.answer, a.err
}

// fetch asks for all that is noted. leadsOn tells that an answer is of no use to its
// rule, so that its flag goes on to the next, which may need a prediction too.
func (f *foresight) fetch(ctx context.Context) (leadsOn bool) {
	start := f.fetched
	for from := start; from < len(f.asks); {
		to := from
		for to < len(f.asks) && !resetsCache(&f.asks[to]) {
			to++
		}
		if to > from {
			f.sideBySide(ctx, from, to)
		} else { // nothing goes beside it: its time is that of all
			f.follow(ctx, from, f.concurrency)
			to++
		}
		from = to
	}
	f.fetched = len(f.asks)
	for i := start; i < f.fetched; i++ {
		a := &f.asks[i]
		leadsOn = leadsOn || a.isAnswered && a.panicked == nil && a.err == nil && !a.query.HasVariation(a.answer.VariationID)
	}
	return leadsOn
}

// resetsCache: with IgnoreCMABCache nothing is reset. Source: cmab.md CM-7.
func resetsCache(a *ask) bool {
	return a.query.Options.Has(decision.ResetCMABCache) && !a.query.Options.Has(decision.IgnoreCMABCache)
}

// sideBySide asks for a range of asks, those of one user and rule in their order.
func (f *foresight) sideBySide(ctx context.Context, from, to int) {
	f.heads = f.heads[:0]
	clear(f.chains)
	for i := from; i < to; i++ {
		a := &f.asks[i]
		if a.query.Options.Has(decision.IgnoreCMABCache) { // it meets nobody in the cache
			f.heads = append(f.heads, i)
			continue
		}
		of := chainOf{a.query.UserID, a.query.RuleID}
		if last, ok := f.chains[of]; ok {
			f.asks[last].next = i
		} else {
			f.heads = append(f.heads, i)
		}
		f.chains[of] = i
	}
	workers := min(f.concurrency, len(f.heads))
	if workers == 1 {
		for _, head := range f.heads {
			f.follow(ctx, head, 1)
		}
		return
	}
	var next atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(f.heads) {
					return
				}
				f.follow(ctx, f.heads[i], 1)
			}
		})
	}
	all.Wait()
}

// follow asks for one after another of a user and rule. Time that is lost to failures
// counts weight times.
func (f *foresight) follow(ctx context.Context, head, weight int) {
	var lost time.Duration
	var failed *ask // the one before, if it failed
	for i := head; ; i = f.asks[i].next {
		a := &f.asks[i]
		if failed != nil && isSameQuestion(&failed.query, &a.query) {
			a.err, a.isAnswered = failed.err, true
		} else if f.patience.isLost(lost) {
			f.ask(endedFor(ctx), a)
		} else if began, ok := f.patience.begin(a.query.RuleID); !ok {
			f.ask(endedFor(ctx), a)
		} else {
			f.ask(ctx, a)
			took := f.patience.end(a.query.RuleID, began, weight, a.err != nil)
			if a.err != nil {
				lost += took
			}
		}
		failed = nil
		if a.err != nil {
			failed = a
		}
		if a.next == 0 {
			return
		}
	}
}

// endedFor is a context in which a prediction comes from the cache, or not at all.
func endedFor(ctx context.Context) context.Context {
	ctx, end := context.WithCancelCause(ctx)
	end(errNoPatience)
	return ctx
}

// ask asks the real predictor. A panic is kept for the record it belongs to.
func (f *foresight) ask(ctx context.Context, a *ask) {
	a.isAnswered = true
	defer func() {
		if cause := recover(); cause != nil {
			a.panicked = &relayedPanic{cause, debug.Stack()}
		}
	}()
	a.answer, a.err = f.real.Predict(context.WithValue(ctx, predictionKey{}, a.activity), &a.query)
}

// isSameQuestion compares what a prediction may depend on, but for its id.
func isSameQuestion(a, b *decision.PredictionQuery) bool {
	if a.Options != b.Options || len(a.Attributes) != len(b.Attributes) {
		return false
	}
	var left, right []byte
	for i := range a.Attributes {
		x, y := &a.Attributes[i], &b.Attributes[i]
		left, right = x.Value.AppendJSON(left[:0]), y.Value.AppendJSON(right[:0])
		if x.ID != y.ID || x.Value.Kind() != y.Value.Kind() || string(left) != string(right) {
			return false
		}
	}
	return true
}

// foresee gets the predictions that the batch needs. Nothing else comes of it; a record
// that panics is left for the time when it is decided.
func (w *worker) foresee(ctx context.Context, batch *Batch, snapshot *Snapshot) error {
	f := w.foresight
	if f == nil {
		return nil
	}
	f.reset()
	if len(snapshot.bandits) == 0 {
		return nil
	}
	w.assigner.Use(snapshot)
	for leadsOn := true; leadsOn; leadsOn = f.fetch(ctx) && ctx.Err() == nil {
		f.isNoting = true
		for i := range batch.Records {
			if !w.rehearse(ctx, &batch.Records[i], i) {
				w.renew()
				w.assigner.Use(snapshot)
			}
		}
		f.isNoting = false
		if w.profiles != nil {
			w.profiles.rewind()
		}
	}
	return ctx.Err()
}

// rehearse decides those flags of a record that may need predictions. It returns false
// if that panicked.
func (w *worker) rehearse(ctx context.Context, r *Record, index int) (ok bool) {
	defer func() {
		if !ok {
			_ = recover() // it panics again when it counts, and is logged then
		}
	}()
	if w.decode(r) != nil {
		return true
	}
	if _, refused := w.giveSegments(index); refused.code != "" {
		return true
	}
	w.foresight.record = index
	source := w.place.source(r)
	w.assigner.rehearse(ctx, &w.activity, &source)
	return true
}
