package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"sortition/decision"
	"sortition/internal/fileio"
)

type checkCmd struct {
	Config         string        `short:"c" placeholder:"FILE" help:"The configuration of a stream to check, with its datafile if that is a file."`
	Connect        bool          `help:"With -c: also try what the stream will talk to: brokers, topics, datafile, endpoints, Redis. Nothing is changed there."`
	Timeout        time.Duration `default:"10s" placeholder:"TIME" help:"With --connect: how long each may take (${default})."`
	Datafile       string        `placeholder:"FILE" help:"The datafile to check; - is standard input."`
	Events         string        `placeholder:"FILE" help:"Event bodies to check instead, one a line, as assign --events writes them; against the datafile if one is given. - is standard input."`
	SkipValidation bool          `help:"Leave out the schema validation, as the SDKs' skip_json_validation does."`
	JSON           bool          `name:"json" help:"Print JSON."`
}

// Help is shown by --help.
func (checkCmd) Help() string {
	return `Examples:

    processor check -c sortition.yaml
    processor check -c sortition.yaml --connect
    processor check --datafile d.json
    processor check --datafile d.json --json | jq .faults
    curl -s https://cdn.optimizely.com/datafiles/KEY.json | processor check --datafile -
    processor check --events events.ndjson --datafile d.json

A datafile that can be used gives a summary, with warnings about what is odd in it, and exit code 0. Otherwise every fault is
listed with its JSON path, and the exit code is 1.

A configuration is looked through whole: unknown keys, values, files that are missing, what doesn't go together, and the datafile if it
is a file. Each fault has its line and column. Warnings don't change the exit code. With --connect, everything the stream will talk to
is tried at the same time, and what doesn't answer makes the exit code 1: each bootstrap broker and each the cluster names, with TLS and
credentials; topics; the coordinators of the groups; the datafile, fetched; ODP, asked for the segments of a user who doesn't exist;
Redis, pinged; the endpoints of events and predictions, by a HEAD request, which makes neither an event nor a prediction. It writes
nothing anywhere. Secrets are not shown.

The event endpoint accepts whatever it is sent and sorts it out later, out of sight. --events tells beforehand what would be lost:
what breaks the schema, ids that are missing or not the datafile's, uuids used twice, timestamps in the future, conversions from before
their visitor's first decision. Errors give exit code 1; warnings don't.
`
}

// checkReport is the JSON form of what check finds.
type checkReport struct {
	Datafile string            `json:"datafile"`
	IsValid  bool              `json:"valid"`
	Faults   []decision.Fault  `json:"faults"`
	Warnings []decision.Fault  `json:"warnings"`
	Summary  *decision.Summary `json:"summary,omitempty"`

	project *decision.Project // nil: not valid
}

// Run checks.
func (c *checkCmd) Run(ctx context.Context, std stdio) error {
	switch {
	case c.Config == "" && c.Events == "" && c.Datafile == "":
		return usageError{errors.New("-c, --datafile or --events is needed")}
	case c.Config != "" && (c.Events != "" || c.Datafile != ""):
		return usageError{errors.New("-c stands alone: it checks the datafile of the configuration")}
	case c.Connect && c.Config == "":
		return usageError{errors.New("--connect needs -c")}
	case c.Config != "" && c.SkipValidation:
		return usageError{errors.New("--skip-validation is not for -c, where datafile.skip_validation stands in the file")}
	case c.Timeout < 100*time.Millisecond || c.Timeout > 10*time.Minute:
		return usageError{errors.New("--timeout must be from 100ms to 10m")}
	case c.Config != "":
		return c.runConfig(ctx, std)
	case c.Events != "":
		return c.runEvents(ctx, std)
	}
	raw, err := fileio.ReadInput(c.Datafile, std.in, maxDatafile)
	if err != nil {
		return err
	}
	name := c.Datafile
	if name == fileio.Stdin {
		name = "standard input"
	}
	report, err := compileForReport(name, raw, c.SkipValidation)
	if err != nil {
		return err
	}
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

// compileForReport tells what there is to say about a datafile; name is how it is
// called.
func compileForReport(name string, raw []byte, skipValidation bool) (*checkReport, error) {
	report := &checkReport{Datafile: name, Faults: []decision.Fault{}, Warnings: []decision.Fault{}}
	p, err := decision.Compile(raw, compileOptions(skipValidation)...)
	var faulty *decision.DatafileError
	switch {
	case errors.As(err, &faulty):
		report.Faults = faulty.Faults
	case err != nil:
		return nil, err
	default:
		report.accept(p)
	}
	return report, nil
}

// accept fills in what a datafile without faults tells.
func (r *checkReport) accept(p *decision.Project) {
	summary := p.Summary()
	r.IsValid, r.Summary, r.project = true, &summary, p
	r.Warnings = append(r.Warnings, p.Warnings()...)
}

// writeJSON writes a value for people and programs alike: indented, and with
// text as it is.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func (r *checkReport) text() string {
	var b strings.Builder
	if !r.IsValid {
		fmt.Fprintf(&b, "%s can't be used: %s\n\n", r.Datafile, count(int64(len(r.Faults)), "fault", "faults"))
		writeFaults(&b, r.Faults)
		return b.String()
	}
	s := r.Summary
	fmt.Fprintf(&b, "%s is good: version %s, revision %s\n\n", r.Datafile, s.Version, s.Revision)
	row := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "  %-12s"+format+"\n", append([]any{label}, args...)...)
	}
	row("account", "%s", s.AccountID)
	row("project", "%s", s.ProjectID)
	row("flags", "%s", grouped(int64(s.Flags)))
	row("rules", "%s, %s", count(int64(s.ExperimentRules), "experiment", "experiments"), count(int64(s.DeliveryRules), "delivery", "deliveries"))
	row("holdouts", "%s running", grouped(int64(s.Holdouts)))
	row("groups", "%s of experiments that exclude each other", grouped(int64(s.Groups)))
	row("audiences", "%s", grouped(int64(s.Audiences)))
	row("attributes", "%s", grouped(int64(s.Attributes)))
	row("events", "%s", grouped(int64(s.Events)))
	segments := "none"
	if len(s.Segments) > 0 {
		segments = strings.Join(s.Segments, ", ")
	}
	row("segments", "%s", segments)
	row("digest", "%s", s.Digest)
	if len(r.Warnings) > 0 {
		fmt.Fprintf(&b, "\n%s:\n", count(int64(len(r.Warnings)), "warning", "warnings"))
		writeFaults(&b, r.Warnings)
	}
	return b.String()
}

func writeFaults(b *strings.Builder, faults []decision.Fault) {
	for _, f := range faults {
		fmt.Fprintf(b, "  %s\n      %s\n", f.Path, f.Message)
	}
}
