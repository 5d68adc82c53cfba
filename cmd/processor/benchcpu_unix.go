//go:build unix

package main

import (
	"syscall"
	"time"
)

// usedProcessor is the time that this process has had a processor.
func usedProcessor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
