package pipeline

import (
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"sortition/schemas"
)

// place is where a batch was read, for sources and dead letters.
type place struct {
	topic     string
	partition int32
	hasOffset bool   // false: the transport knows none, and id names the record
	id        string // of a batch without offsets
}

func placeOf(msg *message.Message, batch *Batch) place {
	p := place{topic: batch.Topic, partition: max(batch.Partition, 0), hasOffset: batch.ID == "", id: batch.ID}
	if p.topic == "" {
		p.topic = message.SubscribeTopicFromCtx(msg.Context())
	}
	return p
}

// source is the source of a record as decision records show it.
func (p *place) source(r *Record) schemas.Source {
	return schemas.Source{Topic: p.topic, Partition: p.partition, Offset: r.Offset}
}

// decode reads one record, a CloudEvent or an activity as such, into w.activity. A record from a transport without
// offsets gets the message's id for its own, unless it has one: ids must differ.
func (w *worker) decode(r *Record) *schemas.Reject {
	if err := w.decoder.DecodeEvent(r.Headers, r.Value, w.cfg.Mapping, &w.activity); err != nil {
		var reject *schemas.Reject
		if !errors.As(err, &reject) {
			panic("BUG: the decoder's error is no Reject")
		}
		return reject
	}
	if !w.place.hasOffset && !w.activity.HasID {
		w.activity.ID, w.activity.HasID = w.place.id, true
	}
	return nil
}

// recordTime is a record's time in ms. Only a transport that has no times makes
// it the clock's.
func recordTime(r *Record) int64 {
	if r.Time.IsZero() {
		return time.Now().UnixMilli()
	}
	return r.Time.UnixMilli()
}
