package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"slices"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"

	"sortition/decision"
	"sortition/schemas"
)

// Assign is the stage that decides activities and stores what comes of them. It is
// used by all partitions at once; each call borrows a worker, whose buffers have grown
// to the size of a batch.
type Assign struct {
	cfg       Config
	units     Units
	snapshots SnapshotSource
	logger    *slog.Logger
	counters  *counters
	spare     spareWorkers
	running   atomic.Int64 // calls of Handle under way
}

// NewAssign checks cfg. It starts nothing and takes over nothing. The logger gets
// failures, nothing per record; nil discards them.
func NewAssign(cfg Config, units Units, snapshots SnapshotSource, logger *slog.Logger) (*Assign, error) {
	cfg.setDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("pipeline: stage %s: %w", AssignActivities, err)
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	h := &Assign{cfg: cfg, units: units, snapshots: snapshots, logger: logger, counters: newCounters()}
	return h, nil
}

// newWorker makes a worker with empty buffers.
func (h *Assign) newWorker() *worker {
	cfg := &h.cfg
	w := &worker{Assign: h, batcher: NewEventBatcher(cfg.EventVisitors, cfg.EventBytes), settings: cfg.Settings}
	if cfg.Topics.ODPEvents != "" {
		w.odp = NewODPBatcher(cfg.ODP, cfg.EventBytes)
	}
	if cfg.Dedup != nil {
		w.exposures = cfg.Dedup.NewBatch()
	}
	env := decision.Env{}
	if cfg.Env != nil {
		env = *cfg.Env
	}
	if cfg.Profiles != nil {
		w.profiles = cfg.Profiles.newBatch()
		env.Profiles = w.profiles
	}
	if env.Predictor != nil {
		w.foresight = newForesight(env.Predictor, cfg.PredictionConcurrency, cfg.PredictionBudget)
		env.Predictor = w.foresight
	}
	w.settings.Env = &env
	w.renew()
	return w
}

// Name is the name of the handler.
func (*Assign) Name() string { return AssignActivities }

// Topic is what the stage reads.
func (h *Assign) Topic() string { return h.cfg.Topics.Activities }

// Stats returns the totals so far. Safe for concurrent use.
func (h *Assign) Stats() Stats { return h.counters.stats() }

func (h *Assign) underWay() int64 { return h.running.Load() }

// Handle works through one micro-batch.
func (h *Assign) Handle(msg *message.Message) error {
	h.running.Add(1)
	defer h.running.Add(-1)
	batch, _ := BatchOf(msg)
	err := h.bisect(msg.Context(), placeOf(msg, batch), batch)
	if err != nil {
		h.counters.repeats.Add(1)
	}
	return err
}

// bisect does a batch; if that panics, its halves, and so on, until the record that
// causes it is alone: it becomes a dead letter, its neighbours don't. (A panic while
// one record is decided is found without that, see worker.assign.)
func (h *Assign) bisect(ctx context.Context, p place, batch *Batch) error {
	err := h.attempt(ctx, p, batch, fate{})
	if !errors.Is(err, errPanicked) {
		return err
	}
	n := len(batch.Records)
	if n == 1 {
		return h.attempt(ctx, p, batch, fate{code: ReasonPanic, detail: panicDetail})
	}
	for _, half := range [][]Record{batch.Records[:n/2], batch.Records[n/2:]} {
		part := *batch
		part.Records = half
		if err := h.bisect(ctx, p, &part); err != nil {
			return err
		}
	}
	return nil
}

// errPanicked is the outcome of work that panicked; the log has the rest.
var errPanicked = errors.New("BUG: working on the batch panicked")

const panicDetail = "working on this record panicked; the log has the stack"

// attempt does a batch with a worker of its own. condemned, if it has a code, is the
// fate of all its records.
func (h *Assign) attempt(ctx context.Context, p place, batch *Batch, condemned fate) (err error) {
	w := h.spare.take()
	if w == nil {
		w = h.newWorker()
	}
	defer func() {
		if cause := recover(); cause != nil { // the worker is not used again
			logPanic(h.logger, cause, &p, &batch.Records[0])
			err = errPanicked
		}
	}()
	err = w.run(ctx, p, batch, condemned)
	w.batcher.Recycle(w.out.bodies)
	if w.odp != nil {
		w.odp.Recycle(w.out.odpBodies)
	}
	w.out.reset()
	h.spare.giveBack(w)
	return err
}

// A fate is what becomes of a record: the reason of its dead letter, or the zero
// fate: its outputs.
type fate struct {
	code   schemas.RejectCode
	detail string

	isUndecided bool // a decision record was refused
}

// worker decides one batch at a time.
type worker struct {
	*Assign
	settings  Settings // the stream's, with this worker's profiles
	assigner  *Assigner
	batcher   *EventBatcher
	odp       *ODPBatcher    // nil: ODP events are left out
	exposures *DedupBatch    // nil: every impression is sent
	profiles  *batchProfiles // nil: none
	foresight *foresight     // nil: every prediction fails

	decoder  schemas.Decoder
	activity schemas.Activity
	enriched enrichment
	out      outbox
	place    place
	revision []byte

	fates    []fate // of the batch's records
	visitors []int  // how many visitors had been added before each record, and after the last
	tally    tally
}

// renew gives up all state that a panic may have left in pieces.
func (w *worker) renew() {
	w.assigner = NewAssigner(w.settings)
	w.decoder = schemas.Decoder{}
	w.activity = schemas.Activity{}
}

// run decides a batch and stores what comes of it. Records of a condemned batch
// aren't looked at.
func (w *worker) run(ctx context.Context, p place, batch *Batch, condemned fate) error {
	w.place = p
	w.fates = slices.Grow(w.fates[:0], len(batch.Records))[:len(batch.Records)]
	for i := range w.fates {
		w.fates[i] = condemned
	}
	snapshot := w.snapshots.Snapshot()
	w.revision = append(w.revision[:0], snapshot.Project.Revision()...)
	w.restart()
	if w.profiles != nil {
		w.profiles.reset()
	}
	if condemned.code == "" {
		if err := w.enrich(ctx, batch); err != nil {
			return err
		}
		if err := w.foresee(ctx, batch, snapshot); err != nil {
			return err
		}
	}
	// A panic leaves half of a record's events behind, so the batch is made again
	// without that record. In the second pass there should be no panic left.
	for !w.build(ctx, batch, snapshot) {
		w.restart()
	}
	if err := ctx.Err(); err != nil {
		return err // given up: services asked while deciding may have answered nonsense
	}
	unit, err := w.units.Begin(ctx, batch)
	if err != nil {
		return fmt.Errorf("begin unit of work: %w", err)
	}
	isStored := false
	defer func() {
		if !isStored {
			unit.Abort(ctx)
		}
	}()
	if err := w.store(ctx, unit, batch); err != nil {
		return fmt.Errorf("store %d outputs of %d records: %w", len(w.out.outputs), len(batch.Records), err)
	}
	isStored = true
	if w.exposures != nil {
		w.exposures.Commit()
	}
	w.counters.done(&w.tally, w.fates)
	return nil
}

// restart takes back what has been made of the batch so far.
func (w *worker) restart() {
	w.out.reset()
	w.batcher.Flush()
	if w.odp != nil {
		w.odp.Recycle(w.odp.Flush())
	}
	if w.exposures != nil {
		w.exposures.Forget()
	}
	if w.profiles != nil {
		w.profiles.rewind()
	}
}

// build makes the outputs of a batch. It returns false if a record panicked that
// had not panicked before.
func (w *worker) build(ctx context.Context, batch *Batch, snapshot *Snapshot) bool {
	w.tally = tally{}
	w.visitors = w.visitors[:0]
	w.assigner.Use(snapshot)
	isClean := true
	for i := range batch.Records {
		w.visitors = append(w.visitors, w.batcher.Added())
		r := &batch.Records[i]
		if w.fates[i].code != ReasonPanic && !w.assign(ctx, r, i) {
			w.fates[i] = fate{code: ReasonPanic, detail: panicDetail}
			isClean = false
			w.renew()
			w.assigner.Use(snapshot)
		}
		if w.fates[i].code != "" {
			w.out.addDeadLetter(w.cfg.Topics.DeadLetters, &w.place, r, w.fates[i], i)
		}
	}
	if !isClean {
		return false
	}
	w.visitors = append(w.visitors, w.batcher.Added())
	bodies := w.batcher.Flush()
	for i := range bodies {
		w.out.addEvents(w.cfg.Topics.Events, &bodies[i], &batch.Records[w.recordOf(bodies[i].first)])
		w.tally.visitors += uint64(bodies[i].Visitors)
	}
	w.tally.bodies = uint64(len(bodies))
	if w.odp != nil {
		for _, body := range w.odp.Flush() {
			w.out.addODPEvents(w.cfg.Topics.ODPEvents, &body, w.revision, &batch.Records[w.odp.recordOf(&body)])
			w.tally.odpEvents += uint64(body.Events)
			w.tally.odpBodies++
		}
	}
	return true
}

// recordOf returns the record that a visitor comes from.
func (w *worker) recordOf(visitor int) int {
	// The last record before which no more than visitor visitors had been added.
	at, _ := slices.BinarySearchFunc(w.visitors, visitor, func(before, visitor int) int {
		if before <= visitor {
			return -1
		}
		return 1
	})
	return at - 1
}

// assign decides one record and adds its outputs; a record that can't be used gets
// its fate. It returns false if that panicked.
func (w *worker) assign(ctx context.Context, r *Record, index int) (ok bool) {
	defer func() {
		if !ok {
			logPanic(w.logger, recover(), &w.place, r)
		}
	}()
	if reject := w.decode(r); reject != nil {
		w.fates[index] = fate{code: reject.Code, detail: reject.Detail}
		return true
	}
	code, refused := w.giveSegments(index)
	if refused.code != "" {
		w.fates[index] = refused
		return true
	}
	if w.foresight != nil {
		w.foresight.record = index
	}
	a := w.assigner
	source := w.place.source(r)
	a.Assign(ctx, &w.activity, &source, recordTime(r))
	a.record.SegmentsError = code
	t := &w.tally
	t.records += uint64(w.out.addDecisions(w.cfg.Topics.Decisions, a, r, w.revision, index))
	unknown, suppressed := a.AddEvents(w.batcher, w.exposures)
	t.unknownEvents += uint64(unknown)
	t.suppressed += uint64(suppressed)
	t.flags += uint64(a.NumRows())
	t.unknownFields += uint64(w.activity.Unknown)
	if w.odp != nil {
		_, w.fates[index] = a.AddODPEvents(w.odp, index) // its dead letter stands beside the rest
	} else {
		t.odpLeftOut += uint64(len(w.activity.ODPEvents))
	}
	t.decided++
	return true
}

// logPanic says where and how, but not with what: a panic's own text may quote the
// record, except for the runtime's.
func logPanic(logger *slog.Logger, cause any, p *place, r *Record) {
	stack := debug.Stack()
	if relayed, ok := cause.(*relayedPanic); ok {
		cause, stack = relayed.cause, relayed.stack
	}
	what := fmt.Sprintf("%T", cause)
	if err, ok := cause.(error); ok {
		var fault runtime.Error
		if errors.As(err, &fault) {
			what = fault.Error()
		}
	}
	logger.Error("BUG: working on a record, or a batch from it on, panicked; what causes it becomes a dead letter", slog.String("panic", what),
		slog.String("topic", p.topic), slog.Int("partition", int(p.partition)), slog.Int64("offset", r.Offset),
		slog.String("stack", string(stack)))
}
