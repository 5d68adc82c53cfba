package pipeline

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"sortition/decision"
)

// An exposure identifies an impression among repeated ones: a keyed hash of 128 bits
// of who saw what. With ten million of them kept, the chance that any two different
// ones ever meet is below 10^-24, and what it would cost is one impression; the seeds
// are this process's own, so nobody can make them meet.
type exposure [2]uint64

// A Dedup remembers which impressions were stored, so that those repeated within a
// window of time can be left out. It is shared by all workers, each of which has a
// [DedupBatch] of it; only that one's Commit adds to it. Safe for concurrent use.
//
// Two impressions are the same if user, campaign, experiment, variation, flag, rule
// and prediction are: a holdout shown by two flags is two exposures, and so is a
// variation that a bandit predicted anew, which the event names.
//
// Time is that of the impressions, not the clock's, so a topic read again from its
// beginning gives what it gave at first. The window begins with an impression that was
// stored; a repeat that is left out doesn't prolong it. It has no direction: an
// impression that comes late is left out, too, if it is less than the window older
// than the last one stored. One that is older still is sent, and the later one remains
// what is remembered.
//
// In all that isn't certain an impression is sent rather than left out: after a restart
// or when a partition moves, for memory begins empty; when more exposures than size are
// seen within the window, for those not seen longest are forgotten; when a user's
// activities are worked on in two partitions at the same time. The receiver knows
// repeats of one event by its uuid, which suppression doesn't change.
type Dedup struct {
	window int64 // ms
	seeds  [2]maphash.Seed
	shards []dedupShard // their number is a power of two
}

type dedupShard struct {
	mu     sync.Mutex
	stored *simplelru.LRU[exposure, int64] // time of the latest impression, in ms
	_      [40]byte                        // a cache line each: the locks are taken for every impression
}

// Bounds of a Dedup. One exposure takes about 140 bytes.
const (
	DefaultDedupWindow = 30 * time.Minute // a session, as web analytics has it
	DefaultDedupSize   = 1_000_000
	maxDedupShards     = 64
	minShardSize       = 1024 // smaller ones would forget unevenly
)

// NewDedup remembers at most size exposures for a window of time, which is at least a
// millisecond.
func NewDedup(window time.Duration, size int) (*Dedup, error) {
	var faults []error
	if window < time.Millisecond {
		faults = append(faults, fmt.Errorf("the window %s is shorter than 1 ms", window))
	}
	if size < 1 {
		faults = append(faults, fmt.Errorf("the size %d is less than 1", size))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("configure dedup: %w", err)
	}
	shards := 1
	for shards < maxDedupShards && size/(shards*2) >= minShardSize {
		shards *= 2
	}
	d := &Dedup{
		window: window.Milliseconds(), shards: make([]dedupShard, shards),
		seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
	}
	for i := range d.shards {
		stored, err := simplelru.NewLRU[exposure, int64](size/shards, nil)
		if err != nil {
			return nil, fmt.Errorf("configure dedup: %w", err)
		}
		d.shards[i].stored = stored
	}
	return d, nil
}

// Len is how many exposures are remembered, never more than size.
func (d *Dedup) Len() int {
	n := 0
	for i := range d.shards {
		s := &d.shards[i]
		s.mu.Lock()
		n += s.stored.Len()
		s.mu.Unlock()
	}
	return n
}

func (d *Dedup) shard(x exposure) *dedupShard { return &d.shards[x[0]&uint64(len(d.shards)-1)] }

// isWithin tells whether two times are less than the window apart.
func (d *Dedup) isWithin(a, b int64) bool { return max(a, b)-min(a, b) < d.window }

func (d *Dedup) wasStored(x exposure, at int64) bool {
	s := d.shard(x)
	s.mu.Lock()
	stored, ok := s.stored.Get(x)
	s.mu.Unlock()
	return ok && d.isWithin(stored, at)
}

func (d *Dedup) remember(x exposure, at int64) {
	s := d.shard(x)
	s.mu.Lock()
	defer s.mu.Unlock()
	if stored, ok := s.stored.Get(x); !ok || stored < at {
		s.stored.Add(x, at)
	}
}

// A DedupBatch is one worker's view of a [Dedup] during one micro-batch: what was
// stored before, and what is about to be. The worker ends the batch with Commit once
// everything is stored, or with Forget when it gives the batch up or makes it again;
// so what was not stored is never remembered.
//
// An impression whose event was refused for good counts as stored: its activity has
// a dead letter instead. It isn't safe for concurrent use.
type DedupBatch struct {
	shared  *Dedup
	pending map[exposure]int64
	order   []exposure // of pending: which are forgotten first, if there is no room, is no chance
	key     []byte
}

// NewBatch makes a worker's view, for one batch after the other.
func (d *Dedup) NewBatch() *DedupBatch {
	return &DedupBatch{shared: d, pending: map[exposure]int64{}}
}

// IsRepeat tells whether an impression was stored within the window of the time at,
// in ms since the epoch, or came earlier in this batch. If not, it is one of this
// batch from now on: the caller sends it. It doesn't allocate for a repeat.
func (b *DedupBatch) IsRepeat(userID string, im *decision.Impression, at int64) bool {
	x := b.exposure(userID, im)
	earlier, isPending := b.pending[x]
	if isPending && b.shared.isWithin(earlier, at) || b.shared.wasStored(x, at) {
		return true
	}
	if !isPending {
		b.order = append(b.order, x)
	}
	if !isPending || earlier < at {
		b.pending[x] = at
	}
	return false
}

// Commit remembers the impressions of this batch, which are stored.
func (b *DedupBatch) Commit() {
	for _, x := range b.order {
		b.shared.remember(x, b.pending[x])
	}
	b.Forget()
}

// Forget takes back the impressions of this batch since the last Commit or Forget.
func (b *DedupBatch) Forget() {
	const maxKept = 1 << 16 // a giant batch's room is not kept
	if len(b.pending) > maxKept {
		b.pending, b.order = map[exposure]int64{}, nil
	}
	clear(b.pending)
	b.order = b.order[:0]
}

func (b *DedupBatch) exposure(userID string, im *decision.Impression) exposure {
	b.key = b.key[:0]
	for _, s := range [...]string{userID, im.CampaignID, im.ExperimentID, im.VariationID, im.FlagKey, im.RuleKey, im.CMABUUID} {
		b.key = binary.AppendUvarint(b.key, uint64(len(s)))
		b.key = append(b.key, s...)
	}
	return exposure{maphash.Bytes(b.shared.seeds[0], b.key), maphash.Bytes(b.shared.seeds[1], b.key)}
}
