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
	"runtime"
	"syscall"
	"time"
)

// minCovered is the size from which on a run must have met everything.
const minCovered = 2000

func main() { os.Exit(command(os.Args[1:], os.Stdout, os.Stderr)) }

// command runs the comparison and returns the exit code: 0 if the sides agree and
// everything was met, 1 if not, 2 for wrong usage.
func command(args []string, out, errs io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r := run{out: out}
	flags := flag.NewFlagSet("oracle", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.IntVar(&r.cases, "cases", 2000, "how many cases")
	flags.IntVar(&r.perDatafile, "per-datafile", 20, "cases for each datafile")
	flags.Uint64Var(&r.seed, "seed", 0, "what the cases depend on; 0: a fresh one")
	flags.IntVar(&r.workers, "workers", runtime.GOMAXPROCS(0), "processes of the SDK")
	flags.IntVar(&r.maxDifferences, "max-differences", 5, "stop after so many differences")
	flags.StringVar(&r.python, "python", ".cache/oracle/venv/bin/python", "interpreter that finds the SDK")
	flags.StringVar(&r.folder, "folder", ".cache/oracle", "where differences are kept")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if r.cases < 1 || r.perDatafile < 1 || r.workers < 1 || r.maxDifferences < 1 || flags.NArg() > 0 {
		fmt.Fprintln(errs, "oracle: numbers must be positive, and there are no arguments")
		return 2
	}
	if r.seed == 0 {
		r.seed = uint64(rand.Uint32()) + 1
	}
	if err := r.all(ctx); err != nil {
		fmt.Fprintln(errs, "oracle:", err)
		return 1
	}
	return 0
}

// all compares and prints the account.
func (r *run) all(ctx context.Context) error {
	var err error
	if r.version, err = sdkVersion(ctx, r.python); err != nil {
		return err
	}
	fmt.Fprintf(r.out, "oracle: %d cases against the Python SDK %s, seed %d\n", r.cases, r.version, r.seed)
	start := time.Now()
	if err := r.do(ctx); err != nil {
		return err
	}
	s := &r.sum
	fmt.Fprintf(r.out, "\ncases met, by what:")
	s.met.write(r.out)
	fmt.Fprintf(r.out, "\nby a rule:\n")
	for _, name := range rules {
		fmt.Fprintf(r.out, "  %-50s %d\n", name, s.byRule[name])
	}
	fmt.Fprintf(r.out, "\noracle: %d cases on %d datafiles in %.1f s: %d compared, with %d decisions, %d events and %d profile saves; %d differences\n",
		s.cases, s.datafiles, time.Since(start).Seconds(), s.compared, s.decisions, s.events, s.profiles, s.differences)
	if s.differences > 0 {
		return fmt.Errorf("%d differences (seed %d)", s.differences, r.seed)
	}
	if s.cases != r.cases {
		return fmt.Errorf("%d cases were wanted", r.cases)
	}
	if skipped := s.cases - s.compared; skipped*50 > s.cases {
		return fmt.Errorf("%d cases were not compared, more than one of 50: the generator went astray", skipped)
	}
	if missed := s.met.missed(s.cases); s.cases >= minCovered && len(missed) > 0 {
		return fmt.Errorf("met too seldom, in no case or in fewer than one of 5000: %q", missed)
	}
	return nil
}
