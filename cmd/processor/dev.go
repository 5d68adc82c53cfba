package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"sortition/internal/kafkatest"
)

// devCmd shows the stream without anything installed: broker, cloud and traffic are all
// in the process.
type devCmd struct {
	Activities int      `placeholder:"N" default:"10000" help:"Activities to begin with (${default})."`
	Exit       bool     `help:"Stop when they are worked through and delivered, instead of going on until Ctrl-C."`
	Rate       *float64 `placeholder:"R" help:"Activities a second. Without it: the first ones at once; then 200 a second, unless --exit."`
	Seed       uint64   `placeholder:"S" default:"1" help:"Seed of the sample activities (${default}): same seed, same activities."`
	Partitions int      `placeholder:"P" default:"4" help:"Partitions of the topics (${default})."`
	Bad        float64  `placeholder:"SHARE" default:"0.004" help:"Share of unusable records, 0 to 1 (${default})."`
	Datafile   string   `placeholder:"FILE" help:"The datafile, watched for changes. Default: that of the sample shop."`
	Data       string   `placeholder:"DIR" help:"Keep broker and cloud in this folder, and go on from there at the next start. Default: in memory only."`
	Page       string   `placeholder:"HOST:PORT" help:"Where to show the page. Default: a free port of 127.0.0.1; with --exit there is none."`
}

// Help is shown by --help.
func (devCmd) Help() string {
	return `An in-process Kafka broker, the emulator of the Optimizely cloud, made-up shop visitors, and the stream of
"processor run" between them: it fetches segments from the emulator's ODP, and delivers events there. A page and the terminal
show what goes on. In the end there is the account, read back from the topics and the emulator: what was consumed is a decision
or a dead letter, and each event made was delivered, refused, or is still to be delivered.

Examples:

    processor dev                              # until Ctrl-C; prints the page's address
    processor dev --activities 100000 --exit   # for scripts: exit code 0 only if it adds up
    processor dev --rate 500 --page 127.0.0.1:8090
    processor dev --datafile d.json            # edit it, and see the shares move
    processor dev --data ./shop                # stop it, and later go on
    processor dev --exit --bad 0.2             # a topic in a bad state

Without --data all is kept in memory: at 200 activities a second some hundred MB an hour. Nothing leaves this machine: segments,
predictions and events go to the emulator, whatever the datafile says.
`
}

// devIdleRate is how many activities a second are made when the first ones are through
// and nobody has said how many.
const devIdleRate = 200

func (c *devCmd) validate() error {
	var f faults
	f.when(c.Activities < 0 || c.Activities == 0 && c.Exit, "--activities must be at least 1 with --exit, and never negative")
	f.when(c.Rate != nil && (*c.Rate <= 0 || *c.Rate > 1e6), "--rate must be more than 0 and at most 1,000,000")
	f.when(c.Partitions < 1 || c.Partitions > 1000, "--partitions must be from 1 to 1,000")
	f.when(c.Bad < 0 || c.Bad > 1, "--bad must be from 0 to 1")
	if c.Page != "" {
		_, _, err := net.SplitHostPort(c.Page)
		f.when(err != nil, "--page must be host:port")
	}
	if len(f) > 0 {
		return usageError{errors.Join(f...)}
	}
	return nil
}

func (c *devCmd) hasPage() bool { return !c.Exit || c.Page != "" }

// isWatched tells whether somebody sees what goes on.
func (c *devCmd) isWatched(std stdio) bool { return c.hasPage() || isTerminal(std.err) }

// Run starts everything, waits for the end, and gives the account.
func (c *devCmd) Run(ctx context.Context, std stdio) (err error) {
	if err := c.validate(); err != nil {
		return err
	}
	w, err := openDevWorld(ctx, c, std)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	project, err := w.cloud.served()
	if err != nil {
		return err
	}
	out := newSummary(std.out)
	out.opening(project, w, c)
	took, err := w.work(ctx, c, newDevProgress(std, c, w))
	if err != nil {
		return err
	}
	// The account is given after Ctrl-C too; the second one ends that.
	a, err := w.takeAccount(context.WithoutCancel(ctx), took.stop >= devDrain/2)
	if err != nil {
		return fmt.Errorf("read the topics back: %w", err)
	}
	out.result(w.datafile.current(), a, w.traffic.made, took)
	switch {
	case !a.adds():
		return errShown
	case c.Exit && ctx.Err() != nil && a.pending() > 0:
		return ctx.Err() // interrupted before it was through
	case c.Exit && a.pending() > 0:
		return errShown
	}
	return nil
}

// devTook is how long parts of a run took.
type devTook struct {
	consume time.Duration // until all activities were worked through, or the end
	deliver time.Duration // until all of it was delivered too
	stop    time.Duration // from the wish to end to the end
}

// work runs the stream until all activities are through (with Exit) or ctx is done.
func (w *devWorld) work(ctx context.Context, c *devCmd, progress *devProgress) (took devTook, err error) {
	t := w.traffic
	// Without a rate the backlog is there before the stream begins, so that the
	// stream's speed is not the generator's.
	if c.Rate == nil {
		if err := t.produce(ctx, c.Activities); err != nil {
			return took, unlessCanceled(err)
		}
	}
	working, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1) // capacity 1: written once, and maybe never read
	start := time.Now()
	go func() { ended <- w.stream.run(working) }()

	making := make(chan error, 1) // capacity 1: as above
	goal, rate := c.Activities, float64(devIdleRate)
	if c.Rate != nil {
		rate = *c.Rate
	}
	if !c.Exit {
		goal = -1
	}
	go func() { making <- t.run(working, goal, rate) }()

	err = w.await(ctx, c, start, &took, progress, ended)
	progress.end()
	stopping := time.Now()
	stop()
	err = errors.Join(err, unlessCanceled(<-making), <-ended)
	took.stop = time.Since(stopping)
	return took, err
}

// await returns when all is through, ctx is done, or the stream has ended, which is an
// error.
func (w *devWorld) await(ctx context.Context, c *devCmd, start time.Time, took *devTook, progress *devProgress, ended chan error) error {
	// With the rest of an earlier run.
	goal := uint64(c.Activities) + uint64(w.begin.behind(devTopics.Activities))
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	auditor := kafkatest.NewReader(w.broker.Addrs())
	defer auditor.Close()
	last := start
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			took.consume = or(took.consume, time.Since(start))
			return nil
		case err := <-ended:
			ended <- nil
			if err == nil && ctx.Err() == nil {
				err = errors.New("the stream has ended")
			}
			return err
		}
		progress.show(w)
		if !c.Exit || w.stream.Stats().Read < goal {
			continue
		}
		took.consume = or(took.consume, time.Since(start))
		if time.Since(last) < 20*time.Millisecond {
			continue
		}
		last = time.Now()
		isThrough, err := w.isThrough(ctx, auditor)
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("look how far the groups are: %w", err)
		}
		if isThrough {
			took.deliver = time.Since(start)
			return nil
		}
	}
}

func or(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// unlessCanceled is an error, except when the end was wanted.
func unlessCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
