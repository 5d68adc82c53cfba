package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"sortition/internal/fileio"
	"sortition/sinks"
)

// maxShownProblems is how many problems of a file are listed; all are counted.
const maxShownProblems = 1000

// eventsReport is the JSON form of what check finds in a file of event bodies.
type eventsReport struct {
	Events      string               `json:"events"`
	IsValid     bool                 `json:"valid"` // no errors; there may be warnings
	Bodies      int64                `json:"bodies"`
	Visitors    int64                `json:"visitors"`
	Impressions int64                `json:"impressions"`
	Conversions int64                `json:"conversions"`
	Repeats     int64                `json:"repeats"` // events that are there again, the same
	Errors      int64                `json:"errors"`
	Warnings    int64                `json:"warnings"`
	Counts      map[sinks.Code]int64 `json:"counts"`   // by code
	Problems    []lineProblem        `json:"problems"` // the first ones
}

// A lineProblem is a problem of the body on a line.
type lineProblem struct {
	Line int64 `json:"line"`
	sinks.Problem
}

// runEvents checks a file of event bodies.
func (c *checkCmd) runEvents(ctx context.Context, std stdio) error {
	var catalog *sinks.Catalog
	if c.Datafile != "" {
		raw, err := fileio.ReadFile(c.Datafile, maxDatafile)
		if err != nil {
			return err
		}
		if catalog, err = sinks.CatalogOf(raw); err != nil {
			return fmt.Errorf("%s: %w", c.Datafile, err)
		}
	}
	input, err := fileio.Open(c.Events, std.in)
	if err != nil {
		return err
	}
	report, err := checkEvents(ctx, input, catalog, time.Now)
	if err = errors.Join(err, input.Close()); err != nil {
		return err
	}
	report.Events = c.Events
	if c.JSON {
		err = writeJSON(std.out, report)
	} else {
		_, err = io.WriteString(std.out, report.text())
	}
	if err == nil && !report.IsValid {
		err = errShown
	}
	return err
}

// checkEvents checks bodies, one a line, as those of one stream of events.
func checkEvents(ctx context.Context, input io.Reader, catalog *sinks.Catalog, now func() time.Time) (*eventsReport, error) {
	r := &eventsReport{Problems: []lineProblem{}, Counts: map[sinks.Code]int64{}}
	validator := sinks.NewValidator(sinks.ValidatorConfig{Against: func(string, string) *sinks.Catalog { return catalog }})
	cutter := fileio.NewLineCutter(input, maxLine)
	var chunk fileio.Chunk
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		err := cutter.Cut(&chunk)
		if errors.Is(err, io.EOF) {
			r.IsValid = r.Errors == 0
			return r, nil
		}
		if err != nil {
			return nil, err
		}
		for i := range chunk.Lines {
			line := &chunk.Lines[i]
			r.Bodies++
			if line.Err != nil { // it is longer than any body may be
				r.add(line.Number, &sinks.Problem{Code: sinks.CodeTooLarge, Severity: sinks.SeverityError, Message: line.Err.Error()})
				continue
			}
			report := validator.Check(chunk.Data[line.From:line.To], now())
			r.Visitors += int64(report.Visitors)
			r.Impressions += int64(report.Impressions)
			r.Conversions += int64(report.Conversions)
			r.Repeats += int64(report.Repeats)
			for k := range report.Problems {
				r.add(line.Number, &report.Problems[k])
			}
		}
		if chunk.IsCut {
			if err := cutter.Rest(io.Discard); err != nil {
				return nil, err
			}
		}
	}
}

func (r *eventsReport) add(line int64, p *sinks.Problem) {
	r.Counts[p.Code]++
	if p.Severity == sinks.SeverityError {
		r.Errors++
	} else {
		r.Warnings++
	}
	if len(r.Problems) < maxShownProblems {
		r.Problems = append(r.Problems, lineProblem{line, *p})
	}
}

func (r *eventsReport) text() string {
	var b strings.Builder
	verdict := "is good"
	switch {
	case r.Errors > 0:
		verdict = "is not good: " + count(r.Errors, "error", "errors")
	case r.Warnings > 0:
		verdict = "is good, with " + count(r.Warnings, "warning", "warnings")
	}
	fmt.Fprintf(&b, "%s %s\n\n", r.Events, verdict)
	row := func(label string, n int64) { fmt.Fprintf(&b, "  %-12s%s\n", label, grouped(n)) }
	row("bodies", r.Bodies)
	row("impressions", r.Impressions)
	row("conversions", r.Conversions)
	if r.Repeats > 0 {
		row("repeats", r.Repeats)
	}
	if len(r.Problems) == 0 {
		return b.String()
	}
	b.WriteByte('\n')
	for _, code := range slices.Sorted(maps.Keys(r.Counts)) {
		fmt.Fprintf(&b, "  %-28s%s\n", code, grouped(r.Counts[code]))
	}
	b.WriteByte('\n')
	for _, p := range r.Problems {
		place := p.Path
		if place == "" {
			place = "the whole body"
		}
		fmt.Fprintf(&b, "  line %d, %s\n      %s: %s (%s)\n", p.Line, place, p.Severity, p.Message, p.Code)
	}
	if more := r.Errors + r.Warnings - int64(len(r.Problems)); more > 0 {
		fmt.Fprintf(&b, "  … and %s more\n", grouped(more))
	}
	return b.String()
}
