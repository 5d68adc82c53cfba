package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"sortition/decision"
	"sortition/internal/fileio"
	"sortition/pipeline"
	"sortition/schemas"
)

type assignCmd struct {
	Datafile string   `required:"" placeholder:"FILE" help:"The project's datafile."`
	Input    []string `short:"i" sep:"none" default:"-" placeholder:"FILE" help:"Activities; - is standard input (the default). May be given several times; the files are read one after the other."`
	Output   string   `short:"o" default:"-" placeholder:"FILE" help:"Decision records; - is standard output (the default). A name in .csv gives CSV, in .gz or .zst a packed file."`
	Events   string   `placeholder:"FILE" help:"Also write the impressions and conversions: bodies for the event endpoint, one a line."`
	Rejects  string   `placeholder:"FILE" help:"Also write the input that could not be used, with reasons and original bytes."`

	InputFormat string `placeholder:"FORMAT" help:"ndjson or csv. Default: by the name of each input; ndjson if that tells nothing."`
	Types       string `placeholder:"COLUMN:TYPE,…" help:"Types of CSV columns: string, number, boolean. Cells of other columns speak for themselves: JSON numbers, true and false, text."`
	Mapping     string `placeholder:"FILE" help:"YAML that says where the fields of an activity are found in NDJSON of another shape."`

	Format  string   `placeholder:"FORMAT" help:"ndjson or csv (always flat). Default: by the name of the output."`
	Layout  string   `placeholder:"LAYOUT" help:"nested: a record per activity (default). flat: a record per activity and flag."`
	Decide  []string `placeholder:"FLAG" help:"Flags for activities that name none themselves. Default: *, all of them."`
	Options []string `placeholder:"OPTION" help:"Decide options for every activity, such as ENABLED_FLAGS_ONLY."`
	Reasons bool     `help:"Give the reasons of every decision. Short for the option INCLUDE_REASONS."`
	Now     string   `placeholder:"TIME" help:"The time of activities without a timestamp: RFC 3339, or milliseconds since 1970. Default: when the command was started."`
	Stream  string   `default:"assign" placeholder:"NAME" help:"Name of the stream; part of what ids are made from."`

	deliverFlags
	odpFlags

	SkipValidation bool `help:"Leave out the datafile's schema validation, as the SDKs' skip_json_validation does."`
	Workers        int  `placeholder:"N" help:"Workers, one processor each. Default: all processors. The output is the same for any number."`
	Quiet          bool `short:"q" help:"Say nothing on standard error but errors."`
}

// Help is shown by --help.
func (assignCmd) Help() string {
	return `Examples:

    processor assign --datafile d.json -i users.ndjson -o decisions.ndjson --events events.ndjson
    processor assign --datafile d.json -i users.csv.gz --types age:number,zip:string -o decisions.csv --rejects bad.ndjson
    zcat log.gz | processor assign --datafile d.json --mapping map.yaml --decide checkout,search > decisions.ndjson
    processor assign --datafile d.json -i users.ndjson -o decisions.ndjson --deliver --outbox /var/lib/sortition

An activity is one line of JSON; only user_id must be there. Of CSV, the column user_id is the user, id and timestamp (unless
--types names them) are the activity's, and every other column is an attribute. gzip and zstd are recognised by suffix or content.

Records come in the order of the input, with file and line as their source; standard input is called "-". Ids are made from stream
name, file name and line, or the activity's own id: the same input and datafile give the same bytes again. Therefore two inputs must
not have the same base name. Blank lines are passed over.

A line that can't be used is counted and named, goes to --rejects if given, and the rest goes on; then the exit code is 3. A reject
is {"file","line","code","detail","input"}; input that is not UTF-8, or longer than 16 MiB, is in "input_base64" instead.

Files appear under their names when they are complete. The odp_events of activities are counted, not sent; predictions are not asked for, so
that the decisions of contextual bandits are errors, as when their service is away.
` + deliverHelp + odpHelp
}

// An assignPlan is a command line that makes sense, with all that was to be read
// before the work.
type assignPlan struct {
	inputs    []inputFile
	project   *decision.Project
	settings  pipeline.Settings
	mapping   *schemas.Mapping
	types     map[string]schemas.CSVType
	now       int64 // ms since the epoch
	workers   int
	ahead     int // chunks at most whose segments are being found out
	warnings  []string
	hasEvents bool
}

// Run assigns.
func (c *assignCmd) Run(ctx context.Context, std stdio) (err error) {
	plan, err := c.plan(time.Now())
	if err != nil {
		return err
	}
	if !c.Quiet {
		for _, w := range plan.warnings {
			fmt.Fprintln(std.err, "processor: warning:", w)
		}
	}
	outputs, err := c.create(std)
	if err != nil {
		return err
	}
	defer outputs.discard()

	if c.ODP {
		plan.ahead = c.ODPConcurrency
	}
	run := newAssignment(plan, outputs, std)
	if run.odp, err = c.odpFlags.open(ctx, plan.project); err != nil {
		return err
	}
	defer run.odp.close()
	delivery, err := c.deliverFlags.start(plan.project.EventEndpoint()) // last: from here on, it must be finished
	if err != nil {
		return err
	}
	if delivery != nil {
		run.deliver = func(r *result) error { return delivery.append(ctx, r) }
	}
	progress := startProgress(run, std, c.Quiet)
	err = run.work(ctx)
	progress.stop()
	if err == nil {
		err = outputs.publish()
	}
	if err == nil && !c.Quiet {
		run.account(std.err, c.Rejects != "")
	}
	if delivery != nil {
		err = delivery.finish(ctx, err, std, c.Quiet)
	}
	if err == nil && run.totals.rejected() > 0 {
		return errRejected
	}
	return err
}

// outputs are the files written. Each is nil if nobody wants it.
type outputs struct{ decisions, events, rejects *fileio.Output }

// create begins the outputs, so that one that can't be written is known before
// the work.
func (c *assignCmd) create(std stdio) (o *outputs, err error) {
	o = &outputs{}
	for _, file := range []struct {
		path string
		to   **fileio.Output
	}{{c.Output, &o.decisions}, {c.Events, &o.events}, {c.Rejects, &o.rejects}} {
		if file.path == "" {
			continue
		}
		if *file.to, err = fileio.Create(file.path, std.out); err != nil {
			o.discard()
			return nil, err
		}
	}
	return o, nil
}

func (o *outputs) publish() error { return fileio.Publish(o.decisions, o.events, o.rejects) }

func (o *outputs) discard() {
	for _, file := range []*fileio.Output{o.decisions, o.events, o.rejects} {
		if file != nil {
			file.Discard()
		}
	}
}

// plan checks the command line and reads datafile and mapping.
func (c *assignCmd) plan(start time.Time) (*assignPlan, error) {
	p := &assignPlan{workers: c.Workers, hasEvents: c.Events != "" || c.Deliver, now: start.UnixMilli()}
	var faults []error
	fault := func(err error) {
		if err != nil {
			faults = append(faults, err)
		}
	}
	if p.workers <= 0 {
		p.workers = runtime.GOMAXPROCS(0)
		if c.Workers < 0 {
			fault(errors.New("--workers must be a positive number"))
		}
	}
	if c.Now != "" {
		var err error
		p.now, err = parseNow(c.Now)
		fault(err)
	}
	var err error
	p.types, err = schemas.ParseCSVTypes(c.Types)
	if err != nil {
		fault(fmt.Errorf("--types: %w", err))
	}
	fault(c.planInputs(p))
	fault(c.planFiles())
	fault(c.planSettings(p))
	fault(c.odpFlags.check())
	fault(c.deliverFlags.check())
	if len(faults) > 0 {
		return nil, usageError{errors.Join(faults...)}
	}
	if c.Mapping != "" {
		if p.mapping, err = readMapping(c.Mapping); err != nil {
			return nil, usageError{err}
		}
	}
	for _, in := range p.inputs {
		if in.path != fileio.Stdin {
			if _, err := os.Stat(in.path); err != nil {
				return nil, fmt.Errorf("read %s: %w", in.path, errors.Unwrap(err))
			}
		}
	}
	if p.project, err = readProject(c.Datafile, c.SkipValidation); err != nil {
		return nil, err
	}
	for _, key := range p.settings.Decide {
		if !p.project.HasFlag(key) {
			p.warnings = append(p.warnings, fmt.Sprintf("the datafile has no flag %q (--decide)", key))
		}
	}
	if bandits := p.project.BanditFlags(); len(bandits) > 0 {
		p.warnings = append(p.warnings, fmt.Sprintf("%s (%s), and assign doesn't ask for predictions: their decisions are errors",
			count(int64(len(bandits)), "flag has a contextual bandit", "flags have contextual bandits"), shortList(bandits)))
	}
	return p, nil
}

// planInputs lists the inputs with their formats.
func (c *assignCmd) planInputs(p *assignPlan) error {
	var faults []error
	bases := map[string]string{}
	numCSV := 0
	for _, path := range c.Input {
		in := inputFile{path: path, base: filepath.Base(path)}
		if path == fileio.Stdin {
			in.base = fileio.Stdin
		}
		if other, ok := bases[in.base]; ok {
			faults = append(faults, fmt.Errorf("inputs %s and %s: ids are made from base name and line, so these would have the same; assign them one by one, with different names for --stream", other, path))
		}
		bases[in.base] = path
		rest, _ := fileio.SplitSuffix(path)
		switch c.InputFormat {
		case "":
			in.isCSV = strings.EqualFold(filepath.Ext(rest), ".csv")
		case "csv":
			in.isCSV = true
		case "ndjson":
		default:
			return fmt.Errorf("--input-format must be ndjson or csv, not %q", c.InputFormat)
		}
		if in.isCSV {
			numCSV++
		}
		p.inputs = append(p.inputs, in)
	}
	if c.Mapping != "" && numCSV > 0 {
		faults = append(faults, errors.New("--mapping is for NDJSON, and there is CSV input"))
	}
	if c.Types != "" && numCSV == 0 {
		faults = append(faults, errors.New("--types is for CSV, and there is no CSV input"))
	}
	return errors.Join(faults...)
}

// planFiles refuses outputs that would overwrite an input or each other.
func (c *assignCmd) planFiles() error {
	type file struct{ name, path string }
	written := []file{{"--output", c.Output}, {"--events", c.Events}, {"--rejects", c.Rejects}}
	read := []file{{"--datafile", c.Datafile}, {"--mapping", c.Mapping}}
	for _, path := range c.Input {
		read = append(read, file{"--input", path})
	}
	var faults []error
	for i, a := range written {
		if a.path == "" {
			continue
		}
		for _, b := range written[:i] {
			if b.path == fileio.Stdin && a.path == fileio.Stdin || b.path != "" && isSameFile(a.path, b.path) {
				faults = append(faults, fmt.Errorf("%s and %s are the same file", b.name, a.name))
			}
		}
		for _, b := range read {
			if b.path != "" && isSameFile(a.path, b.path) {
				faults = append(faults, fmt.Errorf("%s and %s are the same file", b.name, a.name))
			}
		}
	}
	return errors.Join(faults...)
}

// isSameFile is true of two names of one file; not of a device, which may well
// be read and written.
func isSameFile(a, b string) bool {
	if info, err := os.Stat(a); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return false
	}
	return fileio.IsSame(a, b)
}

func (c *assignCmd) planSettings(p *assignPlan) error {
	s := &p.settings
	s.Stream, s.Client = c.Stream, client
	var faults []error
	rest, _ := fileio.SplitSuffix(c.Output)
	isCSV := c.Format == "csv" || c.Format == "" && strings.EqualFold(filepath.Ext(rest), ".csv")
	if c.Format != "" && c.Format != "csv" && c.Format != "ndjson" {
		faults = append(faults, fmt.Errorf("--format must be ndjson or csv, not %q", c.Format))
	}
	if c.Layout != "" {
		var err error
		if s.Layout, err = pipeline.ParseLayout(c.Layout); err != nil {
			faults = append(faults, fmt.Errorf("--layout: %w", err))
		}
	}
	if isCSV {
		if c.Layout == "nested" {
			faults = append(faults, errors.New("--layout nested can't be written as CSV"))
		}
		s.Layout = pipeline.CSVRow
	}
	s.DecideAll = c.Decide == nil || slices.Contains(c.Decide, "*")
	if s.DecideAll && len(c.Decide) > 1 {
		faults = append(faults, errors.New("--decide: * stands for all flags, beside it nothing else is allowed"))
	}
	for _, key := range c.Decide {
		if key != "" && !s.DecideAll {
			s.Decide = append(s.Decide, key)
		}
	}
	options, err := parseOptions(c.Options)
	if err != nil {
		faults = append(faults, err)
	}
	s.Options = options
	if c.Reasons {
		s.Options |= decision.IncludeReasons
	}
	return errors.Join(faults...)
}

// parseOptions reads names of decide options. On a command line, an unknown one
// is a mistake.
func parseOptions(names []string) (options decision.Options, err error) {
	for _, name := range names {
		if name == "" {
			continue
		}
		o, ok := decision.ParseOption(name)
		if !ok {
			return 0, fmt.Errorf("--options: %q is not a decide option; there are %s", name, strings.Join(decision.OptionNames(), ", "))
		}
		options |= o
	}
	return options, nil
}

// parseNow reads a time in RFC 3339 or as ms since the epoch.
func parseNow(text string) (int64, error) {
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil {
		return ms, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return 0, fmt.Errorf("--now: %q is neither an RFC 3339 time nor milliseconds since 1970", text)
	}
	return t.UnixMilli(), nil
}
