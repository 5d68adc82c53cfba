package main

import (
	"fmt"
	"os"
	"time"

	"sortition/pipeline"
)

// devProgress says how `processor dev` is getting on: one line that is written
// over on a terminal; elsewhere a line now and then while it runs without end.
type devProgress struct {
	out     *os.File
	isLive  bool
	every   time.Duration // 0: never
	started time.Time
	last    time.Time
	read    uint64 // at last
}

func newDevProgress(std stdio, isShort bool) *devProgress {
	p := &devProgress{out: std.err, isLive: isTerminal(std.err), started: time.Now(), last: time.Now()}
	switch {
	case p.isLive:
		p.every = 250 * time.Millisecond
	case !isShort:
		p.every = 5 * time.Second
	}
	return p
}

func (p *devProgress) show(s pipeline.Stats, made int) {
	now := time.Now()
	if p.every == 0 || now.Sub(p.last) < p.every {
		return
	}
	rate := float64(s.Read-p.read) / now.Sub(p.last).Seconds()
	p.last, p.read = now, s.Read
	line := fmt.Sprintf("%6s  %s activities read, %s/s  behind %s  decided %s  events %s  dead letters %s",
		now.Sub(p.started).Round(time.Second), thousands(int(s.Read)), thousands(int(rate)), thousands(max(0, made-int(s.Read))),
		thousands(int(s.Decided)), thousands(int(s.Visitors)), thousands(int(s.Rejected())))
	if p.isLive {
		fmt.Fprintf(p.out, "\r\x1b[K%s", line)
		return
	}
	fmt.Fprintln(p.out, line)
}

// end clears the line.
func (p *devProgress) end() {
	if p.isLive {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
