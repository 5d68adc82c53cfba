package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/sync/errgroup"
)

// An Endpoint takes the records of a topic to where they belong: event batches to the
// event endpoint, ODP event batches to ODP. Safe for concurrent use.
type Endpoint interface {
	// Deliver takes one record there, and returns when it was accepted or refused for
	// good. While the endpoint is away it waits, behind a circuit breaker: the record's
	// partition is held up, and that is the backpressure. The error is not nil only if
	// ctx has ended or nothing can be said of the record; then it comes again. It names
	// no user.
	Deliver(ctx context.Context, r *Record) (Delivery, error)
}

// A Delivery is what became of a record. Accepted and the events of Refused add up to
// what the record holds, as far as the endpoint knows.
type Delivery struct {
	Accepted int // events
	Refused  []Refusal
}

// A Refusal is a part of a record that was refused for good. Source: event-batching.md
// EB-P3, EB-P5.
type Refusal struct {
	// Value is what was refused: the record's own value, or a part of it if the rest was
	// accepted.
	Value  []byte
	Events int
	Detail string // why: without a user id or the endpoint's words

	isPanic bool // it wasn't the endpoint
}

// DeliverConfig configures a [Deliver].
type DeliverConfig struct {
	// Name is the name of the handler: [DeliverEvents] or [DeliverODP].
	Name string
	// Topic is read; what is refused for good goes to DeadLetters.
	Topic, DeadLetters string
	// Concurrency bounds the records of one batch that are under way at once. Default
	// 4; from 1 to 1,000.
	Concurrency int
}

// The names of the handlers.
const (
	AssignActivities = "assign"
	DeliverEvents    = "deliver-events"
	DeliverODP       = "deliver-odp"
)

// Deliver is the stage that takes finished bodies to their endpoint. A batch is acked
// when each of its records was accepted, or is a dead letter. Records of one batch are
// under way side by side; a crash repeats the batch, the same bytes again, which the
// receiver knows by their uuids.
type Deliver struct {
	cfg      DeliverConfig
	endpoint Endpoint
	units    Units
	logger   *slog.Logger
	running  atomic.Int64

	batches, repeats, bodies, accepted, refused, letters, panics atomic.Uint64
}

// DeliverStats are running totals. A batch is counted when it is done, once; only
// Repeats shows its failures.
type DeliverStats struct {
	Batches     uint64 // acked
	Repeats     uint64 // failures of batches: they come again, or, with all delivered, their dead letters are stored again
	Bodies      uint64 // records in acked batches
	Delivered   uint64 // events accepted
	Refused     uint64 // events refused for good
	DeadLetters uint64 // stored for them
	Panics      uint64 // dead letters of records over which the endpoint panicked; nothing is known of their events
}

// NewDeliver checks cfg. It starts nothing and takes over nothing.
func NewDeliver(cfg DeliverConfig, to Endpoint, units Units, logger *slog.Logger) (*Deliver, error) {
	if cfg.Concurrency == 0 {
		cfg.Concurrency = 4
	}
	switch {
	case cfg.Name != DeliverEvents && cfg.Name != DeliverODP:
		return nil, fmt.Errorf("pipeline: a stage of delivery is called %s or %s, not %q", DeliverEvents, DeliverODP, cfg.Name)
	case cfg.Topic == "" || cfg.DeadLetters == "" || cfg.Topic == cfg.DeadLetters:
		return nil, fmt.Errorf("pipeline: stage %s needs a topic to read and another one for dead letters", cfg.Name)
	case cfg.Concurrency < 1 || cfg.Concurrency > 1000:
		return nil, fmt.Errorf("pipeline: stage %s: Concurrency %d is outside 1 to 1,000", cfg.Name, cfg.Concurrency)
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Deliver{cfg: cfg, endpoint: to, units: units, logger: logger}, nil
}

// Name is the name of the handler.
func (d *Deliver) Name() string { return d.cfg.Name }

// Topic is what the stage reads.
func (d *Deliver) Topic() string { return d.cfg.Topic }

func (d *Deliver) underWay() int64 { return d.running.Load() }

// Stats returns the totals so far. Safe for concurrent use.
func (d *Deliver) Stats() DeliverStats {
	return DeliverStats{
		Batches: d.batches.Load(), Repeats: d.repeats.Load(), Bodies: d.bodies.Load(),
		Delivered: d.accepted.Load(), Refused: d.refused.Load(), DeadLetters: d.letters.Load(), Panics: d.panics.Load(),
	}
}

// Handle delivers one micro-batch.
func (d *Deliver) Handle(msg *message.Message) error {
	d.running.Add(1)
	defer d.running.Add(-1)
	batch, _ := BatchOf(msg)
	err := d.deliver(msg.Context(), placeOf(msg, batch), batch)
	if err != nil {
		d.repeats.Add(1)
	}
	return err
}

func (d *Deliver) deliver(ctx context.Context, p place, batch *Batch) error {
	deliveries := make([]Delivery, len(batch.Records))
	posts, posting := errgroup.WithContext(ctx)
	posts.SetLimit(d.cfg.Concurrency)
	for i := range batch.Records {
		posts.Go(func() (err error) {
			deliveries[i], err = d.deliverOne(posting, &batch.Records[i], p)
			return err
		})
	}
	if err := posts.Wait(); err != nil {
		return fmt.Errorf("deliver %d bodies: %w", len(batch.Records), err)
	}
	var out outbox
	accepted, refused, panics := 0, 0, 0
	for i := range deliveries {
		accepted += deliveries[i].Accepted
		for _, r := range deliveries[i].Refused {
			refused += r.Events
			record := batch.Records[i]
			record.Value = r.Value
			why := fate{code: ReasonEndpointRefused, detail: r.Detail}
			if r.isPanic {
				why.code = ReasonPanic
				panics++
			}
			out.addDeadLetter(d.cfg.DeadLetters, &p, &record, why, i)
		}
	}
	if err := d.storeAll(ctx, batch, out.outputs, &p); err != nil {
		return fmt.Errorf("store %d dead letters of refused bodies: %w", len(out.outputs), err)
	}
	d.batches.Add(1)
	d.accepted.Add(uint64(accepted))
	d.refused.Add(uint64(refused))
	d.letters.Add(uint64(len(out.outputs) - panics))
	d.panics.Add(uint64(panics))
	d.bodies.Add(uint64(len(batch.Records)))
	return nil
}

// deliverOne delivers a record. One over which the endpoint panics becomes a dead
// letter, and its neighbours go on.
func (d *Deliver) deliverOne(ctx context.Context, r *Record, p place) (out Delivery, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			logPanic(d.logger, cause, &p, r)
			out, err = Delivery{Refused: []Refusal{{Value: r.Value, Detail: panicDetail, isPanic: true}}}, nil
		}
	}()
	return d.endpoint.Deliver(ctx, r)
}

// The pauses between tries to store.
const (
	firstStorePause = 200 * time.Millisecond
	maxStorePause   = 5 * time.Second
)

// storeAll stores until it has succeeded or ctx has ended. The batch is not given back
// for it to come again: what the endpoint has accepted would be posted once more each
// time, for as long as the topic of dead letters is away.
func (d *Deliver) storeAll(ctx context.Context, batch *Batch, letters []Output, p *place) error {
	for pause := firstStorePause; ; pause = min(2*pause, maxStorePause) {
		err := d.store(ctx, batch, letters)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if pause == firstStorePause {
			d.logger.Warn("dead letters of refused bodies can't be stored, repeating", slog.String("topic", p.topic),
				slog.Int("partition", int(p.partition)), slog.Int("dead_letters", len(letters)), slog.Any("error", err))
		}
		d.repeats.Add(1)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

// store stores dead letters and commits the unit, also when there are none: the offset
// belongs to the unit.
func (d *Deliver) store(ctx context.Context, batch *Batch, letters []Output) error {
	unit, err := d.units.Begin(ctx, batch)
	if err != nil {
		return err
	}
	if len(letters) > 0 {
		err = unit.Produce(ctx, letters)
	}
	if err == nil {
		err = unit.Commit(ctx)
	}
	if err != nil {
		unit.Abort(ctx)
	}
	return err
}
