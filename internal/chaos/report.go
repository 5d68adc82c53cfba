package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"sortition/internal/emulator"
)

// report prints the account and returns what is off, line by line.
func (r *run) report(ctx context.Context) (faults []string, err error) {
	var text strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&text, "%-22s %s\n", name, fmt.Sprintf(format, args...))
	}
	fault := func(isOff bool, format string, args ...any) {
		if isOff {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}
	a, f, counts := &r.auditor.account, r.fleet, r.cloud.Counts()
	kind := "real Kafka"
	if r.fake {
		kind = "in-process Kafka"
	}
	fmt.Fprintf(&text, "\nThe account (%s, %d partitions, seed %d)\n\n", kind, r.partitions, r.seed)

	row("processes", "%d started, %d killed, %d stopped for longer than their session, %d drained", f.started, f.kills, f.stops, f.drains)
	row("broker", "%d restarts, every second one with SIGKILL", r.deeds.restarts)
	row("groups", "joined %s times", number(f.joins()))
	row("endpoints", "%d faults; %s", r.deeds.faults, requests(counts))
	row("time", "%s of it, then %s to work off the rest", r.peace.Sub(r.began).Round(time.Second), r.drained.Sub(r.peace).Round(time.Second))

	row("activities", "%s made (%s unusable), %s in the topic", number(r.traffic.made), number(r.traffic.bad), number(a.activities))
	row("", "%s decided + %s dead letters, %s missing", number(a.decided), number(a.rejected), number(a.missing))
	row("records", "%s decision records, %s dead letters: %s repeats, all the same bytes but %s", number(a.decisions), number(a.deadLetters), number(a.repeats), number(a.altered))
	fault(r.traffic.made != r.activities, "%s activities were to be made, and %s were", number(r.activities), number(r.traffic.made))
	fault(a.activities < r.traffic.made, "%s activities are acknowledged, and %s are in the topic", number(r.traffic.made), number(a.activities))
	fault(a.missing > 0, "%s activities have neither a decision record nor a dead letter", number(a.missing))
	fault(a.altered > 0, "%s records are not what a calm run makes of their activities", number(a.altered))
	fault(a.foreign > 0, "%s records come from no activity", number(a.foreign))
	for _, what := range slices.Sorted(maps.Keys(a.refused)) {
		fault(true, "%d bodies are dead letters, although no endpoint refuses any for good: %s", a.refused[what], what)
	}
	fault(a.rejected == 0 && r.traffic.bad > 0, "no unusable activity has become a dead letter")

	for _, e := range []struct {
		name string
		of   *eventAccount
	}{{"events", &a.events}, {"ODP events", &a.odpEvents}} {
		row(e.name, "%s of a calm run, %s in the topic and %s repeats", number(len(e.of.want)), number(len(e.of.stored)), number(e.of.storedTwice))
		row("", "%s arrived and %s repeats, %s missing", number(len(e.of.arrived)), number(e.of.arrivedTwice), number(e.of.undelivered))
		fault(len(e.of.want) == 0, "there are no %s", e.name)
		fault(e.of.unmade > 0, "%s %s are missing in the topic", number(e.of.unmade), e.name)
		fault(e.of.strange > 0, "%s %s in the topic are not what a calm run makes", number(e.of.strange), e.name)
		fault(e.of.undelivered > 0, "%s %s never arrived", number(e.of.undelivered), e.name)
		fault(e.of.strangeArrived > 0, "%s %s arrived that are not in the topic", number(e.of.strangeArrived), e.name)
	}

	w := r.watcher
	row("offsets", "asked %s times (%s without an answer), %d went backwards", number(w.asked), number(w.unheard), len(w.backwards))
	left, _, err := r.left(ctx)
	if err != nil {
		return nil, err
	}
	row("", "%s records not committed", number(int(left)))
	fault(len(w.backwards) > 0, "committed offsets went backwards: %s", strings.Join(w.backwards, ", "))
	fault(left != 0, "%d records are not committed", left)
	fault(w.asked == 0, "nobody has seen an offset")

	faults = append(faults, f.oddities...)
	fault(f.kills == 0 || f.drains == 0, "nothing has happened: give it more time")
	if len(faults) == 0 {
		fmt.Fprintln(&text, "\nIt adds up.")
	} else {
		fmt.Fprintf(&text, "\nIt does NOT add up:\n  %s\n", strings.Join(faults, "\n  "))
	}
	_, err = fmt.Fprint(r.out, text.String())
	return faults, err
}

// requests tells how the endpoints have answered.
func requests(c emulator.Counts) string {
	var all, accepted, spoilt int64
	for _, route := range []emulator.Route{emulator.RouteEvents, emulator.RouteODPEvents} {
		of := c.Routes[route]
		all += of.Requests
		accepted += of.Accepted
		spoilt += of.Faults
	}
	return fmt.Sprintf("%s requests, %s of them spoilt, %s took effect", number(int(all)), number(int(spoilt)), number(int(accepted)))
}

// number writes 1234567 as 1,234,567.
func number(n int) string {
	if n < 0 {
		return "-" + number(-n)
	}
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
