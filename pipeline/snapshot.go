package pipeline

import "sync/atomic"

// A SnapshotSource knows the datafile of the moment. Snapshot is called once per
// micro-batch, never returns nil, and is safe for concurrent use.
type SnapshotSource interface {
	Snapshot() *Snapshot
}

// Latest is a SnapshotSource whose snapshot can be exchanged while batches run:
// those that have begun finish with the one they began with. The zero one is empty,
// and must not be asked before the first Swap.
type Latest struct{ current atomic.Pointer[Snapshot] }

var _ SnapshotSource = (*Latest)(nil)

// NewLatest returns a source that holds s.
func NewLatest(s *Snapshot) *Latest {
	l := &Latest{}
	l.current.Store(s)
	return l
}

// Snapshot returns the snapshot of the moment.
func (l *Latest) Snapshot() *Snapshot { return l.current.Load() }

// Swap makes s the snapshot of all batches that begin from now on.
func (l *Latest) Swap(s *Snapshot) { l.current.Store(s) }
