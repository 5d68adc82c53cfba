package main

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sortition/internal/kafkatest"
	"sortition/odp"
	"sortition/sinks"
)

// devTap reads what the stream writes, while it writes it, and counts. It watches from
// outside, as any consumer of the topics could.
type devTap struct {
	mu           sync.Mutex // guards what follows
	decided      int
	numDecisions int
	total        flagTallies
	revisions    []*revisionTally // the latest, oldest first
	last         []devShown       // newest last
	events       eventTally
	odpEvents    eventTally
	letters      int // of activities
	reasons      map[string]int
	lastLetters  []devLetter // newest last
	lastShown    time.Time
	turn         int // of flags to show
}

// revisionTally is what was decided with one datafile.
type revisionTally struct {
	revision, digest string
	decided          int
	flags            flagTallies
}

// eventTally counts events of a kind in their topic, and those refused.
type eventTally struct{ made, refused int }

// devShown is one decision to look at.
type devShown struct {
	At        time.Time `json:"at"`
	User      string    `json:"user"`
	Flag      string    `json:"flag"`
	Variation string    `json:"variation"` // "": none
	Enabled   bool      `json:"enabled"`
	Rule      string    `json:"rule"`
	RuleType  string    `json:"rule_type"`
	Revision  string    `json:"revision"`
	Partition int       `json:"partition"` // of the decision record
	Offset    int64     `json:"offset"`
}

// devLetter is one dead letter to look at.
type devLetter struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
	Detail string    `json:"detail"`
	Source string    `json:"source"` // topic/partition/offset
}

const (
	devKeptRevisions = 3
	devLastDecisions = 8
	devLastLetters   = 5
	// devShowEvery is how often a decision is picked to be looked at: as fast as one
	// can read.
	devShowEvery = 400 * time.Millisecond
)

func newDevTap() *devTap {
	return &devTap{total: flagTallies{}, reasons: map[string]int{}}
}

// run reads until ctx is done.
func (t *devTap) run(ctx context.Context, addrs []string, partitions int) error {
	r := kafkatest.NewReader(addrs)
	defer r.Close()
	following, running := errgroup.WithContext(ctx)
	for _, topic := range []struct {
		name string
		see  func(*kafkatest.Record) error
	}{
		{devTopics.Decisions, t.decision}, {devTopics.Events, t.event}, {devTopics.ODPEvents, t.odpEvent}, {devTopics.DeadLetters, t.deadLetter},
	} {
		following.Go(func() error { return r.Follow(running, topic.name, partitions, topic.see) })
	}
	return following.Wait()
}

func (t *devTap) decision(r *kafkatest.Record) error {
	d, err := readDecision(r.Value)
	if err != nil {
		return err
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.decided++
	t.numDecisions += len(d.Decisions)
	t.total.add(d)
	tally := t.revision(d)
	tally.decided++
	tally.flags.add(d)
	if now.Sub(t.lastShown) < devShowEvery || len(d.Decisions) == 0 {
		return nil
	}
	t.lastShown = now
	one := &d.Decisions[t.turn%len(d.Decisions)] // by turns, so that all flags are seen
	t.turn++
	if len(t.last) == devLastDecisions {
		t.last = slices.Delete(t.last, 0, 1)
	}
	t.last = append(t.last, devShown{
		At: now, User: d.UserID, Flag: one.FlagKey, Variation: one.VariationKey, Enabled: one.Enabled, Rule: one.RuleKey, RuleType: one.RuleType,
		Revision: d.Revision, Partition: r.Partition, Offset: r.Offset,
	})
	return nil
}

// revision is the tally of a record's datafile; the lock is held.
func (t *devTap) revision(d *devDecision) *revisionTally {
	for _, known := range slices.Backward(t.revisions) {
		if known.digest == d.Datafile {
			return known
		}
	}
	if len(t.revisions) == devKeptRevisions {
		t.revisions = slices.Delete(t.revisions, 0, 1)
	}
	tally := &revisionTally{revision: d.Revision, digest: d.Datafile, flags: flagTallies{}}
	t.revisions = append(t.revisions, tally)
	return tally
}

func (t *devTap) event(r *kafkatest.Record) error {
	n, _ := sinks.CountVisitors(r.Value)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events.made += n
	return nil
}

func (t *devTap) odpEvent(r *kafkatest.Record) error {
	n, _ := odp.CountEvents(r.Value)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.odpEvents.made += n
	return nil
}

func (t *devTap) deadLetter(r *kafkatest.Record) error {
	letter, err := letterOf(r)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reasons[letter.Reason]++
	switch letter.Topic {
	case devTopics.Events:
		n, _ := sinks.CountVisitors(r.Value)
		t.events.refused += n
	case devTopics.ODPEvents:
		n, _ := odp.CountEvents(r.Value)
		t.odpEvents.refused += n
	default:
		t.letters++
	}
	if len(t.lastLetters) == devLastLetters {
		t.lastLetters = slices.Delete(t.lastLetters, 0, 1)
	}
	t.lastLetters = append(t.lastLetters, devLetter{
		At: letter.Time, Reason: letter.Reason, Detail: letter.Detail,
		Source: letter.Topic + "/" + strconv.Itoa(int(letter.Partition)) + "/" + strconv.FormatInt(letter.Offset, 10),
	})
	return nil
}

// devVariation is how many of a flag's decisions were for a variation.
type devVariation struct {
	Key     string  `json:"key"` // "": none
	Enabled bool    `json:"enabled"`
	Count   int     `json:"count"`
	Share   float64 `json:"share"` // 0 to 1
}

// ranked lists a flag's variations, the most frequent first.
func (f *flagTally) ranked() []devVariation {
	if f == nil {
		return []devVariation{}
	}
	list := make([]devVariation, 0, len(f.variations))
	for _, v := range slices.SortedFunc(maps.Keys(f.variations), func(x, y variationKey) int {
		return cmp.Or(cmp.Compare(f.variations[y], f.variations[x]), cmp.Compare(x.key, y.key), compareBools(x.isEnabled, y.isEnabled))
	}) {
		list = append(list, devVariation{v.key, v.isEnabled, f.variations[v], float64(f.variations[v]) / float64(f.decided)})
	}
	return list
}

func compareBools(x, y bool) int { return cmp.Compare(countIf(x), countIf(y)) }
