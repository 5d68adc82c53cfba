package kafkago

import "sync"

// tracker finds the offset that may be committed: the end of the longest run of
// finished spans, counted from where the partition was taken over. Spans begin
// in offset order and finish in any order.
//
// Committing anything higher would skip unfinished work after a crash, and
// committing whatever finished last would rewind.
type tracker struct {
	mu       sync.Mutex // guards the fields below
	position int64      // everything before it is done
	pending  []*span    // begun, in order; the first one is not done
}

// span is a run of consecutive offsets that is worked on as one.
type span struct {
	end  int64 // offset after the last one
	done bool
}

func newTracker(position int64) *tracker { return &tracker{position: position} }

// begin registers the offsets up to end, exclusive, as being worked on.
func (t *tracker) begin(end int64) *span {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &span{end: end}
	t.pending = append(t.pending, s)
	return s
}

// finish marks s done.
func (t *tracker) finish(s *span) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.done = true
	n := 0
	for n < len(t.pending) && t.pending[n].done {
		t.position = t.pending[n].end
		n++
	}
	// Shift, so that a long life does not grow the array behind the slice.
	rest := copy(t.pending, t.pending[n:])
	clear(t.pending[rest:])
	t.pending = t.pending[:rest]
}

// committable returns the offset to commit: that of the next record to process.
func (t *tracker) committable() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.position
}
