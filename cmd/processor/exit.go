package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/alecthomas/kong"
)

// The exit codes of every command.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2 // wrong usage or configuration
	exitRejected = 3 // done, but some input was rejected
)

// A usageError is the caller's: a wrong flag, or a configuration that can't be
// used. Nothing was done.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// withHint adds to a fault of the command line where to read how it is meant.
func withHint(err error) error {
	command := ""
	var fault *kong.ParseError
	if errors.As(err, &fault) && fault.Context != nil && fault.Context.Selected() != nil {
		command = fault.Context.Selected().Path() + " "
	}
	return fmt.Errorf("%w (processor %s--help)", err, command)
}

// errRejected ends a command that did its work, but had to set input aside. The
// command has said so itself.
var errRejected = errors.New("some input was rejected")

// errShown ends a command that failed and has shown why.
var errShown = errors.New("failed")

// exitOf gives the exit code for a command's error, and what is left to say.
func exitOf(ctx context.Context, err error) (code int, message string) {
	var usage usageError
	switch {
	case err == nil:
		return exitDone, ""
	case errors.Is(err, errRejected):
		return exitRejected, ""
	case errors.Is(err, errShown):
		return exitFailed, ""
	case errors.As(err, &usage):
		return exitUsage, err.Error()
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return exitFailed, "interrupted"
	default:
		return exitFailed, err.Error()
	}
}
