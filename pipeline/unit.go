package pipeline

import "context"

// Units begins units of work: the outputs of one micro-batch together with the
// news that the batch is done. It is the one place that knows how the two are tied
// together; the stages don't.
//
// Safe for concurrent use; a unit belongs to one handler.
type Units interface {
	Begin(ctx context.Context, batch *Batch) (UnitOfWork, error)
}

// A UnitOfWork is one micro-batch's way into storage: Produce, as often as needed,
// then Commit or Abort.
//
// With a transaction behind it, Produce writes inside of the transaction, Commit
// adds the batch's offset and ends it, and the ack that follows has nothing left to
// do. At-least-once (see [AtLeastOnce]) stores at once, and the ack is what moves
// the offset.
type UnitOfWork interface {
	// Produce stores outputs; its error is that of [Producer]. After an error with
	// Permanent only, the unit can go on.
	Produce(ctx context.Context, outputs []Output) error
	// Commit ends the unit. After nil everything produced is there to stay, and the
	// message may be acked.
	Commit(ctx context.Context) error
	// Abort gives the unit up: the batch will come again. It follows a failed
	// Produce or Commit and cannot fail itself.
	Abort(ctx context.Context)
}

// AtLeastOnce makes units that store with p at once and rely on the ack to move the
// offset: a crash between the two repeats the outputs, with equal ids.
func AtLeastOnce(p Producer) Units { return produceThenAck{p} }

// produceThenAck is stateless, so it is its own unit.
type produceThenAck struct{ Producer }

func (u produceThenAck) Begin(context.Context, *Batch) (UnitOfWork, error) { return u, nil }
func (produceThenAck) Commit(context.Context) error                        { return nil }
func (produceThenAck) Abort(context.Context)                               {}
