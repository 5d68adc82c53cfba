package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"time"

	"sortition/internal/fileio"
	"sortition/pipeline"
	"sortition/schemas"
)

// An assignment is one run of assign. Workers take chunks of the input in turn,
// decide them side by side, and write in the order of the input.
//
// What is in memory is bounded: a chunk per worker, results that wait for their
// turn, and of one result no more than flushBytes before it must be written.
type assignment struct {
	plan     *assignPlan
	outputs  *outputs
	snapshot *pipeline.Snapshot
	sequence *sequence
	started  time.Time

	reading sync.Mutex // held to take a chunk; before sequence.mu
	inputs  *inputs
	jobs    int64

	deliver func(*result) error // takes the event bodies of what is written; nil: nobody does

	odp   *assignODP // nil: no segments are fetched
	ahead *ahead     // of deciding, with odp

	running sync.WaitGroup // workers, and whoever waits for segments

	totals totals // belongs to whoever writes
	live   liveCounts
}

// The bounds of what waits for a slower chunk before it: per worker, chunks and
// bytes of results. They span some milliseconds, in which a worker may be without
// a processor on a busy machine.
const (
	windowPerWorker = 16
	heldPerWorker   = 4 << 20
)

// flushBytes is how large a result may grow before its worker waits for its turn
// and writes what there is.
const flushBytes = 2 << 20

func newAssignment(plan *assignPlan, o *outputs, std stdio) *assignment {
	a := &assignment{
		plan: plan, outputs: o, snapshot: pipeline.NewSnapshot(plan.project), inputs: newInputs(plan, std.in), started: time.Now(),
	}
	a.ahead = newAhead(plan.ahead)
	a.sequence = newSequence(plan.workers*windowPerWorker+plan.ahead, plan.workers*heldPerWorker, a.write)
	return a
}

// grace is how long an interrupted run waits for its workers. They end with the
// chunk they are at; only one that sits in a read or write that can't be woken,
// of a terminal or a stalled pipe, takes longer and ends with the process.
const grace = 300 * time.Millisecond

// work runs the workers and returns the first error.
func (a *assignment) work(ctx context.Context) error {
	if a.plan.settings.Layout == pipeline.CSVRow {
		if _, err := a.outputs.decisions.Write([]byte(schemas.DecisionCSVHeader + "\n")); err != nil {
			return err
		}
	}
	cancel := context.AfterFunc(ctx, func() {
		a.sequence.fail(ctx.Err())
		a.ahead.stop()
	})
	defer cancel()
	for range a.plan.workers {
		if a.odp == nil {
			a.start(ctx, (&assignWorker{assignment: a, desk: newDesk(a), task: &task{}}).work)
			continue
		}
		a.ahead.desks = append(a.ahead.desks, newDesk(a))
	}
	if a.odp != nil {
		// One more than there are desks: all are served also while one waits for input.
		for range a.plan.workers + 1 {
			a.start(ctx, (&assignWorker{assignment: a}).workAhead)
		}
	}
	done := make(chan struct{}) // closed, never sent to
	go func() {
		a.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		select {
		case <-done:
		case <-time.After(grace):
			return ctx.Err()
		}
	}
	a.inputs.close()
	a.totals.blank += a.inputs.blank
	return a.sequence.cause()
}

// write writes a result. The sequence sees to it that one worker does at a time,
// in order.
func (a *assignment) write(r *result) error {
	for _, part := range []struct {
		to   *fileio.Output
		data []byte
	}{{a.outputs.decisions, r.decisions}, {a.outputs.events, r.events}, {a.outputs.rejects, r.rejects}} {
		if len(part.data) > 0 && part.to != nil {
			if _, err := part.to.Write(part.data); err != nil {
				return err
			}
		}
	}
	if a.deliver != nil {
		if err := a.deliver(r); err != nil {
			return err
		}
	}
	a.totals.add(&r.totals)
	a.live.activities.Store(a.totals.activities)
	return nil
}

// A result is what came of a chunk, or of a part of it.
type result struct {
	decisions, events, rejects []byte
	bodies                     []bodyMark // in events, if they are delivered
	totals                     totals
}

func (r *result) size() int { return len(r.decisions) + len(r.events) + len(r.rejects) }

// reset empties the result. Buffers that one giant activity has blown up go.
func (r *result) reset() {
	for _, buffer := range []*[]byte{&r.decisions, &r.events, &r.rejects} {
		*buffer = (*buffer)[:0]
		if cap(*buffer) > 2*flushBytes {
			*buffer = nil
		}
	}
	r.bodies = r.bodies[:0]
	r.totals.reset()
}

// A desk is what deciding takes and can't be shared. It has some MB of buffers; of the
// workers who fetch segments only those have one who are deciding.
type desk struct {
	assigner *pipeline.Assigner
	batcher  *pipeline.EventBatcher
	decoder  schemas.Decoder
	activity schemas.Activity
	out      *result
	unsent   int // about how many bytes of visitors the batcher holds
}

func newDesk(a *assignment) *desk {
	d := &desk{assigner: pipeline.NewAssigner(a.plan.settings), batcher: pipeline.NewEventBatcher(0, 0), out: &result{}}
	d.assigner.Use(a.snapshot)
	return d
}

// A task is a chunk of the input and what is known of its lines. It is made for reuse.
type task struct {
	job   int64 // its number
	file  *inputFile
	chunk fileio.Chunk

	given   []given // by line, with ODP
	query   query
	isReady bool // belongs to the ahead
}

// An assignWorker takes chunks, and decides them at its desk. With ODP it has desk and
// task only for as long as it takes.
type assignWorker struct {
	*assignment
	*desk
	*task
	peeker schemas.Decoder
}

// start runs a part of the work beside the others. When it fails, all is over.
func (a *assignment) start(ctx context.Context, work func(context.Context) error) {
	a.running.Go(func() {
		if err := guarded(ctx, work); err != nil {
			a.sequence.fail(err)
			a.ahead.stop()
		}
	})
}

// guarded turns a panic into an error.
func guarded(ctx context.Context, work func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("BUG: %v\n%s", p, debug.Stack())
		}
	}()
	return work(ctx)
}

// work takes chunks until there are no more.
func (w *assignWorker) work(ctx context.Context) error {
	for {
		err := w.take(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := w.decide(ctx); err != nil {
			return err
		}
	}
}

// decide decides the chunk and hands over what came of it.
func (w *assignWorker) decide(ctx context.Context) (err error) {
	if err = w.assign(ctx); err != nil {
		return err
	}
	w.out, err = w.sequence.put(w.job, w.out)
	return err
}

// take reads the next chunk into the task.
func (w *assignWorker) take(ctx context.Context) (err error) {
	w.reading.Lock()
	defer w.reading.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	w.job = w.jobs
	if err := w.sequence.admit(w.job); err != nil {
		return err
	}
	if w.file, err = w.inputs.next(&w.chunk); err != nil {
		return err
	}
	w.jobs++
	if w.chunk.IsCut {
		return w.passLongLine()
	}
	return nil
}

// passLongLine rejects a line that is too long to be held: in its turn, straight
// from the input to the rejects. The others can't read meanwhile.
func (w *assignWorker) passLongLine() error {
	if err := w.sequence.turn(w.job); err != nil {
		return err
	}
	file := w.file
	line := &w.chunk.Lines[0]
	reject := rejectOf(line.Err)
	w.totals.reject(file, line.Number, reject)
	w.chunk.Lines = w.chunk.Lines[:0]
	if w.outputs.rejects == nil {
		return file.cutter.Rest(io.Discard)
	}
	head := appendRejectHead(nil, file.base, line.Number, reject)
	if _, err := w.outputs.rejects.Write(append(head, `,"input_base64":"`...)); err != nil {
		return err
	}
	text := base64.NewEncoder(base64.StdEncoding, w.outputs.rejects)
	if _, err := text.Write(w.chunk.Data); err != nil {
		return err
	}
	if err := file.cutter.Rest(text); err != nil {
		return err
	}
	if err := text.Close(); err != nil {
		return err
	}
	_, err := w.outputs.rejects.Write([]byte("\"}\n"))
	return err
}

// assign decides the chunk.
func (w *assignWorker) assign(ctx context.Context) error {
	file := w.file
	out, csv := w.out, w.plan.settings.Layout
	out.totals.blank += int64(w.chunk.Blank)
	source := schemas.Source{File: file.base}
	for i := range w.chunk.Lines {
		line := &w.chunk.Lines[i]
		data := w.chunk.Data[line.From:line.To]
		var unknown string // why segments aren't known
		var reject *schemas.Reject
		if err := w.decode(file, line, data); err != nil {
			reject = rejectOf(err)
		} else if w.odp != nil {
			unknown, reject = w.giveSegments(i)
		}
		if reject != nil {
			out.totals.reject(file, line.Number, reject)
			if w.outputs.rejects != nil {
				out.rejects = appendReject(out.rejects, file.base, line.Number, reject, data)
			}
		} else {
			source.Line = line.Number
			w.assigner.Assign(ctx, &w.activity, &source, w.plan.now)
			w.assigner.Record().SegmentsError = unknown
			out.totals.activities++
			out.totals.unknownFields += int64(w.activity.Unknown)
			out.totals.odpEvents += int64(len(w.activity.ODPEvents))
			out.totals.decisions += int64(w.assigner.NumRows())
			if csv == pipeline.Nested {
				out.decisions = append(w.assigner.AppendRecord(out.decisions), '\n')
			} else {
				for row := range w.assigner.NumRows() {
					out.decisions = append(w.assigner.AppendRow(out.decisions, row), '\n')
				}
			}
			if w.plan.hasEvents {
				w.addEvents(len(data))
			}
		}
		if out.size() >= flushBytes {
			if err := w.sequence.turn(w.job); err != nil {
				return err
			}
			if err := w.write(out); err != nil {
				return err
			}
			out.reset()
		}
	}
	w.flushEvents()
	return nil
}

func (w *assignWorker) decode(file *inputFile, line *fileio.Line, data []byte) error {
	switch {
	case line.Err != nil:
		return line.Err
	case file.isCSV:
		return file.columns.Decode(data, &w.decoder, &w.activity)
	case w.plan.mapping != nil:
		return w.plan.mapping.Decode(data, &w.decoder, &w.activity)
	default:
		return w.decoder.Decode(data, &w.activity)
	}
}

// addEvents adds the activity's visitors to the batch. Batches close with the
// chunk, and within a chunk when they get large: both depend on the text alone,
// so that bodies are the same for any number of workers.
func (w *assignWorker) addEvents(lineBytes int) {
	unknown, _ := w.assigner.AddEvents(w.batcher, nil)
	w.out.totals.unknownEvents += int64(unknown)
	const visitorBytes = 512 // without what comes from the line
	w.unsent += (len(w.assigner.Decisions()) + len(w.activity.Events)) * (visitorBytes + lineBytes)
	if w.unsent >= flushBytes {
		w.flushEvents()
	}
}

func (w *assignWorker) flushEvents() {
	for _, body := range w.batcher.Flush() {
		w.out.events = append(append(w.out.events, body.Body...), '\n')
		if w.deliver != nil {
			w.out.bodies = append(w.out.bodies, bodyMark{end: len(w.out.events), visitors: body.Visitors, id: body.ID})
		}
		w.out.totals.bodies++
		w.out.totals.visitors += int64(body.Visitors)
	}
	w.unsent = 0
}
