package kafkago

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/fetch"
)

const (
	// fetchSlack is how much longer than its MaxWait a fetch may take.
	fetchSlack = 15 * time.Second
	// fetchesPerBroker bounds the requests under way to one broker, and with it
	// the connections. One keeps data flowing; the others let partitions that
	// have become hungry join in without waiting for a long poll to end.
	fetchesPerBroker = 3
	// shortWait replaces MaxWait in a request that does not cover all partitions
	// of its broker, so that the others need not wait for long.
	shortWait = 10 * time.Millisecond
	// leadersTTL is how long the leaders are believed while all goes well. Asking
	// costs no request, but builds kafka-go's whole answer anew.
	leadersTTL = 500 * time.Millisecond
	// minFetchPause and maxFetchPause frame the backoff of a failing partition.
	minFetchPause = 50 * time.Millisecond
	maxFetchPause = 2 * time.Second
)

// fetcher fills a generation's lanes. One goroutine owns all its fields; requests
// run on goroutines of their own and report back to it.
//
// All partitions of a broker that have room go into one request. A partition
// whose last answer was empty does not start a request while others are under
// way; so idle partitions gather in one long poll, and busy ones do not wait for
// it.
type fetcher struct {
	cfg     *SubscriberConfig
	stats   *subscriberCounters
	link    *link
	topic   string
	sources []*source
	wake    <-chan struct{} // a lane has made room

	answers  chan answer // capacity: the most requests there can be, so that none blocks
	underway map[int]int // requests by broker
	fatal    error       // why fetching has ended for good

	leaders map[int32]int // who leads what, as of looked; nil: look again
	looked  time.Time
}

// source is the fetcher's side of a lane.
type source struct {
	*lane
	next    int64 // offset to ask for
	expect  int   // records the last answer brought, as a guess at the next
	asking  bool  // a request is under way
	idle    bool  // the last answer was empty
	alone   bool  // the last request failed as a whole: find out whose fault it is
	failing bool
	pause   time.Duration
	resume  time.Time // not before
}

// answer is a finished request.
type answer struct {
	broker  int
	sources []*source
	results []result // one for each source, unless err is set
	err     error
}

// want is what a request asks of one partition.
type want struct {
	from   int64
	expect int
}

type result struct {
	fetched
	err error
}

func newFetcher(cfg *SubscriberConfig, stats *subscriberCounters, l *link, topic string, lanes []*lane, wake <-chan struct{}) *fetcher {
	f := &fetcher{cfg: cfg, stats: stats, link: l, topic: topic, wake: wake,
		answers: make(chan answer, len(lanes)), underway: map[int]int{}}
	for _, lane := range lanes {
		f.sources = append(f.sources, &source{lane: lane, next: lane.start})
	}
	return f
}

// run fetches until stop is done or the offset policy says to fail, and waits
// for its requests.
func (f *fetcher) run(stop context.Context) error {
	var requests sync.WaitGroup
	defer requests.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for stop.Err() == nil && f.fatal == nil {
		timer.Reset(f.dispatch(stop, &requests))
		select {
		case a := <-f.answers:
			f.apply(stop, a)
		case <-f.wake:
		case <-timer.C:
		case <-stop.Done():
		}
	}
	return f.fatal
}

// dispatch starts the requests that should be under way, and returns when to
// look again if nothing happens before.
func (f *fetcher) dispatch(stop context.Context, requests *sync.WaitGroup) time.Duration {
	const later = time.Hour
	now := time.Now()
	again := later
	held := int64(0)
	for _, s := range f.sources {
		held += s.held.Load()
	}
	var willing []*source
	for _, s := range f.sources {
		switch own := s.held.Load(); {
		case s.asking || own >= int64(f.cfg.FetchAheadBytes):
		case own > 0 && held >= int64(f.cfg.MaxBufferedBytes):
		case now.Before(s.resume):
			again = min(again, s.resume.Sub(now))
		default:
			willing = append(willing, s)
		}
	}
	if len(willing) == 0 {
		return again
	}
	if f.leaders == nil || now.Sub(f.looked) > leadersTTL {
		leaders, err := f.link.leaders(stop, f.topic)
		if stop.Err() != nil {
			return again
		}
		if err != nil {
			f.fail(willing, err)
			return minFetchPause
		}
		f.leaders, f.looked = leaders, now
	}
	leaders := f.leaders
	total := map[int]int{} // partitions of ours by broker
	for _, s := range f.sources {
		if broker, ok := leaders[s.partition]; ok {
			total[broker]++
		}
	}
	byBroker := map[int][]*source{}
	eager := map[int]bool{}
	for _, s := range willing {
		broker, ok := leaders[s.partition]
		switch {
		case !ok:
			f.fail([]*source{s}, kafka.LeaderNotAvailable)
			again = min(again, s.pause)
		case s.alone:
			f.ask(stop, requests, broker, []*source{s}, shortWait)
		default:
			byBroker[broker] = append(byBroker[broker], s)
			eager[broker] = eager[broker] || !s.idle
		}
	}
	for broker, sources := range byBroker {
		if n := f.underway[broker]; n >= fetchesPerBroker || (n > 0 && !eager[broker]) {
			continue
		}
		wait := shortWait
		if len(sources) == total[broker] {
			wait = f.cfg.MaxWait
		}
		f.ask(stop, requests, broker, sources, wait)
	}
	return again
}

func (f *fetcher) ask(stop context.Context, requests *sync.WaitGroup, broker int, sources []*source, wait time.Duration) {
	req := &fetch.Request{
		ReplicaID:      -1,
		MaxWaitTime:    int32(wait / time.Millisecond),
		MinBytes:       1,
		MaxBytes:       int32(f.cfg.MaxFetchBytes),
		IsolationLevel: int8(kafka.ReadCommitted),
		SessionEpoch:   -1, // no fetch session: every request is complete
		Topics:         []fetch.RequestTopic{{Topic: f.topic}},
	}
	wants := make([]want, len(sources))
	for i, s := range sources {
		s.asking = true
		wants[i] = want{from: s.next, expect: s.expect}
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, fetch.RequestPartition{
			Partition:          s.partition,
			CurrentLeaderEpoch: -1,
			FetchOffset:        s.next,
			LogStartOffset:     -1,
			PartitionMaxBytes:  int32(f.cfg.FetchAheadBytes),
		})
	}
	f.underway[broker]++
	requests.Go(func() {
		a := answer{broker: broker, sources: sources}
		a.results, a.err = f.roundTrip(stop, req, wants, wait)
		f.answers <- a
	})
}

func (f *fetcher) roundTrip(ctx context.Context, req *fetch.Request, wants []want, wait time.Duration) ([]result, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+fetchSlack)
	defer cancel()
	msg, err := f.link.transport.RoundTrip(ctx, f.link.client.Addr, req)
	if err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	res, ok := msg.(*fetch.Response)
	if !ok {
		return nil, fmt.Errorf("fetch: answered with a %T", msg)
	}
	if res.ErrorCode != 0 {
		return nil, fmt.Errorf("fetch: %w", kafka.Error(res.ErrorCode))
	}
	results := make([]result, len(wants))
	for i := range results {
		results[i] = result{fetched: fetched{next: wants[i].from, end: -1}, err: errNoAnswer}
	}
	for ti := range res.Topics {
		for pi := range res.Topics[ti].Partitions {
			p := &res.Topics[ti].Partitions[pi]
			for i, asked := range req.Topics[0].Partitions {
				if asked.Partition != p.Partition {
					continue
				}
				if p.ErrorCode != 0 {
					results[i].err = kafka.Error(p.ErrorCode)
				} else {
					results[i].fetched, results[i].err = decodePartition(p, wants[i].from, wants[i].expect)
				}
			}
		}
	}
	return results, nil
}

var errNoAnswer = errors.New("the broker's answer does not mention the partition")

// apply takes in the answer to a request.
func (f *fetcher) apply(stop context.Context, a answer) {
	f.underway[a.broker]--
	for _, s := range a.sources {
		s.asking = false
	}
	if a.err != nil {
		if stop.Err() == nil {
			for _, s := range a.sources {
				s.alone = len(a.sources) > 1
			}
			f.fail(a.sources, a.err)
		}
		return
	}
	for i, s := range a.sources {
		r := a.results[i]
		if r.end >= 0 {
			s.ended(r.end)
			f.stats.lastFetch.Store(nowNanos())
		}
		// What was decoded before an error is good: take it, and meet the error
		// again at its own offset.
		if r.err != nil && r.next == s.next {
			if errors.Is(r.err, kafka.OffsetOutOfRange) {
				f.outOfRange(stop, s)
			} else {
				f.fail([]*source{s}, r.err)
			}
			continue
		}
		if s.failing {
			f.cfg.Logger.Info("fetch: partition recovered", s.where(), slog.Int64("offset", s.next))
		}
		s.failing, s.alone, s.pause = false, false, 0
		s.idle = r.next == s.next
		if !s.idle {
			f.stats.aborted.Add(uint64(r.aborted))
			f.stats.markers.Add(uint64(r.markers))
			s.next, s.expect = r.next, len(r.records)
			s.push(&chunk{records: r.records, next: r.next, bytes: r.bytes})
		}
	}
}

// fail puts sources off, longer with every failure in a row.
func (f *fetcher) fail(sources []*source, err error) {
	f.stats.fetchErrors.Add(1)
	f.leaders = nil // they may have moved
	for _, s := range sources {
		s.pause = min(max(2*s.pause, minFetchPause), maxFetchPause)
		s.resume = time.Now().Add(s.pause)
		if !s.failing {
			s.failing = true
			f.cfg.Logger.Warn("fetch: partition fails, repeating", s.where(), slog.Int64("offset", s.next), slog.Any("error", err))
		}
	}
}

// outOfRange moves a source whose offset the log does not have by the policy.
func (f *fetcher) outOfRange(stop context.Context, s *source) {
	first, end, err := f.link.logRange(stop, f.topic, []int32{s.partition})
	if err != nil {
		f.fail([]*source{s}, err)
		return
	}
	at := Position{Offset: s.next, First: first[s.partition], End: end[s.partition]}
	if at.inside() { // it has come back, or was a replica's hiccup
		f.fail([]*source{s}, kafka.OffsetOutOfRange)
		return
	}
	to, err := f.cfg.OnOutOfRange.resolve(f.topic, s.partition, at)
	if err != nil {
		f.fatal = err
		return
	}
	f.stats.moved(f.cfg.Logger, s.where(), at, to)
	s.ended(at.End)
	s.next = to
	s.push(&chunk{next: to})
}
