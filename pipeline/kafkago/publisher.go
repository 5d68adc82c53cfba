package kafkago

import (
	"context"
	"slices"

	"github.com/ThreeDotsLabs/watermill/message"

	"sortition/pipeline"
)

// Publisher is a Producer as a Watermill Publisher: payload to value, metadata
// to headers, [MetadataKey] to key. It is for plain messages; stages give whole
// batches to the Producer. Safe for concurrent use.
type Publisher struct {
	producer *Producer
}

var _ message.Publisher = (*Publisher)(nil)

// NewPublisher returns a Publisher that owns p and closes it.
func NewPublisher(p *Producer) *Publisher { return &Publisher{producer: p} }

// Publish stores messages in topic, in order per partition, and returns when all
// of them are stored. The error is a [*pipeline.ProduceError].
func (p *Publisher) Publish(topic string, messages ...*message.Message) error {
	if len(messages) == 0 {
		return nil
	}
	outputs := make([]pipeline.Output, len(messages))
	for i, m := range messages {
		o := pipeline.Output{Topic: topic, Value: m.Payload}
		if o.Value == nil {
			o.Value = []byte{} // nil would be a tombstone
		}
		o.Headers = append(o.Headers, pipeline.Header{Key: uuidHeader, Value: []byte(m.UUID)})
		for k, v := range m.Metadata {
			switch k {
			case MetadataKey:
				o.Key = []byte(v)
			case MetadataTopic, MetadataPartition, MetadataOffset: // where a message came from, not what it is
			default:
				o.Headers = append(o.Headers, pipeline.Header{Key: k, Value: []byte(v)})
			}
		}
		slices.SortFunc(o.Headers[1:], func(a, b pipeline.Header) int {
			if a.Key < b.Key {
				return -1
			}
			return 1
		})
		outputs[i] = o
	}
	// Watermill gives publishers no context. Publishing is bounded by RetryTimeout.
	return p.producer.Produce(context.Background(), outputs)
}

// Close closes the Producer.
func (p *Publisher) Close() error { return p.producer.Close() }
