package pipeline

import (
	"runtime"
	"sync"
)

// spareWorkers are workers that nobody uses at present. Unlike a sync.Pool it keeps
// them over a garbage collection: a worker's buffers have grown to the size of a batch
// (megabytes, with many flags), and growing them again is what would bring on the
// next one. It keeps no more than could be at work at once on this machine, so that
// partitions in their hundreds, most of which wait for their outputs to be stored,
// don't add up.
type spareWorkers struct {
	mu   sync.Mutex // guards idle
	idle []*worker
}

// take returns a spare worker, or nil.
func (s *spareWorkers) take() *worker {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.idle) - 1
	if last < 0 {
		return nil
	}
	w := s.idle[last]
	s.idle[last] = nil
	s.idle = s.idle[:last]
	return w
}

func (s *spareWorkers) giveBack(w *worker) {
	most := 2 * runtime.GOMAXPROCS(0)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.idle) < most {
		s.idle = append(s.idle, w)
	}
}
