// Package pipeline is the stream: it takes micro-batches of activities from any
// Watermill Subscriber, decides them, and stores what comes of it.
//
//	activities ─▶ decode ─▶ assign ─▶ emit ─▶ store ─▶ ack
//	                 │         │                │
//	                 └─ rejected, panicked, ────┘
//	                    refused: dead letter
//
// # Delivery contract
//
//   - A message is acked only when everything derived from every one of its
//     records is stored: its decision records and event batches, or a dead letter
//     with its original key, value and headers. So a crash at any moment repeats
//     work and loses none.
//   - A repeat is the same records again: ids come from the input's coordinates,
//     times from the input, and nothing from the clock or from chance. Decision
//     records and dead letters repeat byte for byte, keys and headers included. An
//     event repeats byte for byte too, but may sit in a batch with other
//     neighbours, because what one fetch brings is not repeatable; its uuid is what
//     the receiver knows it by (event-batching.md EB-P8).
//   - A record that cannot be used, for which the engine panics, or one of whose
//     outputs is refused for good, never holds up its neighbours: it becomes a dead
//     letter with a reason, and they go on. An activity whose event alone is
//     refused has both a decision record and a dead letter.
//   - A failure of infrastructure nacks the message. The Subscriber hands the same
//     batch out again, after a pause, until it is acked; nothing is dropped to get
//     on. That holds for a dead letter that no topic takes: the partition waits for
//     somebody to raise the topic's limit.
//   - Records of a partition are worked on in order, one batch at a time, if the
//     Subscriber hands them out so; outputs of a user keep the order of its
//     activities. Partitions run side by side.
//   - All decisions of a batch are made with one datafile: that of the moment the
//     batch began.
//
// Storing and acking are one unit of work ([UnitOfWork]), the seam at which a
// Kafka transaction can take the place of "store, then commit".
//
// # Middleware
//
// One, outermost: Watermill's Recoverer, which turns a panic outside of a single
// record (a bug of ours or of a port's) into a nack. Panics of the engine over one
// record don't get that far. There is no Retry (a nack makes the Subscriber repeat,
// with back-off and without holding a goroutine of ours), no PoisonQueue (dead
// letters are per record, and are stored with the batch they belong to), and no
// Timeout (the Subscriber ends a message's context when the partition is taken
// away).
//
// # Files
//
// ports.go (records, batches, producers), config.go, snapshot.go (which datafile),
// unit.go (store and ack), pipeline.go (the router), handler.go (one micro-batch,
// from decoding to storing), decode.go, assigner.go (decide and render, shared with
// files), events.go (event batches), odpevents.go (ODP event batches), dedup.go
// (impressions that need not be sent again), profiles.go (sticky profiles of a batch),
// emit.go (outputs and where they came from), refuse.go (what happens to refused
// outputs), stats.go.
package pipeline
