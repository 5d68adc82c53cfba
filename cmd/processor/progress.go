package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// liveCounts may be read while the run goes on.
type liveCounts struct{ activities atomic.Int64 }

// A progress shows on a terminal how far a run is. The zero one shows nothing.
type progress struct {
	quit chan struct{} // closed to end, never sent to
	done sync.WaitGroup
}

// startProgress shows the progress of a on standard error until stop, if that is
// a terminal.
func startProgress(a *assignment, std stdio, isQuiet bool) *progress {
	p := &progress{}
	if isQuiet || !isTerminal(std.err) {
		return p
	}
	p.quit = make(chan struct{})
	p.done.Go(func() { showProgress(a, std.err, p.quit) })
	return p
}

// stop takes the progress line away.
func (p *progress) stop() {
	if p.quit != nil {
		close(p.quit)
		p.done.Wait()
	}
}

func showProgress(a *assignment, w *os.File, quit chan struct{}) {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-quit:
			fmt.Fprint(w, "\r\x1b[K")
			return
		case <-ticker.C:
			fmt.Fprint(w, "\r\x1b[K"+progressLine(a.live.activities.Load(), a.inputs.consumed(), a.inputs.size, time.Since(a.started))+a.odp.progress())
		}
	}
}

// progressLine renders the state: activities, rate, and, where the size of the
// input is known, share done and time left.
func progressLine(activities, consumed, size int64, elapsed time.Duration) string {
	rate := float64(activities) / max(elapsed.Seconds(), 1e-3)
	text := fmt.Sprintf("%s activities  %s/s", grouped(activities), grouped(int64(rate)))
	if size <= 0 || consumed <= 0 {
		return text
	}
	share := min(float64(consumed)/float64(size), 1)
	const width = 24
	full := int(share * width)
	left := time.Duration(float64(elapsed) * (1 - share) / share).Round(time.Second)
	return fmt.Sprintf("%s%s %3.0f %%  %s  %s left", strings.Repeat("█", full), strings.Repeat("░", width-full), share*100, text, left)
}
