// Package pipeline is the stream: stages that each work through the micro-batches of
// one topic, side by side on one Watermill router.
//
//	activities ─▶ Assign ─┬─▶ decisions
//	                      ├─▶ events     ─▶ Deliver ─▶ event endpoint
//	                      ├─▶ odp-events ─▶ Deliver ─▶ ODP
//	                      └─▶ dead-letters ◀─ what no stage can do, with its reason
//
// [Assign] decodes, enriches, decides and renders:
//
//	decode ─▶ segments, profiles, predictions ─▶ decide ─▶ render ─▶ store ─▶ keep profiles ─▶ ack
//	   │                 │                          │                  │
//	   └──── rejected, refused, panicked, refused by a topic ──────────┘
//	      : dead letter
//
// [Deliver] takes finished bodies to where they belong and acks when each is accepted,
// or refused for good and a dead letter. Each stage can run in a process of its own.
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
// # What is remembered
//
// A batch may be made several times before it is stored: after a panic, after a failed
// try, by the next owner of its partition. So nothing outlives it before its outputs are
// stored: sticky profiles are kept after that and before the ack, and an impression
// counts as shown (see [Dedup]) after the ack's cause is certain.
//
// # Middleware
//
// Outermost first: Metrics, Retry, Recoverer (middleware.go says why in this order).
// Retry makes a batch again a few times when its infrastructure failed; then it is
// nacked, and the Subscriber hands it out again after its own back-off, which holds no
// goroutine of ours. A panic over one record is recovered where it happens; one over the
// whole batch is bisected down to its cause; the Recoverer sees what is left, which are
// bugs of a port. There is no PoisonQueue: dead letters are per record, and are stored
// with the batch they belong to. There is no Timeout: the Subscriber ends a message's
// context when the partition is taken away. The circuit breakers are at the sinks, where
// one endpoint's outage is told from another's: a delivery waits behind its breaker, so
// its partition is held and its topic is the buffer.
//
// # Files
//
// ports.go (records, batches, producers), pipeline.go (the router), middleware.go,
// metrics.go, routerlog.go (what Watermill says), snapshot.go (which datafile), unit.go
// (store and ack).
//
// Assigning: config.go, assign.go (one micro-batch, from decoding to storing), decode.go,
// enrich.go (segments and profiles of a batch), profiles.go, assigner.go (decide and
// render, shared with files), prediction.go (ids of predictions), foresee.go
// (predictions of a batch), patience.go (how long it waits for those that fail),
// events.go (event batches), dedup.go (repeated impressions), odpevents.go (ODP event batches), emit.go
// (outputs and where they came from), refuse.go (what happens to refused outputs),
// spare.go (workers between batches), stats.go.
//
// Delivering: deliver.go.
package pipeline
