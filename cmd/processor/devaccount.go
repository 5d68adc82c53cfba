package main

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"sync"

	"sortition/internal/emulator"
	"sortition/internal/kafkatest"
	"sortition/pipeline"
)

// account is what topics and emulator hold after a run: nothing in it is the stream's
// own word, except for the stages' totals, which are held against it. It covers all that
// the topics hold; the totals are of this run, which began at some offsets.
type account struct {
	stats     pipeline.Stats
	delivery  [2]pipeline.DeliverStats // events, ODP events
	emulator  emulator.Counts
	begin     devPlace
	wasCutOff bool
	truth     map[string][]string // segments of the sample's visitors, sorted
	askedOnly []string            // segments that could be asked for all the time

	inTopic  int                                       // activities in their topic
	consumed int                                       // of these, those the group has committed
	decided  int                                       // consumed ones that have a decision record
	rejected int                                       // consumed ones that have a dead letter
	missing  int                                       // consumed ones that have neither
	both     int                                       // consumed ones that have both: an event of theirs was refused
	repeated int                                       // records and events that are there twice
	early    int                                       // outputs of activities that are not committed
	altered  int                                       // dead letters of activities that differ from what was read
	now      struct{ consumed, decided, rejected int } // of this run

	decisions, bodies        int // records in the topics
	impressions, conversions int
	events, odpEvents        eventAccount
	reasons                  map[string]int // of dead letters
	flags                    flagTallies
	numDecisions             int // for flags

	segmentsKnown, segmentsUnknown int // decided activities
	segmentsWrong                  int // known ones that are not as ODP has them

	mu     sync.Mutex // guards all above while topics are read side by side
	seed   maphash.Seed
	inputs [][]input // by partition and offset
}

// input is one activity as the auditor remembers it.
type input struct {
	hash              uint64 // of key and value
	decided, dead     bool
	decidedNow, isBad bool // in this run
}

// takeAccount reads all topics of `processor dev` back, and what the emulator has.
//
// A stream that was cut off, because what was in flight took longer than it may, has
// outputs of batches that are not committed: the next start repeats them.
func (w *devWorld) takeAccount(ctx context.Context, wasCutOff bool) (*account, error) {
	r := kafkatest.NewReader(w.broker.Addrs())
	defer r.Close()
	a := &account{
		stats: w.stream.Stats(), begin: w.begin, truth: w.truth, askedOnly: w.datafile.alwaysAsked(),
		wasCutOff: wasCutOff, reasons: map[string]int{}, flags: flagTallies{}, seed: maphash.MakeSeed(),
	}
	a.delivery = [2]pipeline.DeliverStats{w.stream.deliverEvents.Stats(), w.stream.deliverODP.Stats()}
	end, err := w.place(ctx, r)
	if err != nil {
		return nil, err
	}
	a.events.window, a.odpEvents.window = newWindow(&w.begin, end, devTopics.Events), newWindow(&w.begin, end, devTopics.ODPEvents)
	if err := a.readActivities(ctx, r, end); err != nil {
		return nil, err
	}
	for _, topic := range []struct {
		name string
		see  func(*kafkatest.Record) error
	}{
		{devTopics.Decisions, a.decision}, {devTopics.Events, a.event}, {devTopics.ODPEvents, a.odpEvent}, {devTopics.DeadLetters, a.deadLetter},
	} {
		if err := r.Each(ctx, topic.name, topic.see); err != nil {
			return nil, err
		}
	}
	a.emulator = w.cloud.Counts()
	a.events.conclude(a.seed, w.cloud.UUIDs())
	a.odpEvents.conclude(a.seed, w.cloud.ODPIDs())
	a.conclude(end.committed[devTopics.Activities])
	return a, nil
}

func (a *account) readActivities(ctx context.Context, r *kafkatest.Reader, end *devPlace) error {
	ends := end.ends[devTopics.Activities]
	a.inputs = make([][]input, len(ends))
	for p, end := range ends {
		a.inputs[p] = make([]input, end)
		a.inTopic += int(end)
	}
	return r.Each(ctx, devTopics.Activities, func(rec *kafkatest.Record) error {
		if in, err := a.at(rec.Partition, rec.Offset); err == nil { // else it came in this moment
			in.hash = a.hash(rec)
		}
		return nil
	})
}

func (a *account) hash(r *kafkatest.Record) uint64 {
	var h maphash.Hash
	h.SetSeed(a.seed)
	for _, part := range [][]byte{r.Key, r.Value} {
		_, _ = h.WriteString(strconv.Itoa(len(part)) + ":") // a Hash takes everything
		_, _ = h.Write(part)
	}
	return h.Sum64()
}

// at returns the input with these coordinates.
func (a *account) at(partition int, offset int64) (*input, error) {
	if partition < 0 || partition >= len(a.inputs) || offset < 0 || offset >= int64(len(a.inputs[partition])) {
		return nil, fmt.Errorf("comes from activity %d/%d, which does not exist", partition, offset)
	}
	return &a.inputs[partition][offset], nil
}

func (a *account) decision(r *kafkatest.Record) error {
	d, err := readDecision(r.Value)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	in, err := a.at(d.Source.Partition, d.Source.Offset)
	if err != nil {
		return err
	}
	a.decisions++
	isNow := a.begin.isAfter(devTopics.Decisions, r)
	in.decidedNow = in.decidedNow || isNow
	if in.decided {
		a.repeated++
		return nil
	}
	in.decided = true
	a.numDecisions += len(d.Decisions)
	a.flags.add(d)
	a.checkSegments(d, isNow)
	return nil
}

// checkSegments holds what a record says of its user's segments against the truth.
func (a *account) checkSegments(d *devDecision, isNow bool) {
	if d.Segments == nil {
		a.segmentsUnknown++
		return
	}
	a.segmentsKnown++
	truth, isVisitor := a.truth[d.UserID]
	if !isNow || !isVisitor {
		return
	}
	isWrong := slices.ContainsFunc(d.Segments, func(s string) bool { return !slices.Contains(truth, s) }) ||
		slices.ContainsFunc(a.askedOnly, func(s string) bool { return slices.Contains(truth, s) != slices.Contains(d.Segments, s) })
	if isWrong {
		a.segmentsWrong++
	}
}

func (a *account) deadLetter(r *kafkatest.Record) error {
	letter, err := letterOf(r)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch letter.Topic {
	case devTopics.Events:
		a.reasons[letter.Reason]++
		return readEvents(r.Value, func(uuid string, _ bool) { a.events.refuse(maphash.String(a.seed, uuid)) })
	case devTopics.ODPEvents:
		a.reasons[letter.Reason]++
		return readODPEvents(r.Value, func(id string) { a.odpEvents.refuse(maphash.String(a.seed, id)) })
	}
	in, err := a.at(int(letter.Partition), letter.Offset)
	if err != nil {
		return err
	}
	if in.hash != a.hash(r) {
		a.altered++
	}
	in.isBad = in.isBad || a.begin.isAfter(devTopics.DeadLetters, r)
	if in.dead {
		a.repeated++
		return nil
	}
	in.dead = true
	a.reasons[letter.Reason]++
	return nil
}

func (a *account) event(r *kafkatest.Record) error {
	type event struct {
		hash         uint64
		isImpression bool
	}
	var found []event
	err := readEvents(r.Value, func(uuid string, isImpression bool) {
		found = append(found, event{maphash.String(a.seed, uuid), isImpression})
	})
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bodies++
	for _, e := range found {
		switch isFirst := a.events.make(r, e.hash); {
		case !isFirst:
			a.repeated++
		case e.isImpression:
			a.impressions++
		default:
			a.conversions++
		}
	}
	return nil
}

func (a *account) odpEvent(r *kafkatest.Record) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return readODPEvents(r.Value, func(id string) {
		if !a.odpEvents.make(r, maphash.String(a.seed, id)) {
			a.repeated++
		}
	})
}

// conclude adds up the activities.
func (a *account) conclude(committed []int64) {
	for p := range a.inputs {
		for offset, in := range a.inputs[p] {
			if int64(offset) >= committed[p] {
				if in.decided || in.dead {
					a.early++
				}
				continue
			}
			a.consumed++
			if int64(offset) >= a.begin.committed[devTopics.Activities][p] {
				a.now.consumed++
			}
			a.decided += countIf(in.decided)
			a.now.decided += countIf(in.decidedNow)
			a.rejected += countIf(in.dead)
			a.now.rejected += countIf(in.isBad)
			a.both += countIf(in.decided && in.dead)
			a.missing += countIf(!in.decided && !in.dead)
		}
	}
}

func countIf(is bool) int {
	if is {
		return 1
	}
	return 0
}

// faults says, line by line, what doesn't add up; nothing if all does.
func (a *account) faults() []string {
	var f []string
	fault := func(bad bool, format string, args ...any) {
		if bad {
			f = append(f, fmt.Sprintf(format, args...))
		}
	}
	fault(a.consumed != a.decided+a.rejected-a.both, "consumed %d, but %d decided and %d dead letters", a.consumed, a.decided, a.rejected)
	fault(a.missing > 0, "%d activities are committed, but have neither a decision record nor a dead letter", a.missing)
	fault(a.altered > 0, "%d dead letters differ from the records they stand for", a.altered)
	fault(a.early > 0 && !a.wasCutOff, "%d activities have outputs, but are not committed, although the stream ended in good order", a.early)
	fault(uint64(a.now.consumed) != a.stats.Read, "the group has committed %d activities, the stream has counted %d", a.now.consumed, a.stats.Read)
	fault(uint64(a.now.decided) != a.stats.Decided, "the topic has decision records of %d activities, the stream has counted %d", a.now.decided, a.stats.Decided)
	fault(uint64(a.now.rejected) != a.stats.Rejected(), "the topic has %d dead letters, the stream has counted %d", a.now.rejected, a.stats.Rejected())
	hasUncounted := a.wasCutOff && a.early > 0
	f = append(f, a.events.faults("events", a.stats.Visitors, hasUncounted, &a.delivery[0])...)
	return append(f, a.odpEvents.faults("ODP events", a.stats.ODPEvents, hasUncounted, &a.delivery[1])...)
}

func (a *account) adds() bool { return len(a.faults()) == 0 }

// pending is what is still to do.
func (a *account) pending() int {
	return a.inTopic - a.consumed + a.events.pending + a.odpEvents.pending
}
