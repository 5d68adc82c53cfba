package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"sortition/pipeline"
	"sortition/schemas"
)

// totals count what a run, or a part of it, has done.
type totals struct {
	activities, decisions           int64
	visitors, bodies, unknownEvents int64
	blank                           int64
	known                           int64 // activities with segments of ODP
	unknownFields, odpEvents        int64 // in activities, and not used
	rejects                         map[schemas.RejectCode]int64
	named                           []string // the first rejects, as file:line code
}

const namedRejects = 5

func (t *totals) reject(file *inputFile, line int64, reject *schemas.Reject) {
	if t.rejects == nil {
		t.rejects = make(map[schemas.RejectCode]int64)
	}
	t.rejects[reject.Code]++
	if len(t.named) < namedRejects {
		t.named = append(t.named, file.base+":"+strconv.FormatInt(line, 10)+" "+string(reject.Code))
	}
}

func (t *totals) add(o *totals) {
	t.activities += o.activities
	t.decisions += o.decisions
	t.visitors += o.visitors
	t.bodies += o.bodies
	t.unknownEvents += o.unknownEvents
	t.blank += o.blank
	t.known += o.known
	t.unknownFields += o.unknownFields
	t.odpEvents += o.odpEvents
	for code, n := range o.rejects {
		if t.rejects == nil {
			t.rejects = make(map[schemas.RejectCode]int64)
		}
		t.rejects[code] += n
	}
	t.named = append(t.named, o.named[:min(len(o.named), namedRejects-len(t.named))]...)
}

func (t *totals) reset() {
	clear(t.rejects)
	*t = totals{rejects: t.rejects, named: t.named[:0]}
}

func (t *totals) rejected() (n int64) {
	for _, k := range t.rejects {
		n += k
	}
	return n
}

// account says what was done.
func (a *assignment) account(w io.Writer, hasRejects bool) {
	t, elapsed := &a.totals, time.Since(a.started)
	line := func(label, format string, args ...any) {
		fmt.Fprintf(w, "%-10s"+format+"\n", append([]any{label}, args...)...)
	}
	line("assigned", "%s, %s, in %.1f s (%s/s)", count(t.activities, "activity", "activities"), count(t.decisions, "decision", "decisions"),
		elapsed.Seconds(), grouped(int64(float64(t.activities)/elapsed.Seconds())))
	a.odp.account(w, t.known)
	if a.plan.hasEvents {
		text := count(t.visitors, "event", "events") + " in " + count(t.bodies, "body", "bodies")
		if t.unknownEvents > 0 {
			text += "; " + count(t.unknownEvents, "conversion", "conversions") + " left out: the datafile has no such event"
		}
		line("events", "%s", text)
	}
	if t.odpEvents > 0 {
		line("left out", "%s: assign doesn't send them, a stream does", count(t.odpEvents, "ODP event", "ODP events"))
	}
	if t.unknownFields > 0 {
		line("ignored", "%s of activities that have no meaning here", count(t.unknownFields, "field", "fields"))
	}
	if t.blank > 0 {
		line("skipped", "%s", count(t.blank, "blank line", "blank lines"))
	}
	if n := t.rejected(); n > 0 {
		var codes []string
		for _, code := range append(schemas.RejectCodes(), pipeline.ReasonSegments) {
			if t.rejects[code] > 0 {
				codes = append(codes, string(code)+" "+grouped(t.rejects[code]))
			}
		}
		line("rejected", "%s: %s", count(n, "line", "lines"), strings.Join(codes, ", "))
		if !hasRejects {
			text := strings.Join(t.named, ", ")
			if n > int64(len(t.named)) {
				text += ", …"
			}
			line("", "%s", text)
			line("", "--rejects FILE keeps them with their reasons")
		}
	}
}

// count writes a number with its noun.
func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return grouped(n) + " " + many
}

// grouped writes a number with commas between the thousands.
func grouped(n int64) string {
	text := strconv.FormatInt(n, 10)
	first := 0
	if n < 0 {
		first = 1
	}
	for i := len(text) - 3; i > first; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
