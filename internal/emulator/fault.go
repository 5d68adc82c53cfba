package emulator

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Fault is a way in which requests of a route go wrong. The fields combine; what
// contradicts is refused by [Fault.Validate].
type Fault struct {
	// Route is the beginning of the paths it is for. "" is every route of the cloud.
	Route string

	// When it applies. All conditions must hold.

	Times    int     // the next requests only, that many; 0: no end
	Fraction float64 // of the requests, by chance; 0: all
	Seed     uint64  // of that chance: the same seed, the same sequence
	Contains string  // only bodies with this text in them
	MinBytes int     // only bodies of at least so many bytes
	Limit    Limit   // only requests beyond a rate

	// What happens then.

	// Status is the answer's. 2xx and 304 let the request take effect and change
	// only the status; others let it have none. 0: as it would be, or 429 with a Limit.
	Status     int
	Header     map[string]string // of the answer
	RetryAfter string            // the same for this header; a Limit fills it if it is empty
	Body       string            // the answer's, if not ""
	BrokenJSON bool              // the answer's body is JSON that ends too early
	Delay      time.Duration     // before anything happens
	Hang       bool              // no answer until the client leaves
	Cut        Cut               // closes the connection
	// TakesEffect lets the request take effect although it is answered with an error
	// or not at all.
	TakesEffect bool
}

// A Cut says when a connection is closed.
type Cut string

// The cuts.
const (
	CutNone   Cut = ""
	CutBefore Cut = "before" // before the request's body was read; nothing takes effect
	CutAfter  Cut = "after"  // after the request took effect, instead of the answer
	CutReply  Cut = "reply"  // amid the answer, after the request took effect
)

// A Limit is a rate: so many requests in a span of time that begins with the first.
type Limit struct {
	Requests int
	Per      time.Duration
}

// Validate returns all that is wrong with a fault.
func (f *Fault) Validate() error {
	var errs []error
	check := func(isWrong bool, message string) {
		if isWrong {
			errs = append(errs, errors.New("fault: "+message))
		}
	}
	check(!isRoute(f.Route), fmt.Sprintf("no request of the cloud has the route %q; the routes are %v, and \"\" for all", f.Route, routes))
	check(f.Times < 0, "times must not be negative")
	check(!(f.Fraction >= 0 && f.Fraction <= 1), "the fraction must be from 0 to 1") // false for NaN
	check(f.MinBytes < 0, "min_bytes must not be negative")
	check(f.Delay < 0, "the delay must not be negative")
	check(f.Status != 0 && (f.Status < 200 || f.Status > 599), "the status must be from 200 to 599")
	check(f.Limit.Requests < 0 || f.Limit.Per < 0 || (f.Limit.Requests > 0) != (f.Limit.Per > 0), "a limit needs requests and a span of time")
	switch f.Cut {
	case CutNone, CutBefore, CutAfter, CutReply:
	default:
		check(true, "cut must be before, after or reply")
	}
	check(f.Hang && f.Cut != CutNone, "it can't hang and cut")
	check(f.BrokenJSON && f.Body != "", "the body can't be given and broken")
	check(f.Cut == CutBefore && (f.TakesEffect || f.Delay > 0), "cut before the body: nothing can take effect or be delayed")
	check((f.Hang || f.Cut == CutBefore || f.Cut == CutAfter) && (f.Status != 0 || f.Body != "" || f.BrokenJSON || len(f.Header) > 0 || f.RetryAfter != ""),
		"there is no answer that could have a status, headers or a body")
	check(f.Status == 0 && f.Limit == Limit{} && !f.Hang && f.Cut == CutNone && f.Body == "" && !f.BrokenJSON && f.Delay == 0 && len(f.Header) == 0 && f.RetryAfter == "",
		"nothing would happen: give status, body, broken_json, headers, delay, hang, cut or limit")
	return errors.Join(errs...)
}

// isRoute tells whether some request's path can begin so: a mistyped route would
// let everything go well, silently.
func isRoute(prefix string) bool {
	return slices.ContainsFunc(routes, func(r Route) bool {
		return strings.HasPrefix(string(r), prefix) || strings.HasPrefix(prefix, string(r)) && (strings.HasSuffix(string(r), "/") || prefix == string(r))
	})
}

// hasEffect tells whether the request takes effect.
func (f *Fault) hasEffect() bool {
	switch {
	case f.TakesEffect || f.Cut == CutAfter || f.Cut == CutReply:
		return true
	case f.Hang || f.Cut == CutBefore:
		return false
	default:
		return f.Status == 0 || f.Status < 300 || f.Status == http.StatusNotModified
	}
}

// isSilent tells whether there is no answer.
func (f *Fault) isSilent() bool { return f.Hang || f.Cut == CutBefore || f.Cut == CutAfter }

// apply changes an answer as the fault wants it.
func (f *Fault) apply(a reply) reply {
	header := maps.Clone(a.header)
	if header == nil {
		header = map[string]string{}
	}
	a.header = header
	if f.Status >= 300 && f.Status != http.StatusNotModified {
		// The body and the headers of an answer that went well don't belong to this one.
		p := problem(f.Status, "a fault of the emulator")
		a.body, a.header = p.body, p.header
	}
	if f.Status != 0 {
		a.status = f.Status
	}
	switch {
	case f.BrokenJSON:
		a.body = []byte(`{"broken":[{"here":`)
	case f.Body != "":
		a.body = []byte(f.Body)
	}
	if f.BrokenJSON || f.Body != "" {
		if a.status == http.StatusNoContent && f.Status == 0 {
			a.status = http.StatusOK // 204 can't carry it
		}
		a.header["Content-Type"] = "application/json"
		delete(a.header, "Content-Encoding")
	}
	for name, value := range f.Header {
		if value == "" {
			delete(a.header, http.CanonicalHeaderKey(name))
			continue
		}
		a.header[http.CanonicalHeaderKey(name)] = value
	}
	if f.RetryAfter != "" {
		a.header["Retry-After"] = f.RetryAfter
	}
	return a
}

// name says in a word or two what it did, for the record.
func (f *Fault) name() string {
	var parts []string
	if f.Delay > 0 {
		parts = append(parts, "delay "+f.Delay.String())
	}
	switch {
	case f.Hang:
		parts = append(parts, "hang")
	case f.Cut != CutNone:
		parts = append(parts, "cut "+string(f.Cut))
	}
	switch {
	case f.Status != 0:
		parts = append(parts, "status "+strconv.Itoa(f.Status))
	case f.Limit.Requests > 0 && !f.isSilent():
		parts = append(parts, "status 429")
	}
	switch {
	case f.BrokenJSON:
		parts = append(parts, "broken JSON")
	case f.Body != "":
		parts = append(parts, "body")
	}
	if len(f.Header) > 0 {
		parts = append(parts, "headers")
	}
	return strings.Join(parts, ", ")
}

// conditions says when it applies, for people; "" for always.
func (f *Fault) conditions() string {
	var text strings.Builder
	if f.Limit.Requests > 0 {
		fmt.Fprintf(&text, " beyond %d requests in %s", f.Limit.Requests, f.Limit.Per)
	}
	if f.Fraction > 0 {
		fmt.Fprintf(&text, ", %g %% of them", 100*f.Fraction)
	}
	if f.Contains != "" {
		fmt.Fprintf(&text, ", with %q", f.Contains)
	}
	if f.MinBytes > 0 {
		fmt.Fprintf(&text, ", from %d bytes", f.MinBytes)
	}
	return text.String()
}

// A StandingFault is a fault that was set, with what it has done so far.
type StandingFault struct {
	ID   int64
	Hits int64 // requests it applied to
	Left int   // of Times; 0 if there is no end
	Fault
}

// faults is the list of faults that were set, in order.
type faults struct {
	now func() time.Time

	mu    sync.Mutex // guards what follows
	rules []*faultRule
	last  int64
}

type faultRule struct {
	StandingFault
	chance *rand.Rand
	opened time.Time // the limit's span of time
	count  int
}

func (f *faults) add(fault Fault) (id int64, err error) {
	if err := fault.Validate(); err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last++
	f.rules = append(f.rules, &faultRule{
		StandingFault: StandingFault{ID: f.last, Left: fault.Times, Fault: fault},
		chance:        rand.New(rand.NewPCG(fault.Seed, 0)),
	})
	return f.last, nil
}

// needBody tells whether a body must be read before a fault can be picked.
func (f *faults) needBody(path string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.rules {
		if strings.HasPrefix(path, r.Route) && (r.Contains != "" || r.MinBytes > 0) {
			return true
		}
	}
	return false
}

// pick returns the first fault that applies, nil if none does.
func (f *faults) pick(path string, body []byte) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, r := range f.rules {
		if !strings.HasPrefix(path, r.Route) || len(body) < r.MinBytes || !bytes.Contains(body, []byte(r.Contains)) {
			continue
		}
		if r.Fraction > 0 && r.chance.Float64() >= r.Fraction {
			continue
		}
		fault := r.Fault
		if r.Limit.Requests > 0 {
			left, isOver := r.overLimit(f.now())
			if !isOver {
				continue
			}
			if fault.Status == 0 && !fault.isSilent() {
				fault.Status = http.StatusTooManyRequests
			}
			if fault.RetryAfter == "" {
				fault.RetryAfter = strconv.Itoa(int((left + time.Second - 1) / time.Second))
			}
		}
		r.Hits++
		if r.Times > 0 {
			if r.Left--; r.Left == 0 {
				f.rules = append(f.rules[:i], f.rules[i+1:]...)
			}
		}
		return &fault
	}
	return nil
}

// overLimit counts a request; left is the time until the next span begins.
func (r *faultRule) overLimit(now time.Time) (left time.Duration, isOver bool) {
	if since := now.Sub(r.opened); since >= r.Limit.Per || since < 0 {
		r.opened, r.count = now, 0
	}
	r.count++
	return r.opened.Add(r.Limit.Per).Sub(now), r.count > r.Limit.Requests
}

func (f *faults) list() []StandingFault {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]StandingFault, len(f.rules))
	for i, r := range f.rules {
		list[i] = r.StandingFault
	}
	return list
}

// remove removes one fault, or all for id 0; it returns how many there were.
func (f *faults) remove(id int64) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := len(f.rules)
	if id == 0 {
		f.rules = nil
		return before
	}
	kept := f.rules[:0]
	for _, r := range f.rules {
		if r.ID != id {
			kept = append(kept, r)
		}
	}
	f.rules = kept
	return before - len(kept)
}

// AddFault sets a fault; it stands behind those set before. The id removes it.
func (e *Emulator) AddFault(fault Fault) (id int64, err error) {
	if id, err = e.faults.add(fault); err == nil {
		e.log.Info("fault set", "route", fault.Route, "fault", fault.name())
	}
	return id, err
}

// Script has the next requests of a route answered with these statuses, one each.
// 2xx lets the request take effect. An impossible status is a mistake of the
// caller, and panics.
func (e *Emulator) Script(route string, statuses ...int) {
	for _, status := range statuses {
		if _, err := e.faults.add(Fault{Route: route, Status: status, Times: 1}); err != nil {
			panic(fmt.Sprintf("BUG: script for %s: %v", route, err))
		}
	}
}

// Faults lists what is set, in order.
func (e *Emulator) Faults() []StandingFault { return e.faults.list() }

// RemoveFault removes a fault; false if there is none of this id.
func (e *Emulator) RemoveFault(id int64) bool { return id != 0 && e.faults.remove(id) > 0 }

// ClearFaults removes all faults.
func (e *Emulator) ClearFaults() { e.faults.remove(0) }
