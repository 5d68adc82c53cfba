package main

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"sync"

	"sortition/internal/emulator"
	"sortition/pipeline"
	"sortition/schemas"
)

// account is what the topics hold after a run: nothing in it is the stream's own
// word, except for stats, which is held against it.
type account struct {
	stats pipeline.Stats

	inTopic  int // activities in their topic
	consumed int // of these, those the group has committed
	decided  int // consumed ones that have a decision record
	rejected int // consumed ones that have a dead letter
	missing  int // consumed ones that have neither
	both     int // consumed ones that have both: an event of theirs was refused
	repeated int // records and events that are there twice
	early    int // outputs of activities that are not committed
	altered  int // dead letters that differ from what was read

	decisions, deadLetters, bodies int // records in the topics
	impressions, conversions       int
	delivered, refused             int             // events, by the emulator's answers
	received                       emulator.Counts // what the emulator says
	reasons                        map[string]int  // of dead letters
	flags                          map[string]*flagTally
	numDecisions                   int // for flags

	mu     sync.Mutex // guards all above while topics are read side by side
	seed   maphash.Seed
	inputs [][]input // by partition and offset
	uuids  []uint64  // hashes of all events' uuids

	deliver deliverFunc
}

// deliverFunc delivers one event body.
type deliverFunc func(ctx context.Context, body []byte, visitors int) (delivered, refused int, err error)

// input is one activity as the auditor remembers it.
type input struct {
	hash    uint64 // of key and value
	decided bool
	dead    bool
}

// flagTally counts the decisions for one flag.
type flagTally struct {
	decided    int
	variations map[variationKey]int
}

type variationKey struct {
	key       string // "" stands for none
	isEnabled bool
}

// takeAccount reads all topics of `processor dev` back, and delivers the events.
func takeAccount(ctx context.Context, addrs []string, stats pipeline.Stats, deliver deliverFunc) (*account, error) {
	r := newTopicReader(addrs)
	defer r.close()
	a := &account{stats: stats, reasons: map[string]int{}, flags: map[string]*flagTally{}, seed: maphash.MakeSeed(), deliver: deliver}
	if err := a.readActivities(ctx, r); err != nil {
		return nil, err
	}
	for _, topic := range []struct {
		name string
		see  func(*topicRecord) error
	}{
		{devTopics.Decisions, a.decision}, {devTopics.DeadLetters, a.deadLetter},
		{devTopics.Events, func(r *topicRecord) error { return a.event(ctx, r) }},
	} {
		if err := r.each(ctx, topic.name, topic.see); err != nil {
			return nil, err
		}
	}
	return a, a.conclude(ctx, r)
}

func (a *account) readActivities(ctx context.Context, r *topicReader) error {
	ends, err := r.ends(ctx, devTopics.Activities)
	if err != nil {
		return err
	}
	a.inputs = make([][]input, len(ends))
	for p, end := range ends {
		a.inputs[p] = make([]input, end)
		a.inTopic += int(end)
	}
	return r.each(ctx, devTopics.Activities, func(rec *topicRecord) error {
		a.inputs[rec.partition][rec.offset].hash = a.hash(rec)
		return nil
	})
}

func (a *account) hash(r *topicRecord) uint64 {
	var h maphash.Hash
	h.SetSeed(a.seed)
	for _, part := range [][]byte{r.key, r.value} {
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

func (a *account) decision(r *topicRecord) error {
	var d struct {
		Source struct {
			Partition int
			Offset    int64
		}
		Decisions []struct {
			FlagKey      string `json:"flag_key"`
			VariationKey string `json:"variation_key"`
			Enabled      bool
		}
	}
	if err := json.Unmarshal(r.value, &d); err != nil {
		return fmt.Errorf("not a decision record: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	in, err := a.at(d.Source.Partition, d.Source.Offset)
	if err != nil {
		return err
	}
	a.decisions++
	if in.decided {
		a.repeated++
		return nil
	}
	in.decided = true
	a.numDecisions += len(d.Decisions)
	for i := range d.Decisions {
		f := a.flags[d.Decisions[i].FlagKey]
		if f == nil {
			f = &flagTally{variations: map[variationKey]int{}}
			a.flags[d.Decisions[i].FlagKey] = f
		}
		f.decided++
		f.variations[variationKey{d.Decisions[i].VariationKey, d.Decisions[i].Enabled}]++
	}
	return nil
}

func (a *account) deadLetter(r *topicRecord) error {
	letter, err := schemas.ParseDeadLetter(func(yield func(string, []byte) bool) {
		for _, h := range r.headers {
			if !yield(h.Key, h.Value) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	in, err := a.at(int(letter.Partition), letter.Offset)
	if err != nil {
		return err
	}
	a.deadLetters++
	if in.hash != a.hash(r) {
		a.altered++
	}
	if in.dead {
		a.repeated++
		return nil
	}
	in.dead = true
	a.reasons[letter.Reason]++
	return nil
}

func (a *account) event(ctx context.Context, r *topicRecord) error {
	var batch struct {
		Visitors []struct {
			Snapshots []struct {
				Decisions []struct{}
				Events    []struct{ UUID string }
			}
		}
	}
	if err := json.Unmarshal(r.value, &batch); err != nil {
		return fmt.Errorf("not an event batch: %w", err)
	}
	delivered, refused, err := a.deliver(ctx, r.value, len(batch.Visitors))
	if err != nil {
		return fmt.Errorf("deliver: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.delivered += delivered
	a.refused += refused
	a.bodies++
	for _, v := range batch.Visitors {
		for _, s := range v.Snapshots {
			for _, e := range s.Events {
				a.uuids = append(a.uuids, maphash.String(a.seed, e.UUID))
			}
			if len(s.Decisions) > 0 {
				a.impressions++
			} else {
				a.conversions++
			}
		}
	}
	return nil
}

// conclude adds up.
func (a *account) conclude(ctx context.Context, r *topicReader) error {
	committed, err := r.committed(ctx, devGroup, devTopics.Activities, len(a.inputs))
	if err != nil {
		return err
	}
	for p := range a.inputs {
		for offset, in := range a.inputs[p] {
			isConsumed := int64(offset) < committed[p]
			if !isConsumed {
				if in.decided || in.dead {
					a.early++
				}
				continue
			}
			a.consumed++
			if in.decided {
				a.decided++
			}
			if in.dead {
				a.rejected++
			}
			if in.decided && in.dead {
				a.both++
			}
			if !in.decided && !in.dead {
				a.missing++
			}
		}
	}
	slices.Sort(a.uuids)
	before := len(a.uuids)
	a.uuids = slices.Compact(a.uuids)
	a.repeated += before - len(a.uuids)
	return nil
}

// events is how many different events the topic holds.
func (a *account) events() int { return len(a.uuids) }

// faults says, line by line, what doesn't add up; nothing if all does.
func (a *account) faults() []string {
	var faults []string
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}
	fault(a.consumed != a.decided+a.rejected-a.both, "consumed %d, but %d decided and %d dead letters", a.consumed, a.decided, a.rejected)
	fault(a.missing > 0, "%d activities are committed, but have neither a decision record nor a dead letter", a.missing)
	fault(a.altered > 0, "%d dead letters differ from the records they stand for", a.altered)
	fault(a.early > 0, "%d activities have outputs, but are not committed, although the stream ended in good order", a.early)
	fault(uint64(a.consumed) != a.stats.Read, "the group has committed %d activities, the stream has counted %d", a.consumed, a.stats.Read)
	fault(uint64(a.decided) != a.stats.Decided, "the topic has decision records of %d activities, the stream has counted %d", a.decided, a.stats.Decided)
	fault(uint64(a.rejected) != a.stats.Rejected(), "the topic has %d dead letters, the stream has counted %d", a.rejected, a.stats.Rejected())
	fault(uint64(a.events()) != a.stats.Visitors, "the topic has %d events, the stream has made %d", a.events(), a.stats.Visitors)
	inTopic := a.impressions + a.conversions
	fault(inTopic != a.delivered+a.refused, "the topic has %d events, but %d were delivered and %d refused", inTopic, a.delivered, a.refused)
	fault(int64(a.delivered) != a.received.Visitors, "%d events were delivered, but the emulator has received %d", a.delivered, a.received.Visitors)
	return faults
}

func (a *account) adds() bool { return len(a.faults()) == 0 }
