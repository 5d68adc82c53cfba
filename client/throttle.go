package client

import (
	"sync/atomic"
	"time"
)

// A throttle lets one line a second into the log and counts the others.
type throttle struct {
	last   atomic.Int64 // ms since the epoch
	missed atomic.Int64
}

// pass is true if there may be a line now; missed were left out since the last.
func (t *throttle) pass() (missed int64, ok bool) {
	now, last := time.Now().UnixMilli(), t.last.Load()
	if now-last < 1000 || !t.last.CompareAndSwap(last, now) {
		t.missed.Add(1)
		return 0, false
	}
	return t.missed.Swap(0), true
}
