package main

import (
	"fmt"
	"strings"
	"time"

	"sortition/pipeline"
)

// text is the report for people.
func (r *configReport) text(connect bool) string {
	var b strings.Builder
	faults := len(r.Faults)
	if r.Datafile != nil {
		faults += len(r.Datafile.Faults)
	}
	if faults > 0 {
		fmt.Fprintf(&b, "%s can't be used: %s\n\n", r.Config, count(int64(faults), "fault", "faults"))
		writeFindings(&b, r.Faults)
		if r.Datafile != nil && len(r.Datafile.Faults) > 0 {
			if len(r.Faults) > 0 {
				b.WriteByte('\n')
			}
			fmt.Fprintf(&b, "in the datafile %s:\n", r.Datafile.Datafile)
			writeFaults(&b, r.Datafile.Faults)
		}
	} else {
		fmt.Fprintf(&b, "%s is good\n\n", r.Config)
		for _, row := range r.Summary {
			fmt.Fprintf(&b, "  %-12s%s\n", row[0], row[1])
		}
	}
	if len(r.Warnings) > 0 {
		fmt.Fprintf(&b, "\n%s:\n", count(int64(len(r.Warnings)), "warning", "warnings"))
		writeFindings(&b, r.Warnings)
	}
	if r.Datafile != nil && len(r.Datafile.Warnings) > 0 {
		fmt.Fprintf(&b, "\n%s in the datafile:\n", count(int64(len(r.Datafile.Warnings)), "warning", "warnings"))
		writeFaults(&b, r.Datafile.Warnings)
	}
	if connect {
		b.WriteByte('\n')
		writeAttempts(&b, r.Tried)
	}
	return b.String()
}

// writeFindings writes one a line, with its place in front.
func writeFindings(b *strings.Builder, all []configFinding) {
	for _, f := range all {
		place := ""
		if f.Line > 0 {
			place = fmt.Sprintf("%d:%d", f.Line, f.Column)
		}
		fmt.Fprintf(b, "  %-7s %s\n", place, strings.ReplaceAll(f.Message, "\n", "\n          "))
	}
}

// writeAttempts lists what was tried.
func writeAttempts(b *strings.Builder, tried []attempt) {
	if len(tried) == 0 {
		b.WriteString("nothing was tried: correct the configuration first\n")
		return
	}
	failed := 0
	for _, a := range tried {
		mark := "✓"
		if !a.OK {
			mark = "✗"
			failed++
		}
		fmt.Fprintf(b, "%s %-12s %s  %s\n", mark, a.What, a.Target, a.took().Round(100*time.Microsecond))
		fmt.Fprintf(b, "      %s\n", a.Result)
		if a.Advice != "" {
			fmt.Fprintf(b, "      → %s\n", a.Advice)
		}
	}
	if failed == 0 {
		fmt.Fprintf(b, "\nall %d answer as they should\n", len(tried))
	} else {
		fmt.Fprintf(b, "\n%d of %d failed\n", failed, len(tried))
	}
}

// summary tells what the stream will be, without secrets.
func (c *configCheck) summary() [][2]string {
	s, p := c.config, &c.parts
	var rows [][2]string
	row := func(name, format string, args ...any) {
		rows = append(rows, [2]string{name, fmt.Sprintf(format, args...)})
	}
	row("stream", "%s", s.Stream)
	row("handlers", "%s", strings.Join(p.handlers, ", "))
	security := "plain text"
	if p.connection.TLS != nil {
		security = "TLS"
		if p.connection.TLS.CertFile != "" {
			security += " with a client certificate"
		}
	}
	if p.connection.SASL != nil {
		security += ", " + p.connection.SASL.String()
	}
	brokers := make([]string, len(s.Kafka.Brokers))
	for i, broker := range s.Kafka.Brokers {
		brokers[i] = shownAddress(broker)
	}
	row("kafka", "%s; %s", strings.Join(brokers, ", "), security)
	var groups, reads []string
	for _, h := range p.handlers {
		groups = append(groups, p.groupOf(h))
		reads = append(reads, p.inputOf(h))
	}
	row("groups", "%s", strings.Join(groups, ", "))
	row("reads", "%s", strings.Join(reads, ", "))
	writes := strings.Join(p.outputTopics(), ", ")
	if p.create != nil {
		writes += "; topics that are missing are created"
	}
	row("writes", "%s", writes)
	row("datafile", "%s", c.datafileSummary())
	if p.runs(pipeline.AssignActivities) {
		c.assignSummary(row)
	}
	if p.runs(pipeline.DeliverEvents) {
		to := "the endpoint that each record names"
		if p.deliverEvents.endpoint != "" {
			to = shownAddress(p.deliverEvents.endpoint)
		}
		row("events to", "%s", to)
	}
	if p.runs(pipeline.DeliverODP) {
		to := "the host of the datafile"
		if p.deliverODP.endpoint != "" {
			to = shownAddress(p.deliverODP.endpoint)
		}
		row("ODP", "%s", to)
	}
	if p.redis != nil {
		row("redis", "%s, database %d", shownAddress(p.redis.Addr), p.redis.DB)
	}
	listen := "nothing; there are no metrics and no health checks"
	if p.listen != "" {
		listen = p.listen
	}
	row("listens at", "%s", listen)
	return rows
}

func (c *configCheck) assignSummary(row func(name, format string, args ...any)) {
	s, p := c.config, &c.parts
	activities := "in the native shape, or as CloudEvents"
	if p.assign.Mapping != nil {
		activities = "mapped, or as CloudEvents with mapped data"
	}
	row("activities", "%s", activities)
	decide := "nothing, if an activity doesn't ask"
	if s.Decide.all {
		decide = "all flags"
	} else if len(s.Decide.keys) > 0 {
		decide = strings.Join(s.Decide.keys, ", ")
	}
	row("decides", "%s; layout %s", decide, s.Layout)
	segments := "those that activities bring along"
	if p.segments != nil {
		segments = fmt.Sprintf("fetched, by %s; cached in %s; if they can't be had: %s", s.Segments.Identifier, s.Segments.Cache, s.Segments.Policy)
	}
	row("segments", "%s", segments)
	row("profiles", "%s", s.Profiles.Store)
	predictions := "none"
	if p.predictions != nil {
		predictions = "fetched within " + p.predictions.Budget.String()
	}
	row("predictions", "%s", predictions)
}

func (c *configCheck) datafileSummary() string {
	p := &c.parts
	if p.datafile == nil {
		return "none is needed"
	}
	var from []string
	if p.datafile.Poll.URL != "" {
		from = append(from, "polled at an address every "+p.datafile.Poll.Interval.String())
	} else if p.datafile.Poll.SDKKey != "" {
		from = append(from, "polled by SDK key every "+p.datafile.Poll.Interval.String())
	}
	if p.webhook != nil {
		from = append(from, "and when a webhook says so")
	}
	if p.archive != "" {
		from = append(from, "archived")
	}
	if path := p.datafile.Path; path != "" {
		from = append(from, path)
	}
	if r := c.report.Datafile; r != nil && r.Summary != nil {
		from = append(from, fmt.Sprintf("revision %s, %s", r.Summary.Revision, count(int64(r.Summary.Flags), "flag", "flags")))
	}
	return strings.Join(from, ", ")
}
