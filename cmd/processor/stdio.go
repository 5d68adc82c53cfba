package main

import (
	"os"

	"golang.org/x/term"
)

// stdio holds the process's standard streams.
type stdio struct{ in, out, err *os.File }

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// wantsColor tells whether to colour what is written to f: only on a terminal
// that can, and not when NO_COLOR is set to anything.
func wantsColor(f *os.File) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(f)
}
