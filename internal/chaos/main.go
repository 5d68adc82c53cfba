package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

func main() { os.Exit(command(os.Args[1:], os.Stdout, os.Stderr)) }

// command makes a run and returns the exit code: 0 if the account adds up, 1 if
// something is off, 2 for wrong usage.
func command(args []string, out, errs io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r := run{out: out}
	var minutes float64
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.Uint64Var(&r.seed, "seed", 0, "what happens depends on it; 0: a fresh one")
	flags.Float64Var(&minutes, "minutes", 3, "how long things happen; what is left then is worked off in peace")
	flags.IntVar(&r.activities, "activities", 1_000_000, "how many activities")
	flags.IntVar(&r.partitions, "partitions", 12, "of the topics")
	flags.BoolVar(&r.fake, "fake", false, "on an in-process broker, which is not restarted; else on a real Kafka: the one that SORTITION_KAFKA names, or one of its own")
	flags.StringVar(&r.processor, "processor", "", "the binary; default: it is built")
	flags.StringVar(&r.folder, "folder", "", "for configuration and logs; default: .cache/chaos/SEED")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if minutes <= 0 || r.activities < 1 || r.partitions < 1 || flags.NArg() > 0 {
		fmt.Fprintln(errs, "chaos: numbers must be positive, and there are no arguments")
		return 2
	}
	r.duration = time.Duration(minutes * float64(time.Minute))
	if r.seed == 0 {
		r.seed = uint64(rand.Uint32()) + 1
	}
	if r.folder == "" {
		r.folder = filepath.Join(".cache", "chaos", strconv.FormatUint(r.seed, 10))
	}
	if err := r.all(ctx); err != nil {
		fmt.Fprintf(errs, "chaos: %v (seed %d, logs in %s)\n", err, r.seed, r.folder)
		return 1
	}
	return 0
}
