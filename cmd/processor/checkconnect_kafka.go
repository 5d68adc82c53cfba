package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"sortition/pipeline"
	"sortition/pipeline/kafkago"
)

func (r *connecting) brokerTrials(addresses []string) []trial {
	how := "connected"
	if r.parts.connection.TLS != nil {
		how += ", TLS agreed on"
	}
	if s := r.parts.connection.SASL; s != nil {
		how += ", signed in with " + string(s.Mechanism)
	}
	var trials []trial
	for _, address := range addresses {
		trials = append(trials, trial{"broker", shownAddress(address), func(ctx context.Context) (string, error) {
			advertised, err := r.kafka.Broker(ctx, address)
			if err != nil {
				return "", err
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.advertised = append(r.advertised, advertised...)
			return how + "; the cluster's brokers: " + strings.Join(advertised, ", "), nil
		}})
	}
	return trials
}

func (r *connecting) topicTrials() []trial {
	var trials []trial
	for _, topic := range r.parts.allTopics() {
		trials = append(trials, trial{"topic", topic, func(ctx context.Context) (string, error) {
			partitions, err := r.kafka.Topic(ctx, topic)
			if isMissingTopic(err) && r.parts.create != nil {
				return "not there yet: the stream will create it", nil
			}
			if err != nil {
				return "", err
			}
			found := count(int64(partitions), "partition", "partitions")
			if topic != r.parts.topics.DeadLetters {
				return found, nil
			}
			size, err := r.letterSize(ctx)
			return found + size, err
		}})
	}
	return trials
}

// letterSize compares the size of records that dead letters may have with that of what
// the handlers read: what can't be used must fit, or it holds its partition up.
func (r *connecting) letterSize(ctx context.Context) (string, error) {
	letters, err := r.kafka.MaxMessageBytes(ctx, r.parts.topics.DeadLetters)
	if err != nil {
		return ", their size can't be told", nil //nolint:nilerr // often there is no right to know it
	}
	for _, handler := range r.parts.handlers {
		topic := r.parts.inputOf(handler)
		if size, err := r.kafka.MaxMessageBytes(ctx, topic); err == nil && letters < size {
			return "", advised{
				fmt.Errorf("takes records up to %s bytes, and %s up to %s: not every one of them fits as a dead letter", grouped(letters), topic, grouped(size)),
				"raise max.message.bytes of the topic to that of " + topic + ", and a few kilobytes more for headers",
			}
		}
	}
	return ", records up to " + grouped(letters) + " bytes", nil
}

func (r *connecting) groupTrials() []trial {
	var trials []trial
	for _, handler := range r.parts.handlers {
		group := r.parts.groupOf(handler)
		trials = append(trials, trial{"group", group, func(ctx context.Context) (string, error) {
			coordinator, err := r.kafka.Coordinator(ctx, group)
			if err != nil {
				return "", err
			}
			return "coordinated by " + coordinator, nil
		}})
	}
	return trials
}

// assigns tells whether activities are decided here.
func (r *connecting) assigns() bool { return r.parts.runs(pipeline.AssignActivities) }

func isMissingTopic(err error) bool {
	var missing *kafkago.TopicMissingError
	return errors.As(err, &missing) && missing.Err == nil
}
