package main

import (
	"fmt"
	"hash/maphash"

	"sortition/internal/kafkatest"
	"sortition/pipeline"
)

// eventAccount is what became of the events of one topic. They are told apart by their
// ids: an event that is there twice counts once.
type eventAccount struct {
	window eventWindow
	fates  map[uint64]eventFate // by hash of the id

	made, delivered, refused, pending int // made = delivered + refused + pending
	lost                              int // none of these
	strangers                         int // received, but in no topic
	madeNow                           int // made in this run
	inBodies                          int // in bodies of this run, repeats included
	inWindow                          int // in bodies that the handler has committed in this run, repeats included
}

// eventFate is a set of things that happened to an event.
type eventFate uint8

const (
	eventMade eventFate = 1 << iota
	eventMadeNow
	eventUncommitted // no body with it has been committed
	eventCommitted
	eventRefused
	eventReceived
)

// eventWindow is where this run began and ended in a topic, by partition.
type eventWindow struct{ beginEnds, beginCommitted, endCommitted []int64 }

func newWindow(begin, end *devPlace, topic string) eventWindow {
	return eventWindow{begin.ends[topic], begin.committed[topic], end.committed[topic]}
}

// make notes an event in a body; it tells whether it is the first one of its id.
func (e *eventAccount) make(body *kafkatest.Record, id uint64) (isFirst bool) {
	if e.fates == nil {
		e.fates = map[uint64]eventFate{}
	}
	before := e.fates[id]
	fate := before | eventMade
	if body.Offset >= e.window.beginEnds[body.Partition] {
		fate |= eventMadeNow
		e.inBodies++
	}
	if body.Offset < e.window.endCommitted[body.Partition] {
		fate |= eventCommitted
		e.inWindow += countIf(body.Offset >= e.window.beginCommitted[body.Partition])
	} else {
		fate |= eventUncommitted
	}
	e.fates[id] = fate
	return before&eventMade == 0
}

func (e *eventAccount) refuse(id uint64) {
	if fate, ok := e.fates[id]; ok {
		e.fates[id] = fate | eventRefused
	}
}

// conclude adds up, with the ids that were received.
func (e *eventAccount) conclude(seed maphash.Seed, received map[string]int) {
	for id := range received {
		hash := maphash.String(seed, id)
		fate, ok := e.fates[hash]
		if !ok {
			e.strangers++
			continue
		}
		e.fates[hash] = fate | eventReceived
	}
	for _, fate := range e.fates {
		e.made++
		e.madeNow += countIf(fate&eventMadeNow != 0)
		switch {
		case fate&eventReceived != 0:
			e.delivered++
		case fate&eventRefused != 0:
			e.refused++
		case fate&eventUncommitted != 0:
			e.pending++
		default:
			e.lost++
		}
	}
}

func (e *eventAccount) faults(name string, made uint64, hasUncounted bool, stage *pipeline.DeliverStats) (faults []string) {
	if e.lost > 0 {
		faults = append(faults, fmt.Sprintf("%d %s were neither received nor refused, and nobody will deliver them", e.lost, name))
	}
	// A batch that came again is counted once, and is in the topic twice; two activities of
	// one id count twice, and have one event.
	if made < uint64(e.madeNow) && !hasUncounted || made > uint64(e.inBodies) {
		faults = append(faults, fmt.Sprintf("the topic has %d %s, and %d with repeats, but the stream has made %d", e.madeNow, name, e.inBodies, made))
	}
	if counted := stage.Delivered + stage.Refused; uint64(e.inWindow) != counted {
		faults = append(faults, fmt.Sprintf("%d %s are committed, but the stream has counted %d", e.inWindow, name, counted))
	}
	return faults
}
