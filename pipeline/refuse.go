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
			if w.condemn(o.record, "the decision record was refused: ", f.Err, batch) {
				w.tally.decided--
			}
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

// condemn gives a record its dead letter, unless it has one, and then returns
// false.
func (w *worker) condemn(record int, what string, cause error, batch *Batch) bool {
	if w.fates[record].code != "" {
		return false
	}
	w.fates[record] = fate{code: ReasonOutputRefused, detail: what + cause.Error()}
	w.out.addDeadLetter(w.cfg.Topics.DeadLetters, &w.place, &batch.Records[record], w.fates[record], record)
	return true
}
