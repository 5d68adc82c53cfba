package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"sortition/internal/emulator"
)

// What there is to do, and how often of all.
const (
	shareKill  = 0.40
	shareStop  = 0.25
	shareAdd   = 0.15
	shareDrain = 0.20

	shareLull = 0.3 // of the pauses
)

// The number of processes: regular, and the bounds while things happen.
const (
	fewest  = 2
	regular = 3
	most    = 5
)

// mischief is what happens to the processes, the broker and the endpoints.
type mischief struct {
	random  *rand.Rand
	fleet   *fleet
	broker  *broker
	cloud   *emulator.Server
	session time.Duration // of the groups: a process stopped for longer loses its partitions

	restarts, faults int
	restarting       chan error // the result of a restart under way; nil: none is. Capacity 1: written once
}

// run lets things happen until a time. It leaves faults and stopped processes behind.
func (m *mischief) run(ctx context.Context, over time.Duration) (err error) {
	start := time.Now()
	var nextDeed, nextFaults, nextStart time.Time
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	defer func() { err = errors.Join(err, m.restarted(true)) }()
	for now := start; now.Sub(start) < over; {
		m.fleet.reap(now)
		m.fleet.resume(now)
		if err := m.restart(ctx, now.Sub(start), over); err != nil {
			return err
		}
		if m.fleet.members() >= regular {
			nextStart = now.Add(m.within(0, 2*time.Second))
		} else if now.After(nextStart) {
			if err := m.fleet.start(); err != nil {
				return err
			}
		}
		if now.After(nextDeed) {
			if err := m.deed(now); err != nil {
				return err
			}
			nextDeed = now.Add(m.pause())
		}
		if now.After(nextFaults) {
			if err := m.spoil(); err != nil {
				return err
			}
			nextFaults = now.Add(m.within(3*time.Second, 10*time.Second))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now = <-ticker.C:
		}
	}
	return nil
}

func (m *mischief) within(from, to time.Duration) time.Duration {
	return from + time.Duration(m.random.Int64N(int64(to-from)))
}

// restart restarts the broker after a third of the time, and after another one with
// SIGKILL, while everything else goes on.
func (m *mischief) restart(ctx context.Context, gone, over time.Duration) error {
	if err := m.restarted(false); err != nil {
		return err
	}
	if !m.broker.canRestart || m.restarting != nil || m.restarts >= 2 || gone < over*time.Duration(m.restarts+1)/3 {
		return nil
	}
	hard := m.restarts == 1
	m.restarts++
	m.restarting = make(chan error, 1)
	go func(done chan<- error) { done <- m.broker.restart(ctx, hard) }(m.restarting)
	return nil
}

// restarted takes the result of a restart, if there is one, or waits for it.
func (m *mischief) restarted(wait bool) error {
	if m.restarting == nil || !wait && len(m.restarting) == 0 {
		return nil
	}
	err := <-m.restarting
	m.restarting = nil
	if err != nil {
		return fmt.Errorf("the broker did not come back: %w", err)
	}
	return nil
}

// pause is the time until the next deed: short within a series of them, during which
// the groups hardly get to work, long between two.
func (m *mischief) pause() time.Duration {
	if m.random.Float64() < shareLull {
		return m.within(6*time.Second, 15*time.Second)
	}
	return m.within(500*time.Millisecond, 3*time.Second)
}

// deed does something to one process.
func (m *mischief) deed(now time.Time) error {
	chance := m.random.Float64()
	able := m.fleet.able()
	if len(able) == 0 {
		return nil
	}
	victim := able[m.random.IntN(len(able))]
	switch {
	case chance < shareKill:
		m.fleet.kill(victim)
	case chance < shareKill+shareStop:
		if len(able) >= fewest {
			m.fleet.stop(victim, now.Add(m.session+m.within(time.Second, 4*time.Second)))
		}
	case chance < shareKill+shareStop+shareAdd:
		if m.fleet.members() < most {
			return m.fleet.start()
		}
	default:
		if m.fleet.members() > fewest {
			m.fleet.tell(victim, now)
		}
	}
	return nil
}

// spoil gives the endpoints other faults than they had, or for a while none.
func (m *mischief) spoil() error {
	m.cloud.ClearFaults()
	for _, route := range []emulator.Route{emulator.RouteEvents, emulator.RouteODPEvents} {
		for range m.random.IntN(4) {
			fault := m.fault()
			fault.Route, fault.Fraction, fault.Seed = string(route), 0.05+0.6*m.random.Float64(), m.random.Uint64()|1
			if fault.Hang {
				fault.Fraction = 0.05 // each takes as long as a request may
			}
			if _, err := m.cloud.AddFault(fault); err != nil {
				return err
			}
			m.faults++
		}
	}
	return nil
}

func (m *mischief) fault() emulator.Fault {
	switch m.random.IntN(7) {
	case 0:
		return emulator.Fault{Status: []int{500, 502, 503, 504, 408}[m.random.IntN(5)]}
	case 1: // it took effect, and nobody would believe it
		return emulator.Fault{Status: 500, TakesEffect: true}
	case 2:
		return emulator.Fault{Status: []int{429, 503}[m.random.IntN(2)], RetryAfter: strconv.Itoa(1 + m.random.IntN(3))}
	case 3:
		return emulator.Fault{Cut: emulator.CutBefore}
	case 4:
		return emulator.Fault{Cut: []emulator.Cut{emulator.CutAfter, emulator.CutReply}[m.random.IntN(2)]}
	case 5:
		return emulator.Fault{Hang: true}
	default:
		return emulator.Fault{Delay: m.within(50*time.Millisecond, 1500*time.Millisecond)}
	}
}
