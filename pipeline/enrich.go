package pipeline

import (
	"context"
	"fmt"

	"sortition/schemas"
)

// A Segmenter finds out audience segments. What is to be done when they can't be had
// is its business: it answers by its policy. Safe for concurrent use.
type Segmenter interface {
	// Identifier names the identifier users are asked for by: "fs_user_id" stands for
	// the user id, others are looked up in an activity's identifiers.
	Identifier() string
	// AppendSegments appends one answer for each of users, the values of Identifier, in
	// their order; "" is a user without it. The error is not nil only if nothing is
	// known of the batch: it is nacked and comes again. It names no user.
	AppendSegments(ctx context.Context, dst []SegmentAnswer, users []string) ([]SegmentAnswer, error)
}

// A SegmentAnswer says what is known of a user's segments.
type SegmentAnswer struct {
	Segments []string // read-only
	IsKnown  bool     // false: Segments says nothing
	// Code says why they aren't known, or that they are old; "" if there is nothing to
	// say. It is segments_error of the decision record.
	Code string
	// IsRefused: the activity is not to be decided; it becomes a dead letter.
	IsRefused bool
}

// enrichment is what a worker finds out for a batch before it decides. Of the records it
// reads no more than that takes; each is decoded when its turn has come. An activity
// lives in the decoder's buffers, and a thousand of them at once would keep a thousand
// buffers of the largest size ever seen.
type enrichment struct {
	of      []int // by record: index of its answer, or asGiven
	ids     []byte
	ends    []int // of the ids, one for each answer
	users   []string
	answers []SegmentAnswer
}

// asGiven is a record that isn't asked for: it names its segments, or can't be used.
const asGiven = -1

// enrich finds out what the batch's activities don't say themselves.
func (w *worker) enrich(ctx context.Context, batch *Batch) error {
	from := w.cfg.Segments
	if from == nil && w.profiles == nil {
		return nil
	}
	e := &w.enriched
	e.of, e.ids, e.ends, e.users = e.of[:0], e.ids[:0], e.ends[:0], e.users[:0]
	identifier := ""
	if from != nil {
		identifier = from.Identifier()
	}
	for i := range batch.Records {
		e.of = append(e.of, asGiven)
		r := &batch.Records[i]
		var p schemas.Peek
		if !w.decoder.Peek(r.Headers, r.Value, w.cfg.Mapping, identifier, &p) {
			continue
		}
		if w.profiles != nil {
			w.profiles.want(p.UserID)
		}
		if from == nil || p.HasSegments {
			continue
		}
		value := p.Identifier
		if value == "" && identifier == "fs_user_id" {
			value = p.UserID
		}
		e.of[i] = len(e.ends)
		e.ids = append(e.ids, value...)
		e.ends = append(e.ends, len(e.ids))
	}
	if w.profiles != nil {
		if err := w.profiles.fetch(ctx); err != nil {
			return err
		}
	}
	if len(e.ends) == 0 {
		return nil
	}
	ids, start := string(e.ids), 0
	for _, end := range e.ends {
		e.users = append(e.users, ids[start:end])
		start = end
	}
	var err error
	if e.answers, err = from.AppendSegments(ctx, e.answers[:0], e.users); err != nil {
		return fmt.Errorf("find out segments: %w", err)
	}
	if len(e.answers) != len(e.users) {
		panic("BUG: as many answers about segments as users were asked for")
	}
	return nil
}

// giveSegments gives the decoded activity of a record its segments. It returns what
// the record says of them, and the fate of an activity that isn't to be decided.
func (w *worker) giveSegments(index int) (code string, refused fate) {
	if w.cfg.Segments == nil || w.enriched.of[index] == asGiven {
		return "", fate{}
	}
	a := &w.enriched.answers[w.enriched.of[index]]
	switch {
	case a.IsRefused:
		return "", fate{code: ReasonSegments, detail: a.Code}
	case a.IsKnown:
		w.activity.Segments, w.activity.HasSegments = a.Segments, true
		w.tally.segmentsKnown++
	default:
		w.tally.segmentsUnknown++
	}
	return a.Code, fate{}
}
