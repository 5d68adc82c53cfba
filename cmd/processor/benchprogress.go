package main

import (
	"fmt"
	"os"
)

// benchProgress says on standard error how far `processor bench` is: a line that is
// written over on a terminal, and one for each turn elsewhere.
type benchProgress struct {
	out    *os.File
	isLive bool
}

func newBenchProgress(std stdio) *benchProgress {
	return &benchProgress{out: std.err, isLive: isTerminal(std.err)}
}

// show says what is being done.
func (p *benchProgress) show(format string, args ...any) {
	if p.isLive {
		fmt.Fprintf(p.out, "\r\x1b[K"+format, args...)
	}
}

// note says what has been found.
func (p *benchProgress) note(format string, args ...any) {
	if p.isLive {
		p.show(format, args...)
		return
	}
	fmt.Fprintf(p.out, format+"\n", args...)
}

// end clears the line.
func (p *benchProgress) end() { p.show("") }
