package kafkago

import (
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"
)

// ErrClosed is returned by calls on a Subscriber, Producer or Publisher that has
// been closed.
var ErrClosed = errors.New("kafkago: closed")

// TopicMissingError says that a topic did not come into being while it was
// waited for. Brokers are never asked to create it.
type TopicMissingError struct {
	Topic string
	Err   error // the last answer, nil when it was a plain "unknown topic"
}

func (e *TopicMissingError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("topic %q cannot be used: %v", e.Topic, e.Err)
	}
	return fmt.Sprintf("topic %q does not exist", e.Topic)
}

func (e *TopicMissingError) Unwrap() error { return e.Err }

// OffsetRangeError says that the group's offset is not in the log any more (or
// not yet), and that the policy is to fail.
type OffsetRangeError struct {
	Topic     string
	Partition int32
	Offset    int64 // where the group wanted to read
	First     int64 // first offset of the log
	End       int64 // offset after the last record
}

func (e *OffsetRangeError) Error() string {
	return fmt.Sprintf("%s/%d: offset %d is outside the log [%d, %d)", e.Topic, e.Partition, e.Offset, e.First, e.End)
}

// class is the one answer to "permanent or transient?" of this package.
type class uint8

const (
	classTransient class = iota // the same request may succeed later
	classRefused                // this very record can never be stored
	classFatal                  // nothing will change without a person: no use in retrying now
)

// classify sorts an error of a request to a broker.
//
// Everything is transient unless it is known not to be. kafka-go's own
// Temporary() will not do: no leader, no topic, no partition, an unknown broker
// and a closed connection are not temporary to it, and are the normal course of a
// broker's restart.
//
// Source: error codes of the Kafka protocol.
func classify(err error) class {
	var code kafka.Error
	if errors.As(err, &code) {
		switch code {
		case kafka.MessageSizeTooLarge, kafka.RecordListTooLarge, kafka.InvalidTimestamp, kafka.InvalidRecord:
			return classRefused
		case kafka.TopicAuthorizationFailed, kafka.ClusterAuthorizationFailed, kafka.GroupAuthorizationFailed,
			kafka.SASLAuthenticationFailed, kafka.UnsupportedSASLMechanism, kafka.IllegalSASLState,
			kafka.InvalidTopic, kafka.InvalidRequiredAcks, kafka.UnsupportedVersion, kafka.SecurityDisabled,
			kafka.PolicyViolation, kafka.UnsupportedForMessageFormat, kafka.UnsupportedCompressionType:
			return classFatal
		default:
			return classTransient
		}
	}
	return classTransient
}
