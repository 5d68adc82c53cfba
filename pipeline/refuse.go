package pipeline

import (
	"context"
	"errors"
	"fmt"
)

// store stores the outbox, keeps the profiles, and commits the unit. Outputs that are refused for good
// are replaced until everything is stored: a decision record or a lone event by the
// dead letter of its activity, an event batch of several by batches of one. Any
// other failure, and a refused dead letter, is an error.
func (w *worker) store(ctx context.Context, unit UnitOfWork, batch *Batch) error {
	for len(w.out.outputs) > 0 {
		err := unit.Produce(ctx, w.out.outputs)
		if err == nil {
			break
		}
		var failed *ProduceError
		if !errors.As(err, &failed) || !failed.Permanent() {
			return err
		}
		if err := w.replace(failed.Failed, batch); err != nil {
			return err
		}
	}
	if w.profiles != nil {
		if err := w.profiles.flush(ctx); err != nil {
			return err
		}
	}
	return unit.Commit(ctx)
}

// replace makes the outbox hold what takes the place of refused outputs. What is
// stored already stays stored, so the rest of a refused activity may be there.
func (w *worker) replace(failed []FailedOutput, batch *Batch) error {
	refused, origins, bodies, odpBodies := w.out.outputs, w.out.origins, w.out.bodies, w.out.odpBodies
	w.out.next()
	for _, f := range failed {
		switch o := origins[f.Index]; o.kind {
		case deadLetterOutput:
			return fmt.Errorf("dead letter of %d bytes refused by topic %s, which must take whatever %s takes: %w",
				len(refused[f.Index].Value), w.cfg.Topics.DeadLetters, w.place.topic, f.Err)
		case decisionOutput:
			w.tally.records--
			if why := &w.fates[o.record]; !why.isUndecided { // in the flat layout it has several records
				why.isUndecided = true
				w.tally.decided--
			}
			w.condemn(o.record, "the decision record was refused: ", f.Err, batch)
		case eventOutput:
			body := &bodies[o.body]
			w.tally.bodies--
			if body.Visitors == 1 {
				w.tally.visitors--
				w.condemn(w.recordOf(body.first), "an event was refused: ", f.Err, batch)
				continue
			}
			for _, one := range w.batcher.appendSingles(nil, body) {
				w.out.addEvents(w.cfg.Topics.Events, &one, &batch.Records[w.recordOf(one.first)])
				w.tally.bodies++
			}
		case odpOutput:
			body := &odpBodies[o.body]
			w.tally.odpBodies--
			if body.Events == 1 {
				w.tally.odpEvents--
				w.condemn(w.odp.recordOf(body), "an ODP event was refused: ", f.Err, batch)
				continue
			}
			for _, one := range w.odp.appendSingles(nil, body) {
				w.out.addODPEvents(w.cfg.Topics.ODPEvents, &one, w.revision, &batch.Records[w.odp.recordOf(&one)])
				w.tally.odpBodies++
			}
		}
	}
	return nil
}

// condemn gives a record the dead letter of a refused output, unless it has one. That of
// an ODP event, which says that all else is stored, it doesn't take the place of.
func (w *worker) condemn(record int, what string, cause error, batch *Batch) {
	why := &w.fates[record]
	switch why.code {
	case ReasonODPEvent:
		w.tally.besides++
	case "":
	default:
		return
	}
	why.code, why.detail = ReasonOutputRefused, what+cause.Error()
	w.out.addDeadLetter(w.cfg.Topics.DeadLetters, &w.place, &batch.Records[record], *why, record)
}
