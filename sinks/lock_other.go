//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package sinks

import (
	"errors"
	"os"
)

// lockFile refuses: without a lock that the kernel releases when a process ends,
// two processes could use one outbox.
func lockFile(*os.File) error {
	return errors.New("an outbox needs file locks, which are not implemented for this system")
}

// errNoSpace: the disk is full.
var errNoSpace = errors.New("no space left on device")
