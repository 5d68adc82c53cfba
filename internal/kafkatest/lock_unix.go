//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package kafkatest

import (
	"errors"
	"os"
	"syscall"
)

// lockFile takes the lock on a file, which the kernel releases when the process ends,
// however it ends.
func lockFile(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errors.New("the folder is in use by another process")
	}
	return err
}
