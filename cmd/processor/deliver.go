package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"sortition/sinks"
)

// deliverFlags are the flags of assign that send events.
type deliverFlags struct {
	Deliver  bool          `help:"Send the impressions and conversions to the event endpoint, through an outbox on disk."`
	Endpoint string        `placeholder:"URL" help:"With --deliver: where to, instead of the project's region."`
	Outbox   string        `placeholder:"DIR" help:"With --deliver: the folder of the outbox (default: sortition-outbox). What an earlier run left there is sent too."`
	Patience time.Duration `default:"2m" placeholder:"TIME" help:"With --deliver: give up when nothing could be delivered for this long; the rest stays in the outbox. 0: never."`
}

const defaultOutbox = "sortition-outbox"

const deliverHelp = `
With --deliver, events are sent while the work goes on. They first go to an outbox on disk, so that nothing is lost when the endpoint,
the network or this machine fails: the next run with the same outbox sends the rest, also if it has no activities of its own. The
account at the end says what became of them: made = delivered + refused + pending. Events that were refused for good are kept in the
outbox, in refused.ndjson, and the exit code is 3; if events are pending it is 1. Sent twice, an event has the same uuid.
`

// check finds what makes no sense.
func (f *deliverFlags) check() error {
	switch {
	case !f.Deliver && f.Endpoint != "":
		return errors.New("--endpoint is for --deliver")
	case !f.Deliver && f.Outbox != "":
		return errors.New("--outbox is for --deliver")
	case f.Patience < 0:
		return errors.New("--patience must not be negative")
	case f.Endpoint != "":
		if err := sinks.CheckEndpoint(f.Endpoint); err != nil {
			return fmt.Errorf("--endpoint: %w", err)
		}
	}
	return nil
}

// A delivery sends the events of one run.
type delivery struct {
	outbox   *sinks.Outbox
	poster   *sinks.Poster
	dir      string
	endpoint string
	patience time.Duration
	before   sinks.Account  // when it was opened
	runner   sync.WaitGroup // the outbox's Run
	ended    chan struct{}  // closed when the outbox is no longer run; never sent to
	err      error          // why; to be read when ended is closed

	mu      sync.Mutex // guards reasons
	reasons map[string]int64
}

const (
	deliverConcurrency = 8  // requests under way at once
	deliverBatches     = 64 // batches under way at once, those between two attempts included
)

// start opens the outbox and begins to send what is in it; nil if nobody asked
// for it. Whoever starts a delivery finishes it.
func (f *deliverFlags) start(endpoint string) (*delivery, error) {
	if !f.Deliver {
		return nil, nil
	}
	d := &delivery{
		dir: f.Outbox, endpoint: endpoint, patience: f.Patience,
		ended: make(chan struct{}), reasons: map[string]int64{},
	}
	if f.Endpoint != "" {
		d.endpoint = f.Endpoint
	}
	if d.dir == "" {
		d.dir = defaultOutbox
	}
	var err error
	if d.poster, err = sinks.NewPoster(sinks.PosterOptions{
		Concurrency: deliverConcurrency, UserAgent: client.Name + "/" + client.Version,
	}); err != nil {
		return nil, err
	}
	if d.outbox, err = sinks.OpenOutbox(d.dir, sinks.OutboxOptions{Concurrency: deliverBatches}); err != nil {
		return nil, err
	}
	d.before = d.outbox.Account()
	d.runner.Go(func() {
		defer close(d.ended)
		d.err = d.outbox.Run(context.Background(), d.send) // close ends it
	})
	return d, nil
}

func (d *delivery) send(ctx context.Context, b sinks.Batch) (sinks.Result, error) {
	result, err := d.poster.DeliverDurably(ctx, b)
	if err == nil && len(result.Refused) > 0 {
		d.mu.Lock()
		defer d.mu.Unlock()
		for i := range result.Refused {
			d.reasons[result.Refused[i].Reason] += int64(result.Refused[i].Batch.Visitors)
		}
	}
	return result, err
}

// close stops sending and gives the outbox free.
func (d *delivery) close() error {
	err := d.outbox.Close()
	d.runner.Wait()
	d.poster.Close()
	return err
}

// A bodyMark says where a body ends in a result's events.
type bodyMark struct {
	end, visitors int
	id            string
}

// appendedAtOnce is how many bodies share an fsync.
const appendedAtOnce = 64

// append brings a result's bodies to the outbox. It waits while that is full, but
// no longer than patience.
func (d *delivery) append(ctx context.Context, r *result) error {
	batches := make([]sinks.Batch, 0, appendedAtOnce)
	from := 0
	for i, mark := range r.bodies {
		batches = append(batches, sinks.Batch{
			Endpoint: d.endpoint, ID: mark.id, Visitors: mark.visitors, Body: r.events[from : mark.end-len("\n")],
		})
		from = mark.end
		if len(batches) == appendedAtOnce || i == len(r.bodies)-1 {
			if err := d.appendAll(ctx, batches); err != nil {
				return err
			}
			batches = batches[:0]
		}
	}
	return nil
}

var errNoDelivery = errors.New("nothing can be delivered")

func (d *delivery) appendAll(ctx context.Context, batches []sinks.Batch) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if d.patience > 0 {
		timer := time.AfterFunc(d.patience, func() { cancel(fmt.Errorf("the outbox is full and %w", errNoDelivery)) })
		defer timer.Stop()
	}
	select {
	case <-d.ended:
		return d.err
	default:
	}
	_, err := d.outbox.AppendAll(ctx, batches)
	return err
}

// drain waits until everything is settled, until nothing was for patience, or
// until ctx ends; only the last is an error, or one of the outbox.
func (d *delivery) drain(ctx context.Context, show func(sinks.Account)) error {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	last, since := d.outbox.Account().Pending.Batches, time.Now()
	settled := make(chan error, 1) // 1: Wait can end when nobody waits for it any more
	waiting, stop := context.WithCancel(ctx)
	var waiter sync.WaitGroup
	defer waiter.Wait()
	defer stop()
	waiter.Go(func() { settled <- d.outbox.Wait(waiting) })
	for {
		select {
		case err := <-settled:
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		case <-d.ended:
			return d.err
		case now := <-ticker.C:
			account := d.outbox.Account()
			show(account)
			if account.Pending.Batches != last {
				last, since = account.Pending.Batches, now
			}
			if d.patience > 0 && now.Sub(since) >= d.patience {
				return nil
			}
		}
	}
}

// deliveryAccount is what became of the events of a run, and of those that were
// left by earlier runs: made + earlier = delivered + refused + pending.
type deliveryAccount struct {
	made, earlier, delivered, refused, pending sinks.Tally
}

func (d *delivery) account() deliveryAccount {
	now := d.outbox.Account()
	return deliveryAccount{
		made: since(now.Appended, d.before.Appended), earlier: d.before.Pending,
		delivered: since(now.Delivered, d.before.Delivered), refused: since(now.Refused, d.before.Refused),
		pending: now.Pending,
	}
}

func since(now, before sinks.Tally) sinks.Tally {
	return sinks.Tally{Batches: now.Batches - before.Batches, Visitors: now.Visitors - before.Visitors}
}

// write says what became of the events.
func (d *delivery) write(w io.Writer, a deliveryAccount) {
	line := func(label string, t sinks.Tally, rest string) {
		if t.Batches > 0 || label == "delivered" || label == "made" {
			fmt.Fprintf(w, "%-10s%s in %s%s\n", label, count(int64(t.Visitors), "event", "events"), count(int64(t.Batches), "body", "bodies"), rest)
		}
	}
	if d.before.CutBytes > 0 {
		fmt.Fprintf(w, "%-10s%s of a write that a crash cut short\n", "outbox", count(d.before.CutBytes, "byte", "bytes"))
	}
	line("made", a.made, "")
	line("earlier", a.earlier, ", left in "+d.dir+" by another run")
	line("delivered", a.delivered, "")
	d.mu.Lock()
	var reasons []string
	for _, reason := range slices.Sorted(maps.Keys(d.reasons)) {
		reasons = append(reasons, reason+" "+grouped(d.reasons[reason]))
	}
	d.mu.Unlock()
	line("refused", a.refused, ", kept in "+d.dir+": "+strings.Join(reasons, ", "))
	line("pending", a.pending, ", kept in "+d.dir+": the next run sends them")
}

// finish ends a delivery after the work, which came to failed: it waits for what
// can be delivered, unless the work failed, and gives the account. It returns the
// command's error.
func (d *delivery) finish(ctx context.Context, failed error, std stdio, isQuiet bool) error {
	err := failed
	if err == nil {
		show, wipe := deliveryProgress(std, isQuiet)
		err = d.drain(ctx, show)
		wipe()
	}
	if closing := d.close(); err == nil {
		err = closing
	}
	a := d.account()
	if !isQuiet {
		d.write(std.err, a)
	}
	if err == nil {
		err = a.outcome()
	}
	return err
}

// deliveryProgress shows on a terminal how far the delivery is.
func deliveryProgress(std stdio, isQuiet bool) (show func(sinks.Account), wipe func()) {
	if isQuiet || !isTerminal(std.err) {
		return func(sinks.Account) {}, func() {}
	}
	return func(a sinks.Account) {
			fmt.Fprintf(std.err, "\r\x1b[Kdelivering: %s delivered, %s to go", count(int64(a.Delivered.Visitors), "event", "events"), grouped(int64(a.Pending.Visitors)))
		}, func() {
			fmt.Fprint(std.err, "\r\x1b[K")
		}
}

// outcome is the command's error after what became of the events.
func (a *deliveryAccount) outcome() error {
	switch {
	case a.pending.Batches > 0:
		return fmt.Errorf("%w: %s in the outbox", errNoDelivery, count(int64(a.pending.Visitors), "event is", "events are"))
	case a.refused.Batches > 0:
		return errRejected
	}
	return nil
}
