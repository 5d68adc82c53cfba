package client

import (
	"context"
	"sync"
	"time"
)

// life is when a client's background work begins and ends, and who waits for it.
type life struct {
	closing chan struct{} // never sent on; closed when Close begins
	closed  chan struct{} // never sent on; closed when Close is done

	mu        sync.Mutex // guards all below, and entry to group
	isClosing bool
	isStarted bool
	isEnded   bool
	cancels   map[int]context.CancelCauseFunc // of what runs
	lastID    int
	group     sync.WaitGroup // what runs
}

func newLife() *life {
	return &life{closing: make(chan struct{}), closed: make(chan struct{}), cancels: map[int]context.CancelCauseFunc{}}
}

func (l *life) isClosed() bool {
	select {
	case <-l.closing:
		return true
	default:
		return false
	}
}

// start is true for the first caller, unless closing has begun.
func (l *life) start() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	isFirst := !l.isStarted && !l.isClosing
	l.isStarted = l.isStarted || isFirst
	return isFirst
}

// close is true for the first caller; hasStarted tells whether start was before it.
func (l *life) close() (isFirst, hasStarted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosing {
		return false, l.isStarted
	}
	l.isClosing = true
	close(l.closing)
	return true, l.isStarted
}

// goAlong runs f in the background until it returns. Its context ends with ctx, and
// when the client's background work is ended. False if that has happened already.
func (l *life) goAlong(ctx context.Context, f func(context.Context)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isEnded {
		return false
	}
	ctx, cancel := context.WithCancelCause(ctx)
	l.lastID++
	id := l.lastID
	l.cancels[id] = cancel
	l.group.Go(func() {
		defer func() {
			cancel(nil)
			l.mu.Lock()
			defer l.mu.Unlock()
			delete(l.cancels, id)
		}()
		f(ctx)
	})
	return true
}

// lastMoment is what background work that has been told to end may take for it when
// there is no time left.
const lastMoment = time.Second

// end ends the background work and waits for it, or for the end of ctx and the last
// moment.
func (l *life) end(ctx context.Context) error {
	l.mu.Lock()
	l.isEnded = true
	for _, cancel := range l.cancels {
		cancel(ErrClosed)
	}
	l.mu.Unlock()
	over := make(chan struct{}) // never sent on; closed when all has ended
	go func() {                 // ends with the last of them
		l.group.Wait()
		close(over)
	}()
	select {
	case <-over:
		return nil
	case <-ctx.Done():
	}
	timer := time.NewTimer(lastMoment)
	defer timer.Stop()
	select {
	case <-over:
		return nil
	case <-timer.C:
		return context.Cause(ctx)
	}
}
