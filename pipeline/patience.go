package pipeline

import (
	"sync"
	"time"
)

// patience bounds the time that a batch loses to predictions that fail: about one
// budget, however many of them there are. A service that is slow, but answers, has all
// the time it takes: under pressure a stream slows down, and a decision that was made
// without its prediction stays wrong for good.
//
// The time of all slots is counted. Patience is over when something has failed, and
// what failed, and what has not answered yet, took three quarters of the time that the
// slots have in one budget. (Not all of it, for slots don't begin at the same moment.)
// From then on a rule is asked for only while it does well: its last prediction came,
// and those under way haven't waited for three quarters of a budget either. So the first
// of a thousand that hang to fail is the one that ends it, for all rules that hang.
//
// Safe for concurrent use.
//
// Source: cmab.md CM-P2, CM-P7; ADR 21.
type patience struct {
	budget time.Duration // 0: endless
	slots  int

	mu    sync.Mutex // guards what follows
	base  time.Time
	all   underWay
	lost  time.Duration
	rules map[string]*ruleState
}

type ruleState struct {
	underWay
	hasFailed bool // the last time
}

// underWay are predictions that have not answered yet.
type underWay struct {
	n     int
	begun time.Duration // sum of when they began
}

func (u *underWay) add(n int, began time.Duration) {
	u.n += n
	u.begun += time.Duration(n) * began
}

// waited is how long they have waited, all together.
func (u *underWay) waited(now time.Duration) time.Duration { return time.Duration(u.n)*now - u.begun }

// reset makes it that of another batch.
func (p *patience) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.base, p.all, p.lost = time.Now(), underWay{}, 0
	clear(p.rules)
}

// isLost tells whether one user's predictions have failed for long enough.
func (p *patience) isLost(took time.Duration) bool { return p.budget > 0 && took >= p.budget }

// begin tells whether a rule's prediction may be asked for now. If so, end must follow.
func (p *patience) begin(rule string) (began time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Since(p.base)
	r := p.rules[rule]
	if r == nil {
		if p.rules == nil {
			p.rules = map[string]*ruleState{}
		}
		r = &ruleState{}
		p.rules[rule] = r
	}
	if p.budget > 0 && p.lost > 0 {
		enough := p.budget / 4 * 3
		isOver := p.lost+p.all.waited(now) >= enough*time.Duration(p.slots)
		if isOver && (r.hasFailed || r.n > 0 && r.waited(now) >= enough*time.Duration(r.n)) {
			return 0, false
		}
	}
	p.all.add(1, now)
	r.add(1, now)
	return now, true
}

// end says how it went. The time of a failure counts weight times; the time it took is
// returned.
func (p *patience) end(rule string, began time.Duration, weight int, hasFailed bool) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	took := time.Since(p.base) - began
	r := p.rules[rule]
	p.all.add(-1, began)
	r.add(-1, began)
	r.hasFailed = hasFailed
	if hasFailed {
		p.lost += took * time.Duration(weight)
	}
	return took
}
