package emulator

import "context"

// TB is the part of testing.TB that is used here.
type TB interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Start runs an emulator on loopback for the duration of a test.
func Start(tb TB, opts Options) *Server {
	tb.Helper()
	e, err := New(opts)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	s, err := Listen(e, "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("%v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1) // 1: Run ends whether or not the test still waits
	go func() { done <- s.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("emulator: %v", err)
		}
	})
	return s
}
