package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"sortition/decision"
)

// summary is what `processor dev` shows at its end.
type summary struct {
	out io.Writer
	ink ink
}

func newSummary(f *os.File) *summary {
	s := &summary{out: f}
	if wantsColor(f) {
		s.ink = ink{bold: "\x1b[1m", dim: "\x1b[2m", good: "\x1b[32m", bad: "\x1b[31m", bar: "\x1b[36m", off: "\x1b[0m"}
	}
	return s
}

// ink is the colours, all empty where there are none.
type ink struct{ bold, dim, good, bad, bar, off string }

func (s *summary) line(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

func (s *summary) opening(p *decision.Project, w *devWorld, c *devCmd) {
	i := &s.ink
	row := func(name, format string, args ...any) {
		s.line("%s%-13s%s  %s", i.bold, name, i.off, fmt.Sprintf(format, args...))
	}
	row("sortition dev", "an in-process Kafka at %s, %d partitions; seed %d", w.broker.Addrs()[0], len(w.begin.ends[devTopics.Activities]), c.Seed)
	name := "sample datafile"
	if c.Datafile != "" {
		name = c.Datafile
	}
	row("", "the emulator of the Optimizely cloud at %s; %s, revision %s, %d flags", w.cloud.URL(), name, p.Revision(), p.NumFlags())
	if done := sumOf(w.begin.ends[devTopics.Activities]); c.Data != "" {
		row("", "kept in %s: %s activities from before, %s of them still to do", c.Data, thousands(done), thousands(w.begin.behind(devTopics.Activities)))
	}
	if w.page != nil {
		row("page", "%s", w.page.url())
	}
	if !c.Exit {
		for n, hint := range kcatHints(w.broker.Addrs()[0]) {
			title := ""
			if n == 0 {
				title = "reach it"
			}
			row(title, "%s%s%s", i.dim, hint.Command, i.off)
		}
		row("", "%sCtrl-C ends it%s", i.dim, i.off)
	}
	s.line("")
}

// result prints who got what, and the account.
func (s *summary) result(p *decision.Project, a *account, made int, took devTook) {
	s.flags(p, a)
	s.rejects(a)
	s.account(a, made, took)
}

const (
	barWidth  = 32
	noneLabel = "(none)"
)

// flags prints each flag with its variations, the most frequent first.
func (s *summary) flags(p *decision.Project, a *account) {
	label := len(noneLabel)
	for _, f := range a.flags {
		for v := range f.variations {
			label = max(label, utf8.RuneCountInString(v.key))
		}
	}
	i := &s.ink
	for n := range p.NumFlags() {
		key := p.FlagKey(n)
		f := a.flags[key]
		if f == nil {
			s.line("%s%s%s  %snot asked for%s", i.bold, key, i.off, i.dim, i.off)
			continue
		}
		// The name may be longer than the labels: it has the bars' room as well.
		s.line("%s%s%s%s  %s%9s  activities%s", i.bold, key, i.off,
			strings.Repeat(" ", max(0, label+barWidth+9-utf8.RuneCountInString(key))), i.dim, thousands(f.decided), i.off)
		variations := slices.SortedFunc(maps.Keys(f.variations), func(x, y variationKey) int {
			return cmp.Or(cmp.Compare(f.variations[y], f.variations[x]), cmp.Compare(x.key, y.key))
		})
		for _, v := range variations {
			s.variation(label, v, f.variations[v], f.decided)
		}
	}
	s.line("")
}

func (s *summary) variation(label int, v variationKey, count, of int) {
	i := &s.ink
	share := float64(count) / float64(of)
	name, state, colour := v.key, "on", i.bar
	if v.key == "" {
		name = noneLabel
	}
	if !v.isEnabled {
		state, colour = "off", i.dim
	}
	s.line("  %s%s  %s%-3s%s  %s%s%s%s  %9s  %5.1f %%", name, strings.Repeat(" ", label-utf8.RuneCountInString(name)),
		i.dim, state, i.off, colour, bar(share, barWidth), i.off, strings.Repeat(" ", barWidth-utf8.RuneCountInString(bar(share, barWidth))),
		thousands(count), 100*share)
}

// bar is a bar of a share of width, in eighths of a cell.
func bar(share float64, width int) string {
	eighths := int(math.Round(share * float64(width) * 8))
	if share > 0 {
		eighths = max(1, eighths)
	}
	b := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		b += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return b
}

func (s *summary) rejects(a *account) {
	if len(a.reasons) == 0 {
		return
	}
	i := &s.ink
	s.line("%sdead letters%s  %sby reason; original key, value and headers kept%s", i.bold, i.off, i.dim, i.off)
	reasons := slices.SortedFunc(maps.Keys(a.reasons), func(x, y string) int {
		return cmp.Or(cmp.Compare(a.reasons[y], a.reasons[x]), cmp.Compare(x, y))
	})
	for _, r := range reasons {
		s.line("  %-24s %9s", r, thousands(a.reasons[r]))
	}
	s.line("")
}

// account prints the sums, counted in the topics after the stream has ended.
func (s *summary) account(a *account, made int, took devTook) {
	i := &s.ink
	s.line("%saccount%s  %sread back from the topics and the emulator%s", i.bold, i.off, i.dim, i.off)
	row := func(name string, n int, about string, args ...any) {
		text := fmt.Sprintf("  %-24s %9s", name, thousands(n))
		if about = fmt.Sprintf(about, args...); about != "" {
			text += "  " + i.dim + about + i.off
		}
		s.line("%s", text)
	}
	if before := sumOf(a.begin.ends[devTopics.Activities]); before > 0 {
		row("activities before", int(before), "made by earlier runs")
	}
	row("activities made", made, "")
	if n := a.inTopic - int(sumOf(a.begin.ends[devTopics.Activities])) - made; n > 0 {
		row("activities of others", n, "somebody else's, in the topic")
	}
	row("activities consumed", a.consumed, "in %s, %s/s", took.consume.Round(time.Millisecond), thousands(int(float64(a.stats.Read)/max(took.consume.Seconds(), 1e-3))))
	row("= decided", a.decided, "%s decisions for flags, %.1f an activity", thousands(a.numDecisions), float64(a.numDecisions)/max(1, float64(a.decided)))
	row("+ dead letters", a.rejected, "")
	if a.both > 0 {
		row("− both", a.both, "decided, but one of their events can't be sent")
	}
	s.events(row, "events", &a.events, fmt.Sprintf("%s impressions, %s conversions, in %s bodies", thousands(a.impressions), thousands(a.conversions), thousands(a.bodies)), took.deliver)
	s.events(row, "ODP events", &a.odpEvents, "", 0)
	if n := a.segmentsWrong; n > 0 {
		row("segments", a.segmentsKnown, "known, %s of them not as the emulator's ODP has them", thousands(n))
	} else {
		row("segments", a.segmentsKnown, "known, as the emulator's ODP has them; %s asked for", thousands(a.stats.SegmentsKnown))
	}
	if n := a.segmentsUnknown; n > 0 {
		row("segments unknown", n, "")
	}
	for _, code := range slices.Sorted(maps.Keys(a.emulator.Problems)) {
		row("remarks", int(a.emulator.Problems[code]), "%s, says the emulator", code)
	}
	if n := a.inTopic - a.consumed; n > 0 {
		row("still to do", n, "in the topic, not committed")
	}
	if a.early > 0 {
		row("cut off", a.early, "have outputs, but are not committed: the next start repeats them")
	}
	if a.repeated > 0 {
		row("repeats", a.repeated, "with equal ids")
	}
	if n := a.stats.UnknownEvents; n > 0 {
		row("conversions left out", int(n), "of events the datafile doesn't know")
	}
	faults := a.faults()
	if len(faults) == 0 {
		s.line("  %s✓ it adds up: nothing lost, nothing twice%s", i.good, i.off)
		return
	}
	s.line("  %s✗ it does not add up%s", i.bad, i.off)
	for _, f := range faults {
		s.line("    %s", f)
	}
}

// events prints what became of the events of a kind.
func (s *summary) events(row func(name string, n int, about string, args ...any), name string, e *eventAccount, about string, took time.Duration) {
	row(name+" made", e.made, "%s", about)
	about = "to the emulator, over HTTP"
	if took > 0 {
		about += fmt.Sprintf(", the last after %s", took.Round(time.Millisecond))
	}
	row("= delivered", e.delivered, "%s", about)
	if e.refused > 0 {
		row("+ refused", e.refused, "for good: dead letters")
	}
	if e.pending > 0 {
		row("+ pending", e.pending, "in the topic, not delivered yet")
	}
	if e.strangers > 0 {
		row("others", e.strangers, "the emulator has, but no topic: somebody else's")
	}
}

// thousands is grouped for every integer there is.
func thousands[T int | int64 | uint64](n T) string { return grouped(int64(n)) }
