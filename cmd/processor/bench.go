package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"sortition/decision"
	"sortition/internal/sample"
	"sortition/pipeline"
)

// benchCmd measures how fast the stream goes on this machine, beside what the
// broker would allow.
type benchCmd struct {
	Brokers    []string      `placeholder:"HOST:PORT,..." help:"A Kafka of yours. Without it: one in the process, which keeps everything in memory and takes part of the processors."`
	Activities int           `placeholder:"N" default:"100000" help:"Activities in the topic (${default}; with --memory 10,000,000)."`
	Partitions int           `placeholder:"P" default:"4" help:"Partitions of the topics (${default})."`
	Codec      string        `placeholder:"CODEC" default:"zstd" help:"Compression of all topics: none, lz4, zstd, snappy or gzip (${default})."`
	Datafile   string        `placeholder:"FILE" help:"Datafile to decide by. Default: a made-up one of 60 flags."`
	Flags      []int         `placeholder:"N,..." default:"1,10,60" help:"How many flags to decide per activity, a row each (${default})."`
	Rounds     int           `placeholder:"R" default:"3" help:"How often each row is measured; rows take turns (${default})."`
	Rows       []string      `placeholder:"ROW,..." help:"Only these rows, and latency: copy, io/10, pipeline/10, events/10, delivered/10, latency."`
	Rate       int           `placeholder:"R" default:"5000" help:"Activities a second while latency is measured (${default})."`
	For        time.Duration `placeholder:"D" default:"10s" help:"How long latency is measured; 0s leaves it out (${default})."`
	Memory     bool          `help:"Only stream --activities and hold the memory at the end against that after a tenth of them. Needs --brokers."`
	JSON       bool          `name:"json" help:"Print JSON."`
	CPUProfile string        `name:"cpuprofile" placeholder:"FILE" help:"Write a CPU profile of the measured rows, for go tool pprof."`
	MemProfile string        `name:"memprofile" placeholder:"FILE" help:"Write a profile of all allocations, for go tool pprof."`
}

// Help is shown by --help.
func (benchCmd) Help() string {
	return `Fills a topic with made-up activities and measures, by turns:

    copy          a loop over the bare kafka-go Client that copies them to another topic
    io/N          a loop over the bare Client that reads them and writes a ready-made decision record of N flags for each
    pipeline/N    the stream as "processor run" has it, deciding N flags per activity, no events
    events/N      the same with an impression per decision, stored in the events topic
    delivered/N   those events posted to an endpoint that takes everything: the handler deliver-events by itself, counted in activities

then, at a fixed rate, the time from the moment an activity is due to be produced until its decision record can be read.
Everything has acks=all and the same codec. Each figure is the median of --rounds. Allocations and memory are those of this process:
with the broker in it, they are the broker's too.

Topics and groups on a given broker have names beginning with "sortition-bench-" that are used once, and are deleted at the end.

Examples:

    processor bench
    processor bench --brokers localhost:9092 --codec lz4 --activities 1000000 --rounds 5 --for 60s
    processor bench --rows io/10,pipeline/10 --cpuprofile cpu.out --rounds 10
    processor bench --memory --brokers localhost:9092      # 10 million activities: is memory flat?
`
}

const (
	benchDefaultActivities = 100_000
	benchMemoryDefault     = 10_000_000
	benchDatafileFlags     = 60
	benchSeed              = 1
)

func (c *benchCmd) validate() error {
	var faults []error
	fault := func(bad bool, text string) {
		if bad {
			faults = append(faults, errors.New(text))
		}
	}
	fault(c.Activities < 100 || c.Activities > 1_000_000_000, "--activities must be from 100 to 1,000,000,000")
	fault(c.Partitions < 1 || c.Partitions > 1000, "--partitions must be from 1 to 1,000")
	fault(!slices.Contains([]string{"none", "lz4", "zstd", "snappy", "gzip"}, c.Codec), "--codec must be none, lz4, zstd, snappy or gzip")
	fault(len(c.Flags) == 0 || slices.Min(c.Flags) < 1, "--flags must be numbers of at least 1")
	fault(c.Rounds < 1 || c.Rounds > 1000, "--rounds must be from 1 to 1,000")
	fault(c.Rate < 1 || c.Rate > 1_000_000, "--rate must be from 1 to 1,000,000")
	fault(c.For < 0 || c.For > 24*time.Hour, "--for must be from 0s to 24h")
	fault(c.Memory && len(c.Brokers) == 0, "--memory needs --brokers: a broker in the process would keep all the topics in its memory")
	if len(faults) > 0 {
		return usageError{errors.Join(faults...)}
	}
	return nil
}

// Run measures and reports.
func (c *benchCmd) Run(ctx context.Context, std stdio) (err error) {
	if c.Memory && c.Activities == benchDefaultActivities {
		c.Activities = benchMemoryDefault
	}
	if err := c.validate(); err != nil {
		return err
	}
	project, err := c.project()
	if err != nil {
		return err
	}
	c.Flags = flagCounts(c.Flags, project.NumFlags())
	b := &bench{benchCmd: c, project: project, snapshot: pipeline.NewSnapshot(project), progress: newBenchProgress(std)}
	rows, err := b.chosen()
	if err != nil {
		return usageError{err}
	}
	if b.broker, err = openBenchBroker(c.Brokers, c.Partitions); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.broker.close(ctx)) }()

	report := &benchReport{Machine: thisMachine(), Setting: b.setting()}
	if c.Memory {
		report.Memory, err = b.memory(ctx)
	} else {
		err = b.measure(ctx, rows, report)
	}
	b.progress.end()
	if err != nil {
		return err
	}
	if c.JSON {
		return report.writeJSON(std.out)
	}
	report.write(std.out)
	return nil
}

// measure fills the topic and measures the rows and the latency.
func (b *bench) measure(ctx context.Context, rows []*benchRow, report *benchReport) (err error) {
	if len(rows) > 0 {
		if err := b.fill(ctx); err != nil {
			return err
		}
		report.Setting.ActivityBytes = b.activityBytes()
	}
	stop, err := b.profiles()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if report.Rows, err = b.rounds(ctx, rows); err != nil {
		return err
	}
	if b.wantsLatency() {
		report.Latency, err = b.latency(ctx)
	}
	return err
}

func (c *benchCmd) project() (*decision.Project, error) {
	if c.Datafile != "" {
		return readProject(c.Datafile, false)
	}
	return decision.Compile(sample.Datafile(benchSeed, benchDatafileFlags))
}

// flagCounts are the wanted numbers of flags, each once, and no more than there are.
func flagCounts(wanted []int, most int) []int {
	var counts []int
	for _, n := range wanted {
		if n = min(n, most); n > 0 && !slices.Contains(counts, n) {
			counts = append(counts, n)
		}
	}
	slices.Sort(counts)
	return counts
}

func (c *benchCmd) wantsLatency() bool {
	return c.For > 0 && (len(c.Rows) == 0 || slices.Contains(c.Rows, "latency"))
}

// chosen returns the rows to measure, in the order of the table.
func (b *bench) chosen() ([]*benchRow, error) {
	all := b.rows()
	if len(b.Rows) == 0 {
		return all, nil
	}
	names := []string{"latency"}
	var rows []*benchRow
	for _, r := range all {
		names = append(names, r.name)
		if slices.Contains(b.Rows, r.name) {
			rows = append(rows, r)
		}
	}
	for _, name := range b.Rows {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("--rows: there is no %q; there are %s", name, strings.Join(names, ", "))
		}
	}
	return rows, nil
}

// profiles starts the profiles that are wanted; stop writes them.
func (c *benchCmd) profiles() (stop func() error, err error) {
	var cpu *os.File
	if c.CPUProfile != "" {
		if cpu, err = os.Create(c.CPUProfile); err != nil {
			return nil, err
		}
		if err := pprof.StartCPUProfile(cpu); err != nil {
			return nil, errors.Join(err, cpu.Close())
		}
	}
	return func() error {
		var faults []error
		if cpu != nil {
			pprof.StopCPUProfile()
			faults = append(faults, cpu.Close())
		}
		if c.MemProfile != "" {
			f, err := os.Create(c.MemProfile)
			if err == nil {
				err = errors.Join(pprof.Lookup("allocs").WriteTo(f, 0), f.Close())
			}
			faults = append(faults, err)
		}
		return errors.Join(faults...)
	}, nil
}
