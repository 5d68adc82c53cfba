package main

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// devState is what the page and the terminal show of one moment; GET /api/state gives it
// as JSON.
type devState struct {
	UptimeMS    int64       `json:"uptime_ms"`
	Broker      string      `json:"broker"`
	Emulator    string      `json:"emulator"`
	Reach       []devHint   `json:"reach"` // commands for the broker
	Datafile    devFileNow  `json:"datafile"`
	Activities  devFlow     `json:"activities"`
	Decisions   int         `json:"decisions"` // for flags
	Events      devDelivery `json:"events"`
	ODPEvents   devDelivery `json:"odp_events"`
	Segments    devSegments `json:"segments"`
	DeadLetters []devReason `json:"dead_letters"` // by reason, the most frequent first
	LastLetters []devLetter `json:"last_dead_letters"`
	Flags       []devFlag   `json:"flags"` // in the datafile's order
	Last        []devShown  `json:"last_decisions"`
}

type devFileNow struct {
	Revision string  `json:"revision"`
	Digest   string  `json:"digest"`
	Flags    int     `json:"flags"`
	Changes  int     `json:"changes"` // how often another one has come into force
	AgeMS    int64   `json:"age_ms"`  // since it came into force
	TookMS   float64 `json:"took_ms"` // from the wish to the force; 0: it was not made here
	Decided  int     `json:"decided"` // activities decided with it
	File     string  `json:"file,omitempty"`
	Fault    string  `json:"fault,omitempty"` // why the file can't be used
}

type devFlow struct {
	Made        int     `json:"made"` // by the generator, in this run
	Consumed    int     `json:"consumed"`
	Decided     int     `json:"decided"`
	DeadLetters int     `json:"dead_letters"`
	Lag         int64   `json:"lag"`
	PerSecond   float64 `json:"per_second"`
}

// devDelivery is about events: made = delivered + refused + pending.
type devDelivery struct {
	Made      int     `json:"made"`
	Delivered int     `json:"delivered"` // the emulator has them
	Refused   int     `json:"refused"`
	Pending   int     `json:"pending"`
	PerSecond float64 `json:"per_second"`
}

type devSegments struct {
	Fetched uint64 `json:"fetched"` // activities whose user's segments were found out, in this run
	Unknown uint64 `json:"unknown"` // could not be found out
}

type devReason struct {
	Reason string `json:"reason"`
	Count  int    `json:"count"`
}

type devFlag struct {
	Key     string `json:"key"`
	Decided int    `json:"decided"` // all the time
	// Of the datafile in force:
	DecidedNow int            `json:"decided_now"`
	Variations []devVariation `json:"variations"`
	Total      []devVariation `json:"total"`   // all the time
	Rollout    *int           `json:"rollout"` // percent of everyone else; null: it has none
}

// devMeter turns counts into rates. It belongs to who calls it; the page has its own.
type devMeter struct {
	samples []devSample
}

type devSample struct {
	at                 time.Time
	consumed, got, odp int
}

// devRateOver is what rates are averaged over.
const devRateOver = 2 * time.Second

// rates notes a moment and returns the rates since the oldest one kept.
func (m *devMeter) rates(now devSample) (consumed, got, odp float64) {
	for len(m.samples) > 1 && now.at.Sub(m.samples[1].at) >= devRateOver {
		m.samples = m.samples[1:]
	}
	if n := len(m.samples); n == 0 || now.at.Sub(m.samples[n-1].at) >= 100*time.Millisecond {
		m.samples = append(m.samples, now)
	}
	then := m.samples[0]
	seconds := now.at.Sub(then.at).Seconds()
	if seconds < 0.05 {
		return 0, 0, 0
	}
	return float64(now.consumed-then.consumed) / seconds, float64(now.got-then.got) / seconds, float64(now.odp-then.odp) / seconds
}

// state is the moment of now.
func (w *devWorld) state(meter *devMeter, started time.Time) *devState {
	stats, received := w.stream.Stats(), w.cloud.Counts()
	now := time.Now()
	s := &devState{UptimeMS: now.Sub(started).Milliseconds(), Broker: w.broker.Addrs()[0], Emulator: w.cloud.URL(), Reach: kcatHints(w.broker.Addrs()[0])}
	s.Activities = devFlow{
		Made: w.traffic.madeSoFar(), Consumed: int(sumOf(w.begin.committed[devTopics.Activities])) + int(stats.Read), Lag: w.lag(),
	}
	s.Segments = devSegments{stats.SegmentsKnown, stats.SegmentsUnknown}
	s.Events.Delivered = received.UUIDs + int(received.UUIDsUncounted)
	s.ODPEvents.Delivered = received.ODPIDs
	s.Activities.PerSecond, s.Events.PerSecond, s.ODPEvents.PerSecond = meter.rates(devSample{
		now, s.Activities.Consumed, s.Events.Delivered, s.ODPEvents.Delivered,
	})
	w.datafileState(s, now)
	w.tap.state(s)
	return s
}

// lag is how many activities are not worked through.
func (w *devWorld) lag() (lag int64) {
	for _, l := range w.stream.legs {
		if l.stage != w.stream.assign {
			continue
		}
		for _, p := range l.subscriber.Lags() {
			lag += max(0, p.End-max(p.Done, p.Committed))
		}
	}
	return lag
}

func (w *devWorld) datafileState(s *devState, now time.Time) {
	changes, fault := w.datafile.history()
	p := w.datafile.current()
	s.Datafile.File, s.Datafile.Fault = w.datafile.path, fault
	s.Flags = []devFlag{}
	if p == nil {
		return
	}
	last := changes[len(changes)-1]
	s.Datafile.Revision, s.Datafile.Digest, s.Datafile.Flags = p.Revision(), p.Digest(), p.NumFlags()
	percents, numChanges := w.datafile.rollouts()
	s.Datafile.Changes, s.Datafile.AgeMS = numChanges, now.Sub(last.At).Milliseconds()
	s.Datafile.TookMS = float64(last.Took.Microseconds()) / 1000
	for i := range p.NumFlags() {
		f := devFlag{Key: p.FlagKey(i)}
		if percent, ok := percents[f.Key]; ok {
			f.Rollout = &percent
		}
		s.Flags = append(s.Flags, f)
	}
}

// state adds what the tap has counted.
func (t *devTap) state(s *devState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.Activities.Decided, s.Activities.DeadLetters, s.Decisions = t.decided, t.letters, t.numDecisions
	for _, d := range []struct {
		to   *devDelivery
		from eventTally
	}{{&s.Events, t.events}, {&s.ODPEvents, t.odpEvents}} {
		// What is delivered was made, even if the tap hasn't seen it yet.
		d.to.Refused = d.from.refused
		d.to.Made = max(d.from.made, d.to.Delivered+d.to.Refused)
		d.to.Pending = d.to.Made - d.to.Delivered - d.to.Refused
	}
	s.DeadLetters, s.LastLetters, s.Last = []devReason{}, []devLetter{}, []devShown{}
	for _, reason := range slices.SortedFunc(maps.Keys(t.reasons), func(x, y string) int {
		return cmp.Or(cmp.Compare(t.reasons[y], t.reasons[x]), cmp.Compare(x, y))
	}) {
		s.DeadLetters = append(s.DeadLetters, devReason{reason, t.reasons[reason]})
	}
	s.LastLetters = append(s.LastLetters, t.lastLetters...)
	s.Last = append(s.Last, t.last...)
	slices.Reverse(s.LastLetters)
	slices.Reverse(s.Last)
	var now *revisionTally
	for _, r := range t.revisions {
		if r.digest == s.Datafile.Digest {
			now = r
		}
	}
	if now != nil {
		s.Datafile.Decided = now.decided
	}
	for i := range s.Flags {
		f := &s.Flags[i]
		if total := t.total[f.Key]; total != nil {
			f.Decided = total.decided
		}
		f.Total, f.Variations = t.total[f.Key].ranked(), []devVariation{}
		if now != nil {
			if tally := now.flags[f.Key]; tally != nil {
				f.DecidedNow, f.Variations = tally.decided, tally.ranked()
			}
		}
	}
}
