// Package kafkatest provides Kafka clusters without installing one: an
// in-process fake that speaks the real protocol, for tests and for
// `processor dev`, and the way to a real Apache Kafka for tests.
//
// The fake ([Start], or [Fake] in tests) is franz-go's kfake on a loopback port.
// [StartIn] keeps it in a folder.
// It answers in microseconds and allows faults to be injected, but it is not
// Kafka: it never asks a client to wait for a coordinator, for instance. So the
// tests of the transport run a second time against a real broker when the
// environment variable SORTITION_KAFKA holds its bootstrap address ([Real]).
// A [Reader] reads whole topics back, as auditors do.
// The script kafka.sh beside this file fetches, starts, restarts and stops one, the
// newest or (KAFKA_VERSION=3.9) an older one:
//
//	internal/kafkatest/kafka.sh start      # prints SORTITION_KAFKA=127.0.0.1:PORT
//	internal/kafkatest/kafka.sh stop
//
// The package does not import testing, so that it can be part of a program.
package kafkatest
