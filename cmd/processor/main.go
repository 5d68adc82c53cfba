package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// commands are the program's commands, one file each.
type commands struct {
	Dev      devCmd      `cmd:"" help:"See it work: an in-process Kafka, sample activities, the stream over them, the account."`
	Bench    benchCmd    `cmd:"" help:"How fast this machine goes: the stream beside bare loops over the same broker."`
	Run      runCmd      `cmd:"" help:"The stream against your Kafka: activities in; decisions, events and dead letters out."`
	Assign   assignCmd   `cmd:"" help:"Assign the users of files: activities in, decision records out, in input order."`
	Explain  explainCmd  `cmd:"" help:"Say why a user gets a variation, down to each condition."`
	Check    checkCmd    `cmd:"" help:"Check a configuration, a datafile or events: all faults with their places, or a summary."`
	Generate generateCmd `cmd:"" help:"Make sample activities, as a file or as traffic in a topic, or a sample datafile: same seed, same bytes."`
	Emulator emulatorCmd `cmd:"" help:"The local Optimizely cloud: datafiles, events, ODP and predictions, with faults on demand."`
	Health   healthCmd   `cmd:"" help:"Ask a running stream whether it is ready: for the health check of a container."`
	Version  versionCmd  `cmd:"" help:"Print version, revision and Go version."`
}

func main() { os.Exit(run(os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr})) }

// run parses and runs one command line and returns the exit code.
func run(args []string, std stdio) int {
	// The first signal asks the command to end cleanly; then the signals get their
	// default effect back, so that the second one ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	signal.Ignore(syscall.SIGPIPE) // a closed pipe is a write error like others, after which files are cleaned up

	var cmds commands
	done := false
	parser := kong.Must(&cmds, kong.Name("processor"), kong.Description(description),
		kong.Writers(std.out, std.err), kong.Exit(func(int) { done = true }), kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(std))
	parsed, err := parser.Parse(args)
	switch {
	case done: // --help
		return exitDone
	case err != nil:
		err = usageError{withHint(err)}
	default:
		err = parsed.Run()
	}
	code, message := exitOf(ctx, err)
	if message != "" {
		fmt.Fprintln(std.err, "processor:", message)
	}
	return code
}
