package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sortition/internal/fileio"
	"sortition/pipeline"
	"sortition/pipeline/kafkago"
)

// configReport is the JSON form of what check finds out about a configuration.
type configReport struct {
	Config   string          `json:"config"`
	IsValid  bool            `json:"valid"` // without faults, and whatever was tried answers
	Faults   []configFinding `json:"faults"`
	Warnings []configFinding `json:"warnings"`
	// Datafile is what is known of the datafile: a file's, or with --connect the one
	// that was fetched.
	Datafile *checkReport `json:"datafile,omitempty"`
	Summary  [][2]string  `json:"-"`
	Tried    []attempt    `json:"tried,omitempty"`
}

// configFinding is a fault or a warning of a configuration.
type configFinding struct {
	Key     string `json:"key,omitempty"` // path in the file: kafka.sasl.username
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
}

// configCheck looks through a configuration.
type configCheck struct {
	path   string
	config *streamConfig
	tree   *configTree // nil: the file holds none
	parts  streamParts
	report configReport
}

// runConfig checks a configuration.
func (c *checkCmd) runConfig(ctx context.Context, std stdio) error {
	raw, err := fileio.ReadFile(c.Config, maxStreamConfig)
	if err != nil {
		return err
	}
	check := configCheck{path: c.Config, config: defaultStreamConfig(), report: configReport{
		Config: c.Config, Faults: []configFinding{}, Warnings: []configFinding{},
	}}
	check.config.folder = filepath.Dir(c.Config)
	isYAML := check.parse(raw)
	if isYAML {
		check.assemble()
		check.warn()
	}
	r := &check.report
	r.IsValid = len(r.Faults) == 0 && (r.Datafile == nil || r.Datafile.IsValid)
	if r.IsValid {
		r.Summary = check.summary()
	}
	if c.Connect && r.IsValid {
		if err := check.connect(ctx, c.Timeout); err != nil {
			return err
		}
		r.IsValid = !slices.ContainsFunc(r.Tried, func(a attempt) bool { return !a.OK })
	}
	if c.JSON {
		err = writeJSON(std.out, r)
	} else {
		_, err = io.WriteString(std.out, r.text(c.Connect))
	}
	if err == nil && !r.IsValid {
		err = errShown
	}
	return err
}

// parse reads the file; false if it isn't YAML.
func (c *configCheck) parse(raw []byte) bool {
	tree, err := parseStreamText(raw, os.LookupEnv, c.config)
	c.tree = tree
	if tree == nil && err != nil {
		var at *faultAt
		if !errors.As(err, &at) {
			at = &faultAt{text: err.Error()}
		}
		c.fault(at)
		return false
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			var at *faultAt
			if errors.As(one, &at) {
				c.fault(at)
			}
		}
	}
	return true
}

func (c *configCheck) fault(f *faultAt) {
	finding := configFinding{Key: f.key, Line: f.line, Column: f.column, Message: withoutSecrets(f.text)}
	if !slices.Contains(c.report.Faults, finding) {
		c.report.Faults = append(c.report.Faults, finding)
	}
}

// locate gives a text that begins with a key its place.
func (c *configCheck) locate(text string) *faultAt {
	if c.tree == nil {
		return &faultAt{text: text, key: keyPath.FindString(text)}
	}
	return c.tree.locate(text)
}

// assemble looks for what is wrong with values, and with how they go together. What
// would be said of a value that couldn't be read is left out.
func (c *configCheck) assemble() {
	parts, err := c.config.parts()
	c.parts = parts
	c.readDatafile()
	var all []string
	for _, text := range texts(err) {
		all = append(all, inNamesOfFile(text))
	}
	// Everything but the sources of datafiles is put together as run does it; nothing is
	// opened, and no folder made.
	trial := parts
	trial.archive = ""
	if trial.datafile != nil {
		polled := *trial.datafile
		trial.datafile = &polled
		if polled.Path = ""; polled.Poll.SDKKey == "" && polled.Poll.URL == "" {
			trial.datafile, trial.webhook = nil, nil
		}
	}
	s, err := openStream(trial, slog.New(slog.DiscardHandler))
	if err == nil {
		s.close()
	}
	for _, text := range texts(err) {
		text = inNamesOfFile(text)
		// That a name or a password is missing, parts has said better.
		isSaid := slices.ContainsFunc(all, func(said string) bool { return strings.HasSuffix(said, text) })
		if !isSaid && !(strings.Contains(text, "needs a user name") && len(all) > 0) {
			all = append(all, text)
		}
	}
	if archive, err := os.Stat(parts.archive); err == nil && !archive.IsDir() {
		all = append(all, "datafile.archive is no folder")
	}
	for _, text := range all {
		if f := c.locate(text); c.tree == nil || !c.tree.hasTaken(f.key) {
			c.fault(f)
		}
	}
	slices.SortStableFunc(c.report.Faults, func(a, b configFinding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// readDatafile compiles the datafile if it is a file.
func (c *configCheck) readDatafile() {
	if c.parts.datafile == nil || c.parts.datafile.Path == "" {
		return
	}
	path := c.parts.datafile.Path
	raw, err := fileio.ReadFile(path, maxDatafile)
	if err != nil {
		c.fault(c.locate("datafile.path: " + err.Error()))
		return
	}
	report, err := compileForReport(path, raw, c.config.Datafile.SkipValidation)
	if err != nil {
		c.fault(c.locate("datafile.path: " + err.Error()))
		return
	}
	c.report.Datafile = report
}

// warn says what is odd, but may be meant.
func (c *configCheck) warn() {
	odd := func(is bool, format string, args ...any) {
		if is {
			f := c.locate(fmt.Sprintf(format, args...))
			c.report.Warnings = append(c.report.Warnings, configFinding{Key: f.key, Line: f.line, Column: f.column, Message: f.text})
		}
	}
	s, p := c.config, &c.parts
	if sasl := p.connection.SASL; sasl != nil && p.connection.TLS == nil {
		m := sasl.Mechanism
		odd(m == kafkago.Plain || m == kafkago.OAuthBearer, "kafka.sasl: %s sends its secret as it is; without kafka.tls everybody on the way can read it", m)
		odd(m == kafkago.MSKIAM, "kafka.tls is not there: brokers of MSK take AWS_MSK_IAM over TLS only; kafka.tls: {} is enough")
	}
	needsRedis := p.segments != nil && p.segments.inRedis || p.profiles != nil && p.profiles.inRedis
	odd(s.Redis != nil && !needsRedis, "redis is there, and neither segments.cache nor profiles.store uses it")
	odd(s.Segments.Fetch && !p.runs(pipeline.AssignActivities), "segments.fetch: only the handler assign fetches segments, and it does not run here")
	odd(s.Predictions.Fetch && !p.runs(pipeline.AssignActivities), "predictions.fetch: only the handler assign asks for predictions, and it does not run here")
	odd(s.Profiles.Store != "none" && !p.runs(pipeline.AssignActivities), "profiles.store: only the handler assign uses profiles, and it does not run here")
	c.warnOfDatafile(odd)
}

// warnOfDatafile says where configuration and datafile don't go together. It knows
// the datafile when that is a file, or was fetched.
func (c *configCheck) warnOfDatafile(odd func(is bool, format string, args ...any)) {
	if c.report.Datafile == nil || c.report.Datafile.project == nil {
		return
	}
	s, p, project := c.config, &c.parts, c.report.Datafile.project
	host, key := project.ODP()
	if p.runs(pipeline.AssignActivities) {
		for _, flag := range s.Decide.keys {
			odd(!project.HasFlag(flag), "decide: the datafile has no flag %q", flag)
		}
		if segments := project.Segments(); !s.Segments.Fetch {
			odd(len(segments) > 0, "segments.fetch is false, and audiences ask for %s (%s): only activities that bring segments along can meet them",
				count(int64(len(segments)), "segment", "segments"), shortList(segments))
		} else {
			odd(len(segments) == 0, "segments.fetch is true, and no audience asks for a segment: nothing will be fetched")
			odd(len(segments) > 0 && (host == "" && s.Segments.Host == "" || key == ""), "segments.fetch is true, and the datafile has no integration with ODP: nothing can be fetched")
		}
		bandits := project.BanditFlags()
		odd(len(bandits) > 0 && !s.Predictions.Fetch, "predictions.fetch is false, and %s (%s): their decisions will be errors",
			count(int64(len(bandits)), "flag has a contextual bandit", "flags have contextual bandits"), shortList(bandits))
	}
	odd(p.runs(pipeline.DeliverODP) && (host == "" && p.deliverODP.endpoint == "" || key == "" && p.deliverODP.key == ""),
		"deliver.odp: the datafile has no integration with ODP, and no endpoint with a key is given: every ODP event will be a dead letter")
}

// shortList names the first few.
func shortList(names []string) string {
	const most = 4
	if len(names) > most {
		return strings.Join(names[:most], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}
