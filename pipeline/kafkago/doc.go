// Package kafkago connects the pipeline to Kafka: segmentio/kafka-go as a
// Watermill Subscriber and Publisher, and as the pipeline's Producer.
//
// # Delivery contract
//
// Reading ([Subscriber]):
//   - A message is a micro-batch: consecutive records of one partition in offset
//     order. A partition has one batch in flight; partitions run side by side. So
//     records of a partition are worked on in order, whatever Watermill does.
//   - A batch counts as done when its message is acked. Only the end of the
//     longest run of done batches is committed, so a crash repeats work and never
//     skips any. What a crash repeats is what was done within CommitInterval, and
//     the batches in flight.
//   - A nacked batch is handed out again, the same records, after a pause, until
//     it is acked; the partition waits for it.
//   - Only committed transactions are seen: transaction markers and records of
//     aborted transactions are left out, and their offsets passed.
//   - Offsets are committed through the generation that owns the partition. When
//     partitions are revoked, what is in flight has RevokeBudget to be acked, is
//     committed, and everything else is left to the next owner. A commit that
//     comes too late is refused by the coordinator; none is ever sent through a
//     later generation.
//   - A new group's start is committed before anything is read. An offset the log
//     does not have moves by policy, with a count and an error in the log.
//   - Closing stops fetching, waits up to DrainTimeout for acks, commits, leaves
//     the group and closes the channels. Contexts of messages in flight end only
//     when that time is over.
//
// Writing ([Producer], [Publisher]):
//   - An output is stored when all in-sync replicas have it; there is no setting
//     for less. Produce returns nil only when that holds for every output.
//   - Outputs of a partition are stored in order. A request whose answer was lost
//     is repeated and may be stored twice: outputs carry ids by which a repeat can
//     be known.
//   - Calls that write to a partition at the same time share requests, and still
//     have results of their own. Bytes in flight are bounded over all calls.
//   - An error names the outputs concerned, and tells those that can never be
//     stored from those that can be tried again.
//
// Produce followed by an ack is the unit of work: at least once.
//
// # Files
//
// config.go and subscriber.go (settings, subscriptions), generation.go (one membership
// term: lanes, commits), lane.go (one partition: queue and delivery), fetch.go
// (which partitions to ask which broker for, and when), decode.go (read
// committed), offsets.go (what may be committed), position.go (where to start),
// producer.go, queue.go and produce.go (grouping, sharing requests, sending
// them), records.go and encode.go (outputs as record batches), partitioner.go (the Java client's), publisher.go, connection.go and
// security.go (one way to the cluster for everything), token.go and mskiam.go (two
// ways to say who we are), await.go and topics.go (wait for topics, create them),
// probe.go (what a person wants to know before the start),
// state.go (lag, and what a health check wants to know), errors.go (permanent or
// transient).
//
// # Why not Reader and Writer
//
// kafka-go's Reader commits through whatever generation is current, also for
// partitions it has lost, and hands transaction markers out as messages; Writer
// waits for a linger on every call. Both are about half as fast as the Client
// below them, which is what this package is built on.
package kafkago
