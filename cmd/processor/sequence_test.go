package main

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// runSequence lets workers do jobs, each of which writes its number in parts.
func runSequence(s *sequence, workers, jobs int, begin func(job int64)) error {
	var next atomic.Int64
	var taking sync.Mutex
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			r := &result{}
			for {
				taking.Lock()
				job := next.Load()
				if job == int64(jobs) || s.admit(job) != nil {
					taking.Unlock()
					return
				}
				next.Add(1)
				begin(job)
				taking.Unlock()
				for part := range job % 3 { // some jobs write before they are done
					r.decisions = strconv.AppendInt(append(r.decisions, 'p'), part, 10)
					if s.turn(job) != nil {
						return
					}
					if err := s.write(r); err != nil {
						s.fail(err)
						return
					}
					r.reset()
				}
				r.decisions = strconv.AppendInt(append(r.decisions, ' '), job, 10)
				var err error
				if r, err = s.put(job, r); err != nil {
					return
				}
			}
		})
	}
	all.Wait()
	return s.cause()
}

func TestSequenceKeepsOrderAndBounds(t *testing.T) {
	const jobs = 5000
	var want strings.Builder
	for job := range jobs {
		for part := range job % 3 {
			want.WriteString("p" + strconv.Itoa(part))
		}
		want.WriteString(" " + strconv.Itoa(job))
	}
	for _, workers := range []int{1, 2, 7} {
		for _, window := range []int{1, 3, 16} {
			for _, held := range []int{1, 1 << 20} {
				var got strings.Builder
				var written atomic.Int64
				s := newSequence(window, held, func(r *result) error {
					got.Write(r.decisions)
					if strings.Contains(string(r.decisions), " ") {
						written.Add(1)
					}
					return nil
				})
				require.NoError(t, runSequence(s, workers, jobs, func(job int64) {
					if ahead := job - written.Load(); ahead > int64(window) {
						t.Errorf("job %d began %d ahead, window %d", job, ahead, window)
					}
				}))
				require.Equal(t, want.String(), got.String())
				require.LessOrEqual(t, len(s.free), window+workers)
				require.Zero(t, s.held)
			}
		}
	}
}

// The first error ends it for everybody.
func TestSequenceEndsWithTheFirstError(t *testing.T) {
	broken := errors.New("broken")
	var calls atomic.Int64
	s := newSequence(4, 1<<20, func(*result) error {
		if calls.Add(1) == 100 {
			return broken
		}
		return nil
	})
	require.ErrorIs(t, runSequence(s, 3, 1_000_000, func(int64) {}), broken)
	require.Equal(t, int64(100), calls.Load())
	s.fail(errors.New("later"))
	require.ErrorIs(t, s.cause(), broken)
}
