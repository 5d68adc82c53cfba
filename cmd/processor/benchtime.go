package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"
)

// turnReport is what one turn has shown.
type turnReport struct {
	rate    float64 // activities a second
	cpu     float64 // microseconds of processor time an activity; 0: not known here
	allocs  float64 // an activity
	peakRSS int64   // bytes; 0: not known here
}

// timed lets c work through n activities. The clock begins when it has begun: how
// long a group takes to form is not what is asked for.
func timed(ctx context.Context, c contender, n int) (turnReport, error) {
	// What the turn before has left behind is its own.
	runtime.GC()
	debug.FreeOSMemory()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1) // capacity 1: written once, and maybe read later
	go func() { ended <- c.run(ctx) }()

	// Half a millisecond is a thousandth of the shortest turn worth reading.
	const look = 500 * time.Microsecond
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	var t turnReport
	var first time.Time
	var before, after runtime.MemStats
	var cpu time.Duration
	ticks, isOver := 0, false
	for {
		at := c.progress()
		now := time.Now()
		if first.IsZero() && c.hasBegun() {
			first = now
			runtime.ReadMemStats(&before)
			cpu = usedProcessor()
		}
		if at >= n {
			took := now.Sub(first)
			cpu = usedProcessor() - cpu
			runtime.ReadMemStats(&after)
			t.rate = float64(at) / max(took, look).Seconds()
			t.cpu = cpu.Seconds() * 1e6 / float64(at)
			t.allocs = float64(after.Mallocs-before.Mallocs) / float64(at)
			break
		}
		if ticks%20 == 0 {
			t.peakRSS = max(t.peakRSS, residentBytes())
		}
		ticks++
		if isOver {
			return t, cmp.Or(ctx.Err(), errors.New("BUG: ended before all was done"))
		}
		select {
		case <-ticker.C:
		case err := <-ended:
			if err != nil {
				return t, err
			}
			isOver = true
			ended <- nil
		}
	}
	stop()
	return t, unlessCanceled(<-ended)
}

// residentBytes is the memory of this process that is in RAM; 0 where the system
// doesn't say.
func residentBytes() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(string(fields[1]), 10, 64) // 0 if it cannot be read
	return pages * int64(os.Getpagesize())
}
