package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// devProgress says how `processor dev` is getting on: a view that is drawn over on a
// terminal, or one line of it when it runs for a moment only; elsewhere a line now and
// then while it runs without end.
type devProgress struct {
	out     *os.File
	isLive  bool
	isShort bool
	ink     ink
	every   time.Duration // 0: never
	started time.Time
	last    time.Time
	meter   devMeter
	lines   int // on the screen, to be drawn over
}

func newDevProgress(std stdio, c *devCmd, w *devWorld) *devProgress {
	p := &devProgress{out: std.err, isLive: w.tap != nil && isTerminal(std.err), isShort: c.Exit, ink: newSummary(std.err).ink, started: time.Now(), last: time.Now()}
	switch {
	case p.isLive:
		p.every = 250 * time.Millisecond
	case !c.Exit:
		p.every = 5 * time.Second
	}
	return p
}

func (p *devProgress) show(w *devWorld) {
	now := time.Now()
	if p.every == 0 || now.Sub(p.last) < p.every {
		return
	}
	p.last = now
	s := w.state(&p.meter, p.started)
	if !p.isLive {
		fmt.Fprintln(p.out, s.line())
		return
	}
	width, height, err := term.GetSize(int(p.out.Fd()))
	if err != nil || width < 20 {
		width, height = 80, 24
	}
	lines := []string{s.line()}
	if p.isShort {
		lines[0] = cutTo(lines[0], width-1)
	} else {
		lines = s.view(width-1, height-1, p.ink)
	}
	p.draw(lines)
}

// draw puts the lines where the last ones are, in one write.
func (p *devProgress) draw(lines []string) {
	var b strings.Builder
	b.WriteString(p.erase())
	for _, line := range lines {
		b.WriteString(line + "\n")
	}
	p.lines = len(lines)
	fmt.Fprint(p.out, b.String())
}

// erase goes back to the first line and clears from there.
func (p *devProgress) erase() string {
	if p.lines == 0 {
		return ""
	}
	return fmt.Sprintf("\x1b[%dA\r\x1b[J", p.lines)
}

// end takes the view away.
func (p *devProgress) end() {
	fmt.Fprint(p.out, p.erase())
	p.lines = 0
}
