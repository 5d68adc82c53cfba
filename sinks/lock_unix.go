//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package sinks

import (
	"errors"
	"os"
	"syscall"
)

// lockFile takes the lock on a file, which the kernel releases when the process
// ends, however it ends.
func lockFile(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EWOULDBLOCK):
			return ErrLocked
		}
		return err
	}
}

// errNoSpace: the disk is full.
var errNoSpace error = syscall.ENOSPC
