package main

import (
	"bufio"
	"context"
	"errors"

	"sortition/examples"
	"sortition/internal/fileio"
	"sortition/internal/sample"
)

type generateCmd struct {
	Activities generateActivitiesCmd `cmd:"" help:"Made-up activities of a shop's visitors, one a line."`
	Datafile   generateDatafileCmd   `cmd:"" help:"The sample shop's datafile, or a made-up one of any size."`
	Traffic    generateTrafficCmd    `cmd:"" help:"Made-up activities into a Kafka topic, at a rate."`
}

// Help is shown by --help.
func (generateCmd) Help() string {
	return `Examples:

    processor generate datafile -o shop.json
    processor generate activities --count 100000 -o activities.ndjson.gz
    processor generate traffic --brokers localhost:9092 --rate 500
`
}

type generateActivitiesCmd struct {
	Count  int64  `short:"n" default:"10000" placeholder:"N" help:"How many (10000)."`
	Seed   uint64 `default:"1" placeholder:"N" help:"Another seed gives other activities (1)."`
	Bad    int    `default:"4" placeholder:"N" help:"How many of a thousand can't be used (4)."`
	Output string `short:"o" default:"-" placeholder:"FILE" help:"Where to write; - is standard output (the default)."`
}

// Help is shown by --help.
func (generateActivitiesCmd) Help() string {
	return `Examples:

    processor generate activities --count 1000000 -o activities.ndjson.gz
    processor generate activities --count 100 --seed 7 --bad 0 | processor assign --datafile d.json

The same seed gives the same bytes, on every machine.
`
}

type generateDatafileCmd struct {
	Flags  int    `placeholder:"N" help:"How many flags. Default: the sample shop's datafile, which the activities fit."`
	Seed   uint64 `default:"1" placeholder:"N" help:"Another seed gives another datafile (1)."`
	Output string `short:"o" default:"-" placeholder:"FILE" help:"Where to write; - is standard output (the default)."`
}

// Help is shown by --help.
func (generateDatafileCmd) Help() string {
	return `Examples:

    processor generate datafile -o shop.json
    processor generate datafile --flags 1000 --seed 3 -o large.json
`
}

// Run writes activities.
func (c *generateActivitiesCmd) Run(ctx context.Context, std stdio) error {
	if c.Count < 0 || c.Bad < 0 || c.Bad > 1000 {
		return usageError{errors.New("--count must not be negative, and --bad be from 0 to 1000")}
	}
	options := sample.DefaultOptions()
	options.Bad = c.Bad
	g := sample.NewGenerator(c.Seed, options)
	return writeOutput(c.Output, std, func(w *bufio.Writer) error {
		var line []byte
		for i := range c.Count {
			if i%1024 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			line = append(g.AppendNext(line[:0]), '\n')
			if _, err := w.Write(line); err != nil {
				return err
			}
		}
		return nil
	})
}

// Run writes a datafile.
func (c *generateDatafileCmd) Run(std stdio) error {
	if c.Flags < 0 {
		return usageError{errors.New("--flags must not be negative")}
	}
	datafile := examples.Datafile()
	if c.Flags > 0 {
		datafile = append(sample.Datafile(c.Seed, c.Flags), '\n')
	}
	return writeOutput(c.Output, std, func(w *bufio.Writer) error {
		_, err := w.Write(datafile)
		return err
	})
}

// writeOutput writes a file that appears when it is complete.
func writeOutput(path string, std stdio, write func(*bufio.Writer) error) error {
	o, err := fileio.Create(path, std.out)
	if err != nil {
		return err
	}
	defer o.Discard()
	w := bufio.NewWriterSize(o, 256<<10)
	if err := write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return fileio.Publish(o)
}
