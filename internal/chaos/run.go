package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"sortition/examples"
	"sortition/internal/emulator"
	"sortition/internal/kafkatest"
	"sortition/pipeline"
)

const (
	session  = 6 * time.Second  // of the groups
	drain    = 20 * time.Second // for a process to end in good order
	patience = 3 * time.Minute  // without any progress in peace, something is stuck
)

// A run is one course from the first activity to the account.
type run struct {
	seed                   uint64
	duration               time.Duration
	activities, partitions int
	fake                   bool
	processor, folder      string
	out                    io.Writer

	topics  pipeline.Topics
	group   string
	broker  *broker
	cloud   *emulator.Server
	reader  *kafkatest.Reader
	rules   *rules
	auditor *auditor
	traffic *traffic
	fleet   *fleet
	watcher *watcher
	deeds   *mischief

	began, peace, drained time.Time
}

// all makes the run, prints the account, and returns an error if it doesn't add up.
func (r *run) all(ctx context.Context) (err error) {
	if err := r.prepare(ctx); err != nil {
		return errors.Join(err, r.closeBroker())
	}
	defer func() { err = errors.Join(err, r.closeBroker()) }()
	running, stop := context.WithCancel(ctx)
	around, running := errgroup.WithContext(running)
	around.Go(func() error { return r.cloud.Run(running) })
	around.Go(func() error { r.watcher.run(running); return nil })
	trouble := r.course(running)
	r.fleet.abandon()
	stop()
	if err := around.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		trouble = errors.Join(trouble, err)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	// Stuck or not, there is an account.
	if err := r.watcher.look(ctx); err != nil {
		return errors.Join(trouble, err)
	}
	fmt.Fprintln(r.out, "chaos: reading all topics for the account")
	if err := r.auditor.audit(ctx); err != nil {
		return errors.Join(trouble, err)
	}
	faults, err := r.report(ctx)
	if err != nil {
		return errors.Join(trouble, err)
	}
	if len(faults) > 0 {
		trouble = errors.Join(trouble, errors.New("the account does not add up"))
	}
	return trouble
}

func (r *run) closeBroker() error {
	if r.reader != nil {
		r.reader.Close()
	}
	if r.traffic != nil {
		_ = r.traffic.producer.Close() // all is stored, or an error was returned
	}
	if r.broker != nil {
		r.broker.close()
	}
	return nil
}

// prepare makes all that a run needs, and starts the broker but none of the rest.
func (r *run) prepare(ctx context.Context) (err error) {
	if r.folder, err = filepath.Abs(r.folder); err != nil {
		return err
	}
	// Of an earlier run with the same seed only what could be mistaken for ours goes.
	old, _ := filepath.Glob(filepath.Join(r.folder, "processor-*.log")) // the pattern is well-formed
	for _, name := range old {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(r.folder, 0o755); err != nil {
		return err
	}
	fmt.Fprintf(r.out, "chaos: %s activities over %s, seed %d, logs in %s\n", number(r.activities), r.duration, r.seed, r.folder)
	version, err := r.build(ctx)
	if err != nil {
		return err
	}
	if r.rules, err = newRules(examples.Datafile(), version); err != nil {
		return err
	}
	if r.broker, err = openBroker(ctx, r.fake); err != nil {
		return err
	}
	if err := r.createTopics(ctx); err != nil {
		return err
	}
	r.reader = kafkatest.NewReader(r.broker.addrs)
	r.auditor = &auditor{hasher: newHasher(), rules: r.rules, topics: r.topics, reader: r.reader}
	e, err := emulator.New(emulator.Options{Datafile: examples.Datafile(), MaxAttempts: 100, MaxUUIDs: 100_000, Recorded: r.auditor.recorded})
	if err != nil {
		return err
	}
	if r.cloud, err = emulator.Listen(e, "127.0.0.1:0"); err != nil {
		return err
	}
	if r.traffic, err = newTraffic(r.broker.addrs, r.topics.Activities, r.seed, r.activities, r.duration); err != nil {
		return err
	}
	r.watcher = newWatcher(r.reader, r.partitions, []watched{
		{r.group, r.topics.Activities}, {r.group + "-" + pipeline.DeliverEvents, r.topics.Events}, {r.group + "-" + pipeline.DeliverODP, r.topics.ODPEvents},
	})
	config := filepath.Join(r.folder, "sortition.yaml")
	if err := r.configure(config); err != nil {
		return err
	}
	r.fleet = &fleet{binary: r.processor, config: config, folder: r.folder, grace: 2 * drain}
	r.deeds = &mischief{random: rand.New(rand.NewPCG(r.seed, 0)), fleet: r.fleet, broker: r.broker, cloud: r.cloud, session: session}
	return nil
}

// build builds the processor, unless one is given, and returns its version.
func (r *run) build(ctx context.Context) (version string, err error) {
	if r.processor == "" {
		r.processor = filepath.Join(r.folder, "processor")
		cmd := exec.CommandContext(ctx, "go", "build", "-o", r.processor, "./cmd/processor")
		if text, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build the processor: %w: %s", err, text)
		}
	}
	text, err := exec.CommandContext(ctx, r.processor, "version", "--json").Output()
	if err != nil {
		return "", fmt.Errorf("ask the processor for its version: %w", err)
	}
	var build struct{ Version string }
	err = json.Unmarshal(text, &build)
	return build.Version, err
}

// createTopics makes topics of this run only. They keep everything: the sample's times
// lie in the past, for which the brokers' retention would take them away.
func (r *run) createTopics(ctx context.Context) error {
	r.group = "chaos-" + strconv.FormatUint(r.seed, 10) + "-" + strconv.FormatInt(time.Now().Unix(), 36)
	r.topics = pipeline.Topics{
		Activities: r.group + "-activities", Decisions: r.group + "-decisions", Events: r.group + "-events",
		ODPEvents: r.group + "-odp-events", DeadLetters: r.group + "-dead-letters",
	}
	for _, name := range []string{r.topics.Activities, r.topics.Decisions, r.topics.Events, r.topics.ODPEvents, r.topics.DeadLetters} {
		if err := kafkatest.CreateTopic(ctx, r.broker.addrs, kafkatest.Topic{Name: name, Partitions: r.partitions}, "retention.ms", "-1"); err != nil {
			return err
		}
	}
	return nil
}

// configure writes the processes' configuration.
func (r *run) configure(path string) error {
	datafile := filepath.Join(r.folder, "datafile.json")
	if err := os.WriteFile(datafile, examples.Datafile(), 0o644); err != nil {
		return err
	}
	urls := r.cloud.URLs()
	return os.WriteFile(path, fmt.Appendf(nil, `# Made by internal/chaos.
stream: %s
kafka: {brokers: ["%s"], group: "%s", session_timeout: %s}
datafile: {path: "%s"}
decide: [%s]
topics: {activities: "%s", decisions: "%s", events: "%s", odp_events: "%s", dead_letters: "%s"}
activities: {max_batch_records: 500, commit_interval: 100ms}
events: {batch_size: 50}
deliver:
  events: {endpoint: "%s", timeout: 3s, max_batch_records: 20}
  odp: {endpoint: "%s", public_key: "sample-public-key", timeout: 3s, max_batch_records: 20}
startup_timeout: 5m
drain_timeout: %s
`, stream, strings.Join(r.broker.addrs, `", "`), r.group, session, datafile, decided,
		r.topics.Activities, r.topics.Decisions, r.topics.Events, r.topics.ODPEvents, r.topics.DeadLetters,
		urls.Events, urls.ODP, drain), 0o644)
}

// course is what happens: mischief while activities come, then peace until everything
// is worked off.
func (r *run) course(ctx context.Context) error {
	r.began = time.Now()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	arriving, ctx := errgroup.WithContext(ctx)
	arriving.Go(func() error { return r.traffic.run(ctx) })
	trouble := r.deeds.run(ctx, r.duration)
	r.peace = time.Now()
	fmt.Fprintf(r.out, "chaos: peace after %s, with %s activities stored and %s decided\n",
		r.peace.Sub(r.began).Round(time.Second), number(int(r.traffic.stored.Load())), number(int(r.watcher.committed(0))))
	if trouble == nil {
		trouble = r.workOff(ctx)
	}
	if trouble != nil {
		stop()
	}
	if err := arriving.Wait(); err != nil && trouble == nil {
		trouble = err
	}
	r.drained = time.Now()
	return trouble
}

// workOff lets a regular number of processes finish in peace, and tells them to end.
func (r *run) workOff(ctx context.Context) error {
	r.cloud.ClearFaults()
	r.fleet.resume(time.Time{})
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	progressAt, before := time.Now(), int64(-1<<63)
	var said time.Time
	for {
		r.fleet.reap(time.Now())
		for r.fleet.members() < regular {
			if err := r.fleet.start(); err != nil {
				return err
			}
		}
		left, sum, err := r.left(ctx)
		if err == nil && left == 0 {
			break
		}
		if sum > before {
			progressAt, before = time.Now(), sum
		}
		if time.Since(said) > 30*time.Second && err == nil {
			said = time.Now()
			fmt.Fprintf(r.out, "chaos: %s records left\n", number(int(left)))
		}
		if time.Since(progressAt) > patience {
			return errors.Join(fmt.Errorf("nothing has moved for %s, and %d records are left", patience, left), err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
	for _, p := range r.fleet.able() {
		r.fleet.tell(p, time.Now())
	}
	for len(r.fleet.all) > 0 {
		r.fleet.reap(time.Now())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
	return nil
}

// left returns how many records are still to be worked off, activities that are still
// to come among them, and the sum of everything stored and committed, which only grows.
func (r *run) left(ctx context.Context) (left, sum int64, err error) {
	toCome := int64(r.activities) - r.traffic.stored.Load()
	left, sum = toCome, -toCome
	for i, g := range r.watcher.groups {
		ends, err := r.reader.Ends(ctx, g.topic)
		if err != nil {
			return 0, 0, err
		}
		committed := r.watcher.committed(i)
		sum += committed
		for _, end := range ends {
			left += end
			sum += end
		}
		left -= committed
	}
	return left, sum, nil
}
