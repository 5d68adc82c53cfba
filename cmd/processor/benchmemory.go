package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"time"
)

// memoryReport is the outcome of --memory. The figures are the highest of the tenth
// of the activities before: what the garbage collector has not fetched yet is
// memory, too.
type memoryReport struct {
	Flags int     `json:"flags"`
	Rate  float64 `json:"records_per_second"`
	// Tenths are the bytes in RAM after each tenth of the activities.
	Tenths []int64 `json:"rss_by_tenth"`
	Growth float64 `json:"growth"` // of the last tenth over the first, as a share
}

// memory streams all activities through the pipeline.
func (b *bench) memory(ctx context.Context) (*memoryReport, error) {
	if residentBytes() == 0 {
		return nil, errors.New("this system doesn't say how much memory a process has")
	}
	if err := b.fill(ctx); err != nil {
		return nil, err
	}
	r := &memoryReport{Flags: b.usual(), Tenths: make([]int64, 10)}
	turn, err := b.openStream(ctx, r.Flags, false)
	if err != nil {
		return nil, err
	}
	defer turn.close()
	// What filling the topic took must not hide what the stream takes.
	runtime.GC()
	debug.FreeOSMemory()
	working, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1) // capacity 1: written once, and maybe read later
	go func() { ended <- turn.run(working) }()
	start := time.Now()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for done := 0; done < b.Activities; {
		select {
		case <-ticker.C:
		case err := <-ended:
			return nil, errors.Join(err, ctx.Err())
		}
		tenth := min(done*10/b.Activities, 9)
		r.Tenths[tenth] = max(r.Tenths[tenth], residentBytes())
		done = turn.progress()
		b.progress.show("%s of %s activities, %s", thousands(done), thousands(b.Activities), megabytes(r.Tenths[tenth]))
	}
	r.Rate = float64(b.Activities) / time.Since(start).Seconds()
	r.Growth = float64(r.Tenths[9])/float64(r.Tenths[0]) - 1
	stop()
	return r, unlessCanceled(<-ended)
}

func (r *memoryReport) write(w io.Writer) {
	fmt.Fprintf(w, "\nmemory with %d flags, at %s records/s: the highest within each tenth of the activities\n\n ", r.Flags, thousands(int(r.Rate)))
	for _, bytes := range r.Tenths {
		fmt.Fprintf(w, " %s", megabytes(bytes))
	}
	fmt.Fprintf(w, "\n\n  the last tenth against the first: %+.1f %%\n", 100*r.Growth)
}
