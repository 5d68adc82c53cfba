package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"sortition/decision"
	"sortition/decision/datafile"
	"sortition/internal/fileio"
)

// devDatafile changes the datafile that the emulator serves, when the file it was read
// from changes or somebody presses a button, and knows those that were in force.
type devDatafile struct {
	cloud *devCloud
	path  string // watched; "": none

	mu       sync.Mutex // guards what follows
	poller   *datafile.Poller
	projects []*decision.Project // the latest that were in force, oldest first
	asked    map[string]time.Time
	changes  []devChange
	fault    string         // why the file can't be used; "": it can
	count    int            // of those that came into force
	percents map[string]int // of the rollouts in force
}

// devChange is a datafile that came into force.
type devChange struct {
	Revision string        `json:"revision"`
	Digest   string        `json:"digest"`
	At       time.Time     `json:"at"`
	Took     time.Duration `json:"-"` // since it was asked for; 0: nobody here did
}

const (
	devKeptProjects = 16
	devFileInterval = 100 * time.Millisecond
)

// follow hears of the datafiles that come into force.
func (d *devDatafile) follow(source datafile.Source) (stop func(), err error) {
	poller, ok := source.(*datafile.Poller)
	if !ok {
		return nil, errors.New("BUG: the datafile of dev is not polled")
	}
	d.poller = poller
	return source.Listen(func(u datafile.Update) { d.inForce(u.New, u.At) }), nil
}

func (d *devDatafile) inForce(p *decision.Project, at time.Time) {
	percents := rolloutsOf(p.Datafile())
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count++
	d.percents = percents
	if len(d.projects) == devKeptProjects {
		d.projects, d.changes = d.projects[1:], d.changes[1:]
	}
	change := devChange{Revision: p.Revision(), Digest: p.Digest(), At: at}
	if asked, ok := d.asked[p.Digest()]; ok {
		change.Took = at.Sub(asked)
		delete(d.asked, p.Digest())
	}
	d.projects, d.changes = append(d.projects, p), append(d.changes, change)
}

// project finds one of the latest by its digest; nil if there is none.
func (d *devDatafile) project(digest string) *decision.Project {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range slices.Backward(d.projects) {
		if p.Digest() == digest {
			return p
		}
	}
	return nil
}

// current is the datafile in force; nil before the first.
func (d *devDatafile) current() *decision.Project {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.projects) == 0 {
		return nil
	}
	return d.projects[len(d.projects)-1]
}

// rollouts are the percents of the rules for everyone else in force, by flag, and
// numChanges is how often a datafile has replaced another.
func (d *devDatafile) rollouts() (percents map[string]int, numChanges int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.percents, max(0, d.count-1)
}

// history is what came into force, oldest first, and what is wrong with the file.
func (d *devDatafile) history() ([]devChange, string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.changes), d.fault
}

// serve makes another datafile the emulator's, and has it fetched at once. One with a
// revision that was another datafile's gets the next one: whoever reads decision records
// takes the revision for the datafile's name.
func (d *devDatafile) serve(raw []byte) (revision string, err error) {
	p, err := decision.Compile(raw)
	if err != nil {
		return "", err
	}
	if next := d.revisionFor(p); next != p.Revision() {
		if raw, err = withRevision(raw, next); err == nil {
			p, err = decision.Compile(raw)
		}
		if err != nil {
			return "", err
		}
	}
	d.mu.Lock()
	d.asked = map[string]time.Time{p.Digest(): time.Now()}
	d.mu.Unlock()
	if _, err := d.cloud.SetDatafile(d.cloud.key, raw); err != nil {
		return "", err
	}
	d.poller.Refresh("")
	return p.Revision(), nil
}

// revisionFor is a datafile's own revision, or the one after that in force, if its own
// was another datafile's.
func (d *devDatafile) revisionFor(p *decision.Project) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, known := range d.projects {
		if known.Revision() == p.Revision() && known.Digest() != p.Digest() {
			return nextRevision(d.projects[len(d.projects)-1].Revision())
		}
	}
	return p.Revision()
}

// rollOut serves the next revision, in which a flag's rule for everyone else has so many
// percent of traffic.
func (d *devDatafile) rollOut(flag string, percent int) (revision string, err error) {
	raw, ok := d.cloud.Datafile(d.cloud.key)
	if !ok {
		return "", errors.New("the emulator serves no datafile")
	}
	if raw, err = withRollout(raw, flag, percent); err != nil {
		return "", err
	}
	return d.serve(raw)
}

// watch serves the file whenever its content changes, until ctx is done.
func (d *devDatafile) watch(ctx context.Context, last []byte) error {
	if d.path == "" {
		return nil
	}
	ticker := time.NewTicker(devFileInterval)
	defer ticker.Stop()
	seen := describe(d.path)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now := describe(d.path)
		if now == seen {
			continue
		}
		raw, err := fileio.ReadFile(d.path, maxDatafile)
		if err == nil && !bytes.Equal(raw, last) {
			if _, err = d.serve(raw); err == nil {
				last = raw
			}
		}
		fault := ""
		if err != nil {
			fault = err.Error() // maybe it is only half written: the next look tells
		}
		d.mu.Lock()
		d.fault = fault
		d.mu.Unlock()
		seen = now
	}
}

// describe is what a change of a file shows in.
func describe(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return fmt.Sprint(info.Size(), info.ModTime().UnixNano())
}

// nextRevision counts on, where the revision is a number.
func nextRevision(revision string) string {
	if n, err := strconv.ParseInt(revision, 10, 63); err == nil {
		return strconv.FormatInt(n+1, 10)
	}
	return revision + "+1"
}

// editDatafile changes a datafile's JSON; numbers stay as they are written.
func editDatafile(raw []byte, edit func(root map[string]any) error) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var root map[string]any
	if err := decoder.Decode(&root); err != nil {
		return nil, fmt.Errorf("change the datafile: %w", err)
	}
	if err := edit(root); err != nil {
		return nil, err
	}
	return json.MarshalIndent(root, "", " ")
}

func withRevision(raw []byte, revision string) ([]byte, error) {
	return editDatafile(raw, func(root map[string]any) error {
		root["revision"] = revision
		return nil
	})
}

func withRollout(raw []byte, flag string, percent int) ([]byte, error) {
	if percent < 0 || percent > 100 {
		return nil, errors.New("percent must be from 0 to 100")
	}
	return editDatafile(raw, func(root map[string]any) error {
		rule := everyoneElse(root, flag)
		if rule == nil {
			return errors.New("no flag of this key has a rollout")
		}
		ranges, _ := rule["trafficAllocation"].([]any)
		if end := rolloutEnd(rule); end > 0 {
			for _, r := range ranges {
				if r, ok := r.(map[string]any); ok {
					r["endOfRange"] = numberOf(r["endOfRange"]) * percent * 100 / end
				}
			}
		} else if variation := first(rule["variations"]); variation != nil {
			rule["trafficAllocation"] = []any{map[string]any{"entityId": variation["id"], "endOfRange": percent * 100}}
		}
		revision, _ := root["revision"].(string)
		root["revision"] = nextRevision(revision)
		return nil
	})
}

// rolloutsOf tells how many percent of traffic the rule for everyone else has, by flag.
func rolloutsOf(raw []byte) map[string]int {
	var root map[string]any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if decoder.Decode(&root) != nil {
		return nil
	}
	percents := map[string]int{}
	flags, _ := root["featureFlags"].([]any)
	for _, f := range flags {
		f, _ := f.(map[string]any)
		key, _ := f["key"].(string)
		if rule := everyoneElse(root, key); rule != nil {
			percents[key] = rolloutEnd(rule) / 100
		}
	}
	return percents
}

// everyoneElse is the last rule of a flag's rollout; nil if it has none.
// Source: datafile.md section 4.
func everyoneElse(root map[string]any, flag string) map[string]any {
	find := func(list any, name string, value any) map[string]any {
		items, _ := list.([]any)
		for _, item := range items {
			if item, ok := item.(map[string]any); ok && item[name] == value {
				return item
			}
		}
		return nil
	}
	f := find(root["featureFlags"], "key", flag)
	if f == nil {
		return nil
	}
	rollout := find(root["rollouts"], "id", f["rolloutId"])
	rules, _ := rollout["experiments"].([]any)
	if len(rules) == 0 {
		return nil
	}
	rule, _ := rules[len(rules)-1].(map[string]any)
	return rule
}

// rolloutEnd is where the traffic of a rule ends, of 10,000.
func rolloutEnd(rule map[string]any) int {
	ranges, _ := rule["trafficAllocation"].([]any)
	if len(ranges) == 0 {
		return 0
	}
	last, _ := ranges[len(ranges)-1].(map[string]any)
	return numberOf(last["endOfRange"])
}

func numberOf(v any) int {
	switch v := v.(type) {
	case json.Number:
		n, _ := v.Int64()
		return int(n)
	case int:
		return v
	}
	return 0
}

func first(list any) map[string]any {
	items, _ := list.([]any)
	if len(items) == 0 {
		return nil
	}
	item, _ := items[0].(map[string]any)
	return item
}

// alwaysAsked returns the segments that every datafile of this run asks ODP for.
func (d *devDatafile) alwaysAsked() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var asked []string
	for i, p := range d.projects {
		if i == 0 {
			asked = p.Segments()
		}
		asked = slices.DeleteFunc(asked, func(s string) bool { return !slices.Contains(p.Segments(), s) })
	}
	return asked
}
