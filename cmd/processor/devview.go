package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// line is the state in one line, without users.
func (s *devState) line() string {
	up := time.Duration(s.UptimeMS) * time.Millisecond
	return fmt.Sprintf("%6s  %s activities consumed, %s/s  behind %s  decided %s  events %s delivered, %s pending  dead letters %s  revision %s",
		up.Round(time.Second), thousands(s.Activities.Consumed), thousands(int(s.Activities.PerSecond)), thousands(s.Activities.Lag),
		thousands(s.Activities.Decided), thousands(s.Events.Delivered), thousands(s.Events.Pending), thousands(s.sumOfLetters()), s.Datafile.Revision)
}

func (s *devState) sumOfLetters() (n int) {
	for _, r := range s.DeadLetters {
		n += r.Count
	}
	return n
}

// view is the state as lines of at most width characters, at most height of them.
func (s *devState) view(width, height int, i ink) []string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	pair := func(name, value string) string { return fmt.Sprintf("%s%s%s %s", i.dim, name, i.off, value) }
	up := time.Duration(s.UptimeMS) * time.Millisecond
	add("%sactivities%s    %s", i.bold, i.off, strings.Join([]string{
		pair("consumed", thousands(s.Activities.Consumed)), fmt.Sprintf("%s/s", thousands(int(s.Activities.PerSecond))), pair("behind", thousands(s.Activities.Lag)),
		pair("decided", thousands(s.Activities.Decided)), pair("up", up.Round(time.Second).String()),
	}, "  "))
	for _, d := range []struct {
		name string
		d    *devDelivery
	}{{"events", &s.Events}, {"ODP events", &s.ODPEvents}} {
		add("%s%-10s%s    %s", i.bold, d.name, i.off, strings.Join([]string{
			pair("made", thousands(d.d.Made)), pair("delivered", thousands(d.d.Delivered)), fmt.Sprintf("%s/s", thousands(int(d.d.PerSecond))),
			pair("refused", thousands(d.d.Refused)), pair("pending", thousands(d.d.Pending)),
		}, "  "))
	}
	var reasons []string
	for _, r := range s.DeadLetters {
		reasons = append(reasons, pair(r.Reason, thousands(r.Count)))
	}
	add("%sdead letters%s  %s", i.bold, i.off, strings.Join(append([]string{thousands(s.sumOfLetters())}, reasons...), "  "))
	age := (time.Duration(s.Datafile.AgeMS) * time.Millisecond).Round(time.Second)
	add("%sdatafile%s      %s", i.bold, i.off, strings.Join([]string{
		pair("revision", s.Datafile.Revision), pair("for", age.String()), pair("activities decided with it", thousands(s.Datafile.Decided)),
	}, "  "))
	if s.Datafile.Fault != "" {
		add("              %s%s: %s%s", i.bad, s.Datafile.File, strings.SplitN(s.Datafile.Fault, "\n", 2)[0], i.off)
	}
	add("")
	lines = append(lines, s.flagLines(width, i)...)
	add("")
	for _, d := range s.Last[:min(4, len(s.Last))] {
		variation := d.Variation
		if variation == "" {
			variation = noneLabel
		}
		add("%s  %s%s%s → %s%s%s", d.User, i.dim, d.Flag, i.off, i.bar, variation, i.off)
	}
	lines = lines[:min(len(lines), max(1, height))]
	for n := range lines {
		lines[n] = cutTo(lines[n], width)
	}
	return lines
}

const viewBar = 24

// flagLines shows a line a flag: its variations as one bar, and in numbers.
func (s *devState) flagLines(width int, i ink) []string {
	label := 0
	for _, f := range s.Flags {
		label = max(label, utf8.RuneCountInString(f.Key))
	}
	var lines []string
	for _, f := range s.Flags {
		var shares []string
		for _, v := range f.Variations {
			name := v.Key
			if name == "" {
				name = noneLabel
			}
			shares = append(shares, fmt.Sprintf("%s %s%.0f %%%s", name, i.dim, 100*v.Share, i.off))
		}
		if len(shares) == 0 {
			shares = []string{i.dim + "nothing yet with this revision" + i.off}
		}
		lines = append(lines, fmt.Sprintf("%s%s  %s  %s", f.Key, strings.Repeat(" ", label-utf8.RuneCountInString(f.Key)), stack(f.Variations, viewBar, i), strings.Join(shares, "  ")))
	}
	return lines
}

// stack is a bar of several parts that fill it; those that are off are light.
func stack(parts []devVariation, width int, i ink) string {
	var b strings.Builder
	done, sum := 0, 0.0
	shades := []string{"█", "▓", "▒", "░"}
	on := 0
	for n, v := range parts {
		sum += v.Share
		end := min(width, int(sum*float64(width)+0.5))
		if n == len(parts)-1 {
			end = width
		}
		cell, colour := "·", i.dim
		if v.Enabled {
			cell, colour = shades[min(on, len(shades)-1)], i.bar
			on++
		}
		if end > done {
			b.WriteString(colour + strings.Repeat(cell, end-done) + i.off)
			done = end
		}
	}
	return b.String() + strings.Repeat(" ", width-done)
}

// cutTo cuts a line to a width; escape sequences take no room.
func cutTo(line string, width int) string {
	seen, isEscape := 0, false
	var b strings.Builder
	for _, r := range line {
		switch {
		case r == '\x1b':
			isEscape = true
			b.WriteRune(r)
		case isEscape:
			isEscape = r != 'm'
			b.WriteRune(r)
		case seen < width:
			seen++
			b.WriteRune(r)
		}
	}
	return b.String()
}
