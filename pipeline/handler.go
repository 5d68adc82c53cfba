package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"

	"sortition/schemas"
)

// handler is the stage "assign". It is used by all partitions at once; each call
// borrows a worker, whose buffers have grown to the size of a batch.
type handler struct {
	cfg       *Config
	units     Units
	snapshots SnapshotSource
	logger    *slog.Logger
	counters  *counters
	workers   sync.Pool
	running   atomic.Int64 // calls of handle under way
}

func newHandler(cfg *Config, units Units, snapshots SnapshotSource, logger *slog.Logger) *handler {
	h := &handler{cfg: cfg, units: units, snapshots: snapshots, logger: logger, counters: newCounters()}
	h.workers.New = func() any {
		w := &worker{handler: h, batcher: NewEventBatcher(cfg.EventVisitors, cfg.EventBytes)}
		w.renew()
		return w
	}
	return h
}

// handle works through one micro-batch; nil means that everything is stored.
func (h *handler) handle(msg *message.Message) error {
	h.running.Add(1)
	defer h.running.Add(-1)
	batch, _ := BatchOf(msg)
	w, ok := h.workers.Get().(*worker)
	if !ok {
		panic("BUG: the pool holds something else")
	}
	// Not deferred: a worker that panicked is not used again.
	err := w.run(msg.Context(), placeOf(msg, batch), batch)
	w.batcher.Recycle(w.out.bodies)
	w.out.reset()
	h.workers.Put(w)
	if err != nil {
		h.counters.repeats.Add(1)
	}
	return err
}

// A fate is what becomes of a record: the reason of its dead letter, or the zero
// fate: its outputs.
type fate struct {
	code   schemas.RejectCode
	detail string
}

// worker decides one batch at a time.
type worker struct {
	*handler
	assigner *Assigner
	batcher  *EventBatcher
	decoder  schemas.Decoder
	activity schemas.Activity
	out      outbox
	place    place
	revision []byte

	fates    []fate // of the batch's records
	visitors []int  // how many visitors had been added before each record, and after the last
	tally    tally
}

// renew gives up all state that a panic may have left in pieces.
func (w *worker) renew() {
	w.assigner = NewAssigner(w.cfg.Settings)
	w.decoder = schemas.Decoder{}
	w.activity = schemas.Activity{}
}

// run decides a batch and stores what comes of it.
func (w *worker) run(ctx context.Context, p place, batch *Batch) error {
	w.place = p
	w.fates = slices.Grow(w.fates[:0], len(batch.Records))[:len(batch.Records)]
	clear(w.fates)
	snapshot := w.snapshots.Snapshot()
	w.revision = append(w.revision[:0], snapshot.Project.Revision()...)
	// A panic leaves half of a record's events behind, so the batch is made again
	// without that record. In the second pass there should be no panic left.
	for !w.build(ctx, batch, snapshot) {
		w.out.reset()
		w.batcher.Flush()
	}
	if err := ctx.Err(); err != nil {
		return err // given up: services asked while deciding may have answered nonsense
	}
	unit, err := w.units.Begin(ctx, batch)
	if err != nil {
		return fmt.Errorf("begin unit of work: %w", err)
	}
	if err := w.store(ctx, unit, batch); err != nil {
		unit.Abort(ctx)
		return fmt.Errorf("store %d outputs of %d records: %w", len(w.out.outputs), len(batch.Records), err)
	}
	w.counters.done(&w.tally, w.fates)
	return nil
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
			w.fates[i] = fate{code: ReasonPanic, detail: "deciding this record panicked; the log has the stack"}
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
			w.logPanic(recover(), r)
		}
	}()
	if reject := w.decode(r); reject != nil {
		w.fates[index] = fate{code: reject.Code, detail: reject.Detail}
		return true
	}
	a := w.assigner
	source := w.place.source(r)
	a.Assign(ctx, &w.activity, &source, recordTime(r))
	t := &w.tally
	t.records += uint64(w.out.addDecisions(w.cfg.Topics.Decisions, a, r, w.revision, index))
	t.unknownEvents += uint64(a.AddEvents(w.batcher))
	t.flags += uint64(a.NumRows())
	t.unknownFields += uint64(w.activity.Unknown)
	t.odpEvents += uint64(len(w.activity.ODPEvents))
	t.decided++
	return true
}

// logPanic says where and how, but not with what: a panic's own text may quote the
// record, except for the runtime's.
func (w *worker) logPanic(cause any, r *Record) {
	what := fmt.Sprintf("%T", cause)
	if err, ok := cause.(error); ok {
		var fault runtime.Error
		if errors.As(err, &fault) {
			what = fault.Error()
		}
	}
	w.logger.Error("BUG: deciding a record panicked; it becomes a dead letter", slog.String("panic", what),
		slog.String("topic", w.place.topic), slog.Int("partition", int(w.place.partition)), slog.Int64("offset", r.Offset),
		slog.String("stack", string(debug.Stack())))
}
