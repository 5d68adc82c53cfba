package main

import "sync"

// A sequence puts the work of several workers back in order. There is no writer
// of its own: the worker whose turn it is writes, and what the others have ready
// behind it, so that n workers take n processors and one worker takes one.
//
// Jobs have the numbers 0, 1, 2, … For each, in this order: admit, any number of
// turn, put. When one of them returns an error, all is over.
type sequence struct {
	write func(*result) error // called by one worker at a time, in order

	mu        sync.Mutex
	changed   sync.Cond // next, isWriting or err has changed
	next      int64     // the job whose turn it is
	ready     []*result // by job modulo window: done, waiting for its turn
	held      int       // bytes in ready
	maxHeld   int
	free      []*result
	isWriting bool
	err       error
}

// newSequence makes a sequence in which at most window jobs are under way, and no
// job begins while results of maxHeld bytes wait for their turn.
func newSequence(window, maxHeld int, write func(*result) error) *sequence {
	s := &sequence{write: write, ready: make([]*result, window), maxHeld: maxHeld}
	s.changed.L = &s.mu
	return s
}

// admit waits until job may begin: until few enough before it are under way, or
// everything before it is written.
func (s *sequence) admit(job int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.err == nil && job > s.next && (job >= s.next+int64(len(s.ready)) || s.held >= s.maxHeld) {
		s.changed.Wait()
	}
	return s.err
}

// turn waits until everything before job is written. From then until its put the
// worker of that job may write by itself.
func (s *sequence) turn(job int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.err == nil && (job != s.next || s.isWriting) {
		s.changed.Wait()
	}
	return s.err
}

// put hands over what came of job, and returns an empty result for another one.
func (s *sequence) put(job int64, r *result) (*result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	window := int64(len(s.ready))
	s.ready[job%window] = r
	s.held += r.size()
	if !s.isWriting { // else whoever writes comes by here
		s.isWriting = true
		for s.err == nil && s.ready[s.next%window] != nil {
			r := s.ready[s.next%window]
			s.ready[s.next%window] = nil
			size := r.size()
			s.mu.Unlock()
			err := s.write(r)
			r.reset()
			s.mu.Lock()
			s.free = append(s.free, r)
			s.held -= size
			s.next++
			if err != nil && s.err == nil {
				s.err = err
			}
			s.changed.Broadcast()
		}
		s.isWriting = false
		s.changed.Broadcast()
	}
	if s.err != nil {
		return nil, s.err
	}
	if n := len(s.free); n > 0 {
		r := s.free[n-1]
		s.free = s.free[:n-1]
		return r, nil
	}
	return &result{}, nil
}

// fail ends the sequence with an error, unless it has one.
func (s *sequence) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	s.changed.Broadcast()
}

// cause is the first error.
func (s *sequence) cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
