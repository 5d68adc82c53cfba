package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"sortition/internal/emulator"
	"sortition/internal/kafkatest"
	"sortition/pipeline"
	"sortition/schemas"
)

// An auditor holds the topics against what a calm run would have made.
type auditor struct {
	hasher
	rules  *rules
	topics pipeline.Topics
	reader *kafkatest.Reader

	mu     sync.Mutex // guards all below while topics are read side by side
	inputs [][]input  // by partition and offset
	account
}

// input is one activity as the auditor remembers it.
type input struct {
	want   uint64 // hash of the record it must become
	times  uint32 // how often it has
	isDead bool   // that record is a dead letter
}

// account is what an audit finds.
type account struct {
	activities, decided, rejected int            // in the topic; of these, those whose decision record or dead letter is there
	decisions, deadLetters        int            // records there are
	missing, altered, foreign     int            // activities without a record; records that are not what a calm run makes; those of no activity
	repeats                       int            // records beyond the first
	refused                       map[string]int // dead letters of deliverers, by topic, reason and detail

	events, odpEvents eventAccount
}

// eventAccount counts the events of one kind.
type eventAccount struct {
	want, stored, arrived heap // of a calm run; in the topic; at the emulator

	inTopic, received           int // with repeats
	storedTwice, arrivedTwice   int
	unmade, strange             int // missing in the topic; in the topic, but not of a calm run
	undelivered, strangeArrived int // the same at the emulator, against the topic
}

func (e *eventAccount) settle() {
	e.want.settle()
	e.inTopic, e.received = len(e.stored), len(e.arrived)
	e.storedTwice, e.arrivedTwice = e.stored.settle(), e.arrived.settle()
	e.unmade, e.strange = lacks(e.want, e.stored), lacks(e.stored, e.want)
	e.undelivered, e.strangeArrived = lacks(e.stored, e.arrived), lacks(e.arrived, e.stored)
}

// audit reads all topics. What arrived at the emulator must be in the account already.
func (a *auditor) audit(ctx context.Context) error {
	if err := a.readActivities(ctx); err != nil {
		return err
	}
	for _, t := range []struct {
		name string
		see  func(*kafkatest.Record) error
	}{
		{a.topics.Decisions, a.decision}, {a.topics.DeadLetters, a.deadLetter},
		{a.topics.Events, a.collect(&a.events, a.hashEvents)}, {a.topics.ODPEvents, a.collect(&a.odpEvents, a.hashODPEvents)},
	} {
		if err := a.reader.Each(ctx, t.name, t.see); err != nil {
			return err
		}
	}
	for _, partition := range a.inputs {
		for i := range partition {
			in := &partition[i]
			switch {
			case in.times == 0:
				a.missing++
			case in.isDead:
				a.rejected++
			default:
				a.decided++
			}
			a.repeats += max(0, int(in.times)-1)
		}
	}
	a.events.settle()
	a.odpEvents.settle()
	return nil
}

// readActivities does in peace what the processes have done.
func (a *auditor) readActivities(ctx context.Context) error {
	ends, err := a.reader.Ends(ctx, a.topics.Activities)
	if err != nil {
		return err
	}
	a.inputs = make([][]input, len(ends))
	calms := make([]*calm, len(ends))
	for p, end := range ends {
		a.inputs[p] = make([]input, end)
		a.activities += int(end)
		calms[p] = a.rules.calm(a.hasher, a.topics.Activities)
	}
	err = a.reader.Each(ctx, a.topics.Activities, func(r *kafkatest.Record) (err error) {
		in := &a.inputs[r.Partition][r.Offset] // nobody else's: a partition is read in order
		in.want, in.isDead, err = calms[r.Partition].one(ctx, r)
		return err
	})
	for _, c := range calms {
		a.events.want = append(a.events.want, c.events...)
		a.odpEvents.want = append(a.odpEvents.want, c.odpEvents...)
	}
	return err
}

// see notes a record that comes from an activity.
func (a *auditor) see(r *kafkatest.Record, topic string, partition int, offset int64, isDead bool) {
	hash := a.hashRecord(r.Key, r.Value, r.Headers, r.Time)
	a.mu.Lock()
	defer a.mu.Unlock()
	if isDead {
		a.deadLetters++
	} else {
		a.decisions++
	}
	if topic != a.topics.Activities || partition < 0 || partition >= len(a.inputs) || offset < 0 || offset >= int64(len(a.inputs[partition])) {
		a.foreign++
		return
	}
	in := &a.inputs[partition][offset]
	if in.isDead != isDead || in.want != hash {
		a.altered++
		return
	}
	in.times++
}

func (a *auditor) decision(r *kafkatest.Record) error {
	var d struct{ Source schemas.Source }
	if err := json.Unmarshal(r.Value, &d); err != nil {
		return fmt.Errorf("not a decision record: %w", err)
	}
	a.see(r, d.Source.Topic, int(d.Source.Partition), d.Source.Offset, false)
	return nil
}

func (a *auditor) deadLetter(r *kafkatest.Record) error {
	letter, err := schemas.ParseDeadLetter(func(yield func(string, []byte) bool) {
		for _, h := range r.Headers {
			if !yield(h.Key, h.Value) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	if letter.Topic == a.topics.Events || letter.Topic == a.topics.ODPEvents {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.refused == nil {
			a.refused = map[string]int{}
		}
		a.refused[fmt.Sprintf("%s: %s: %s", letter.Topic, letter.Reason, letter.Detail)]++
		return nil
	}
	a.see(r, letter.Topic, int(letter.Partition), letter.Offset, true)
	return nil
}

// collect adds the events of a topic's bodies.
func (a *auditor) collect(to *eventAccount, read func([]uint64, []byte) ([]uint64, error)) func(*kafkatest.Record) error {
	return func(r *kafkatest.Record) error {
		hashes, err := read(nil, r.Value)
		if err != nil {
			return err
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		to.stored = append(to.stored, hashes...)
		return nil
	}
}

// recorded is told of every request to the emulator.
func (a *auditor) recorded(attempt *emulator.Attempt) {
	if !attempt.Accepted {
		return
	}
	var to *eventAccount
	var read func([]uint64, []byte) ([]uint64, error)
	switch attempt.Route {
	case emulator.RouteEvents:
		to, read = &a.events, a.hashEvents
	case emulator.RouteODPEvents:
		to, read = &a.odpEvents, a.hashODPEvents
	default:
		return
	}
	hashes, err := read(nil, attempt.Body)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.foreign++
	}
	to.arrived = append(to.arrived, hashes...)
}
