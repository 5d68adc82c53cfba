package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"

	"sortition/decision"
	"sortition/internal/kafkatest"
	"sortition/odp"
	"sortition/pipeline"
	"sortition/schemas"
)

// calm is what a run without any trouble makes of activities, one after the other: the
// stages' own parts without the stream around them. It belongs to one goroutine.
type calm struct {
	hasher
	topic    string
	decoder  schemas.Decoder
	activity schemas.Activity
	assigner *pipeline.Assigner
	batcher  *pipeline.EventBatcher
	odp      *pipeline.ODPBatcher
	revision []byte
	value    []byte

	events, odpEvents heap // of all activities so far
}

// rules are how the processes are configured to decide.
type rules struct {
	settings pipeline.Settings
	sender   odp.Sender
	snapshot *pipeline.Snapshot
}

// stream and decide are in the processes' configuration too.
const (
	stream  = "chaos"
	decided = "checkout_flow" // for activities that name no flags
)

func newRules(datafile []byte, version string) (*rules, error) {
	project, err := decision.Compile(datafile)
	if err != nil {
		return nil, err
	}
	return &rules{
		settings: pipeline.Settings{Stream: stream, Decide: []string{decided}, Client: decision.Client{Name: "sortition", Version: version}},
		sender:   odp.Sender{Name: "sortition", Version: version},
		snapshot: pipeline.NewSnapshot(project),
	}, nil
}

func (r *rules) calm(h hasher, topic string) *calm {
	c := &calm{
		hasher: h, topic: topic, assigner: pipeline.NewAssigner(r.settings), batcher: pipeline.NewEventBatcher(0, 0),
		odp: pipeline.NewODPBatcher(r.sender, 0), revision: []byte(r.snapshot.Project.Revision()),
	}
	c.assigner.Use(r.snapshot)
	return c
}

// one returns the hash of the record that an activity must become, and whether it is a
// dead letter.
func (c *calm) one(ctx context.Context, r *kafkatest.Record) (want uint64, isDead bool, err error) {
	headers := make([]schemas.Header, len(r.Headers))
	for i, h := range r.Headers {
		headers[i] = schemas.Header{Key: h.Key, Value: h.Value}
	}
	if err := c.decoder.DecodeEvent(headers, r.Value, nil, &c.activity); err != nil {
		var reject *schemas.Reject
		if !errors.As(err, &reject) {
			return 0, false, err
		}
		return c.deadLetter(r, reject), true, nil
	}
	source := schemas.Source{Topic: c.topic, Partition: int32(r.Partition), Offset: r.Offset}
	c.assigner.Assign(ctx, &c.activity, &source, r.Time.UnixMilli())
	c.value = c.assigner.AppendRecord(c.value[:0])
	want = c.hashRecord([]byte(c.activity.UserID), c.value, []kafka.Header{
		{Key: schemas.HeaderID, Value: []byte(c.assigner.Record().ID)}, {Key: schemas.HeaderRevision, Value: c.revision},
	}, r.Time)

	c.assigner.AddEvents(c.batcher, nil)
	bodies := c.batcher.Flush()
	for i := range bodies {
		if c.events, err = c.hashEvents(c.events, bodies[i].Body); err != nil {
			return 0, false, err
		}
	}
	c.batcher.Recycle(bodies)
	if added, _ := c.assigner.AddODPEvents(c.odp, 0); added < len(c.activity.ODPEvents) {
		return 0, false, fmt.Errorf("an ODP event cannot be sent: the sample has none such, and the account no row for it")
	}
	odpBodies := c.odp.Flush()
	for i := range odpBodies {
		if c.odpEvents, err = c.hashODPEvents(c.odpEvents, odpBodies[i].Body); err != nil {
			return 0, false, err
		}
	}
	c.odp.Recycle(odpBodies)
	return want, false, nil
}

func (c *calm) deadLetter(r *kafkatest.Record, reject *schemas.Reject) uint64 {
	letter := schemas.DeadLetterOf(reject)
	letter.Topic, letter.Partition, letter.Offset, letter.Time = c.topic, int32(r.Partition), r.Offset, r.Time
	headers := append([]kafka.Header{}, r.Headers...)
	for key, value := range letter.Headers() {
		headers = append(headers, kafka.Header{Key: key, Value: value})
	}
	return c.hashRecord(r.Key, r.Value, headers, r.Time)
}
