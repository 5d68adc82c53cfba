package main

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// moved is what next told.
type moved struct {
	move move
	task *task
	desk *desk
}

func (h *ahead) moved() moved {
	m, t, d := h.next()
	return moved{m, t, d}
}

// waiting asks for the next move, which must not be there yet.
func waiting(t *testing.T, h *ahead) <-chan moved {
	t.Helper()
	next := make(chan moved, 1) // the test may have failed
	go func() { next <- h.moved() }()
	synctest.Wait()
	select {
	case m := <-next:
		t.Fatalf("there was %v to do", m)
	default:
	}
	return next
}

// TestAhead: the first that is ready goes to a desk, whatever is ready behind it; more is
// read only while the first isn't ready; one reads at a time, and desks still are served.
func TestAhead(t *testing.T) { synctest.Test(t, testAhead) }

func testAhead(t *testing.T) {
	h := newAhead(3)
	a, b := &desk{}, &desk{}
	h.desks = []*desk{a, b}
	add := func() *task {
		m := h.moved()
		require.Equal(t, read, m.move)
		h.joined(m.task)
		return m.task
	}
	first, second := add(), add()
	h.ready(second)
	third := add()
	h.ready(first)
	require.Equal(t, moved{decide, first, b}, h.moved())
	require.Equal(t, moved{decide, second, a}, h.moved())

	fourth := h.moved()
	require.Equal(t, read, fourth.move, "third isn't ready")
	h.ready(third)
	h.left(first, b)
	require.Equal(t, moved{decide, third, b}, h.moved(), "although somebody waits for input")
	h.joined(fourth.task)
	h.ready(fourth.task)
	next := waiting(t, h) // no desk is free, and the first is ready
	h.left(second, a)
	require.Equal(t, moved{decide, fourth.task, a}, <-next)
	h.left(third, b)
	last := h.moved()
	require.Equal(t, read, last.move)
	require.Contains(t, []*task{first, second, third}, last.task, "tasks are used again")
	h.joined(nil)
	h.left(fourth.task, a)
	require.Equal(t, leave, h.moved().move)
	require.Equal(t, leave, h.moved().move)
}

// TestAheadIsBounded: a long line isn't read on.
func TestAheadIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newAhead(2)
		h.desks = []*desk{{}}
		for range 2 {
			m := h.moved()
			require.Equal(t, read, m.move)
			h.joined(m.task)
		}
		next := waiting(t, h)
		h.stop()
		require.Equal(t, leave, (<-next).move)
	})
}
