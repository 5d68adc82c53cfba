package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"sortition/internal/kafkatest"
)

// A watched group and the topic it reads.
type watched struct{ group, topic string }

// A watcher asks again and again what the groups have committed, and remembers the
// most. One goroutine asks; others may ask it.
type watcher struct {
	reader     *kafkatest.Reader
	partitions int
	groups     []watched

	mu        sync.Mutex // guards all below
	highest   [][]int64  // by group and partition
	asked     int        // answers
	unheard   int        // questions without an answer: the broker is away
	backwards []string   // what was seen to go backwards
}

func newWatcher(reader *kafkatest.Reader, partitions int, groups []watched) *watcher {
	w := &watcher{reader: reader, partitions: partitions, groups: groups}
	for range groups {
		w.highest = append(w.highest, make([]int64, partitions))
	}
	return w
}

// look asks once.
func (w *watcher) look(ctx context.Context) error {
	for i, g := range w.groups {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		offsets, err := w.reader.Committed(ctx, g.group, g.topic, w.partitions)
		cancel()
		w.see(i, offsets, err)
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *watcher) see(group int, offsets []int64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.unheard++
		return
	}
	w.asked++
	for p, at := range offsets {
		before := w.highest[group][p]
		if at < before {
			w.backwards = append(w.backwards, fmt.Sprintf("%s: partition %d from %d to %d", w.groups[group].group, p, before, at))
		}
		w.highest[group][p] = max(before, at)
	}
}

// run asks until ctx is done.
func (w *watcher) run(ctx context.Context) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_ = w.look(ctx) // it is counted
		}
	}
}

// committed is the sum of what a group has committed, as far as is known.
func (w *watcher) committed(group int) (sum int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, at := range w.highest[group] {
		sum += at
	}
	return sum
}
