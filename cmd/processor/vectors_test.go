package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"sortition/decision"
	"sortition/internal/fileio"
	"sortition/schemas"
)

// vectors_test.go sends the answers recorded from the official SDKs through the
// real command: a case becomes an activity, and decision records and event
// bodies must say what the SDK said. Cases with a user profile are left out: a
// file has no profile service. What a conformance folder has beyond the committed
// vectors is used in place; SORTITION_CONFORMANCE names one.

var vectorFolder = filepath.Join("..", "..", "decision", "testdata", "vectors")

func conformanceFolder() string {
	if dir := os.Getenv("SORTITION_CONFORMANCE"); dir != "" {
		return dir
	}
	return filepath.Join("..", "..", "..", "shared", "conformance")
}

// A vectorCase is a recorded case, and what the command made of it.
type vectorCase struct {
	ID          string          `json:"id"`
	Datafile    string          `json:"datafile"`
	UserID      string          `json:"user_id"`
	Attributes  json.RawMessage `json:"attributes"`
	Segments    json.RawMessage `json:"segments"`
	Forced      json.RawMessage `json:"forced_decisions"`
	Options     json.RawMessage `json:"options"`
	UserProfile json.RawMessage `json:"user_profile"`
	Decide      json.RawMessage `json:"decide"`
	Track       []struct {
		EventKey string          `json:"event_key"`
		Tags     json.RawMessage `json:"tags"`
	} `json:"track"`
	Expect struct {
		Decisions   map[string]any `json:"decisions"`
		Impressions []any          `json:"impressions"`
		Conversions []any          `json:"conversions"`
	} `json:"expect"`

	file                     string
	hasRecord                bool
	decisions                map[string]any
	impressions, conversions []any
}

// activity is the case as a line of input. The fields stay as they are written,
// so that literals and their order do.
func (c *vectorCase) activity() map[string]any {
	decide := c.Decide
	switch {
	case decide == nil:
		decide = json.RawMessage(`[]`)
	case decide[0] == '"': // "all"
		decide = json.RawMessage(`"*"`)
	}
	events := []map[string]any{}
	for _, e := range c.Track {
		event := map[string]any{"key": e.EventKey}
		if e.Tags != nil {
			event["tags"] = e.Tags
		}
		events = append(events, event)
	}
	a := map[string]any{"id": c.ID, "user_id": c.UserID, "timestamp": 1790000000000, "decide": decide, "events": events}
	for name, value := range map[string]json.RawMessage{
		"attributes": c.Attributes, "segments": c.Segments, "forced_decisions": c.Forced, "options": c.Options,
	} {
		if value != nil {
			a[name] = value
		}
	}
	return a
}

// diff compares what the command said with what was recorded.
func (c *vectorCase) diff() string {
	if !c.hasRecord {
		return "no decision record"
	}
	var out []string
	compare := func(name string, got, want any) {
		if !reflect.DeepEqual(got, want) {
			out = append(out, fmt.Sprintf("%s:\n  got  %s\n  want %s", name, jsonText(got), jsonText(want)))
		}
	}
	if c.Expect.Decisions != nil || len(c.decisions) > 0 {
		compare("decisions", c.decisions, c.Expect.Decisions)
	}
	byText := func(list []any) []any {
		sort.SliceStable(list, func(i, k int) bool { return jsonText(list[i]) < jsonText(list[k]) })
		return list
	}
	compare("impressions", byText(comparableVisitors(c.impressions)), byText(comparableVisitors(c.Expect.Impressions)))
	compare("conversions", comparableVisitors(c.conversions), comparableVisitors(c.Expect.Conversions))
	return strings.Join(out, "\n")
}

// comparableVisitors sorts attributes, whose order carries no meaning, and takes
// ids and times away.
func comparableVisitors(list []any) []any {
	for _, v := range list {
		visitor := v.(map[string]any)
		attributes := visitor["attributes"].([]any)
		sort.SliceStable(attributes, func(i, k int) bool {
			a, b := attributes[i].(map[string]any), attributes[k].(map[string]any)
			return a["key"].(string)+jsonText(a) < b["key"].(string)+jsonText(b)
		})
		event := eventOf(visitor)
		delete(event, "uuid")
		delete(event, "timestamp")
	}
	return append([]any{}, list...)
}

// eventOf is the one event of a visitor of ours.
func eventOf(visitor map[string]any) map[string]any {
	return visitor["snapshots"].([]any)[0].(map[string]any)["events"].([]any)[0].(map[string]any)
}

func jsonText(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(data)
}

// readVectors reads the cases of a file; .gz files are unpacked.
func readVectors(t *testing.T, path string) (cases []*vectorCase) {
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	var r io.Reader = file
	if strings.HasSuffix(path, ".gz") {
		r, err = gzip.NewReader(file)
		require.NoError(t, err)
	}
	s := bufio.NewScanner(r)
	s.Buffer(nil, 16<<20)
	for s.Scan() {
		c := &vectorCase{file: filepath.Base(path), decisions: map[string]any{}}
		require.NoError(t, json.Unmarshal(s.Bytes(), c))
		cases = append(cases, c)
	}
	require.NoError(t, s.Err())
	require.NotEmpty(t, cases, path)
	return cases
}

// vectorsInPlace lists the cases of the conformance folder, but for copies of
// committed ones.
func vectorsInPlace(t *testing.T) (names []string) {
	found, err := filepath.Glob(filepath.Join(conformanceFolder(), "cases-*.ndjson"))
	require.NoError(t, err)
	if len(found) == 0 {
		t.Logf("vectors: no cases in %s; SORTITION_CONFORMANCE names another folder", conformanceFolder())
	}
	for _, name := range found {
		copied, err := fileio.ReadFile(filepath.Join(vectorFolder, filepath.Base(name)+".gz"), 1<<30)
		if err == nil {
			original, err := os.ReadFile(name)
			require.NoError(t, err)
			if bytes.Equal(copied, original) {
				continue
			}
		}
		names = append(names, name)
	}
	return names
}

// TestVectorsThroughAssign runs the recorded cases through the command and
// prints passed/total by file.
func TestVectorsThroughAssign(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the command for every recorded datafile: not in the short form")
	}
	names, err := filepath.Glob(filepath.Join(vectorFolder, "cases-*.ndjson.gz"))
	require.NoError(t, err)
	require.NotEmpty(t, names, "no vectors found in "+vectorFolder)
	folders := map[string]string{}
	for _, name := range names {
		folders[name] = vectorFolder
	}
	for _, name := range vectorsInPlace(t) {
		names = append(names, name)
		folders[name] = conformanceFolder()
	}

	byDatafile := map[string][]*vectorCase{}
	skipped := map[string]int{}
	for _, name := range names {
		for _, c := range readVectors(t, name) {
			if c.UserProfile != nil {
				skipped[c.file]++
				continue
			}
			path := filepath.Join(folders[name], "datafiles", c.Datafile)
			byDatafile[path] = append(byDatafile[path], c)
		}
	}
	passed, total := map[string]int{}, map[string]int{}
	failures := 0
	for path, cases := range byDatafile {
		assignVectors(t, path, cases)
		for _, c := range cases {
			total[c.file]++
			diff := c.diff()
			if diff == "" {
				passed[c.file]++
			} else if failures++; failures <= 5 {
				t.Errorf("%s: %s", c.ID, diff)
			}
		}
	}
	all := 0
	for _, name := range names {
		base := filepath.Base(name)
		fmt.Printf("vectors through assign: %-24s %5d/%d  (%d with a user profile left out)\n", base, passed[base], total[base], skipped[base])
		require.Positive(t, total[base], "%s holds no cases", name)
		if passed[base] != total[base] {
			t.Errorf("%s: %d of %d failed", base, total[base]-passed[base], total[base])
		}
		all += total[base]
	}
	fmt.Printf("vectors through assign: %d cases in %d files, by %d runs of the command\n", all, len(names), len(byDatafile))
}

// assignVectors runs the cases of one datafile and gives each what came of it.
func assignVectors(t *testing.T, datafile string, cases []*vectorCase) {
	dir := t.TempDir()
	var input []byte
	for _, c := range cases {
		line, err := json.Marshal(c.activity())
		require.NoError(t, err)
		input = append(append(input, line...), '\n')
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.ndjson"), input, 0o666))
	absolute, err := filepath.Abs(datafile)
	require.NoError(t, err)
	stderr, code := processor(t, dir, "assign", "--datafile", absolute, "-i", "a.ndjson", "-o", "d.ndjson", "--events", "e.ndjson", "--stream", "vectors")
	require.Equal(t, exitDone, code, "%s: %s", datafile, stderr)

	byID := map[string]*vectorCase{}
	for _, c := range cases {
		byID[c.ID] = c
	}
	eachJSONLine(t, filepath.Join(dir, "d.ndjson"), func(record map[string]any) {
		c := byID[record["activity_id"].(string)]
		require.False(t, c.hasRecord, "%s has two records", c.ID)
		c.hasRecord = true
		for _, d := range record["decisions"].([]any) {
			d := d.(map[string]any)
			key := d["flag_key"].(string)
			require.NotContains(t, c.decisions, key, "%s decides a flag twice", c.ID)
			c.decisions[key] = map[string]any{
				"variation_key": d["variation_key"], "enabled": d["enabled"], "rule_key": d["rule_key"], "variables": d["variables"],
			}
		}
	})

	raw, err := os.ReadFile(datafile)
	require.NoError(t, err)
	project, err := decision.Compile(raw)
	require.NoError(t, err)
	owners := eventOwners(project, cases)
	head := wantHead(t, datafile)
	info, err := os.Stat(filepath.Join(dir, "e.ndjson"))
	require.NoError(t, err)
	if info.Size() == 0 {
		return
	}
	eachJSONLine(t, filepath.Join(dir, "e.ndjson"), func(body map[string]any) {
		for _, v := range body["visitors"].([]any) {
			visitor := v.(map[string]any)
			uuid := eventOf(visitor)["uuid"].(string)
			owner, ok := owners[uuid]
			require.True(t, ok, "%s: nobody's event", datafile)
			delete(owners, uuid) // an id is given once
			if owner.isConversion {
				owner.c.conversions = append(owner.c.conversions, v)
			} else {
				owner.c.impressions = append(owner.c.impressions, v)
			}
		}
		delete(body, "visitors")
		for name, want := range head {
			require.Equal(t, want, body[name], "%s: %s", datafile, name)
		}
	})
}

type eventOwner struct {
	c            *vectorCase
	isConversion bool
}

// eventOwners lists the ids that events of the cases may have, made as package
// schemas documents it: which case an event belongs to is known by its id alone.
func eventOwners(p *decision.Project, cases []*vectorCase) map[string]eventOwner {
	owners := map[string]eventOwner{}
	var ids schemas.IDs
	for _, c := range cases {
		ids.Start("vectors", &schemas.Source{}, c.ID, true)
		var flags []string
		if c.Decide != nil && c.Decide[0] == '[' {
			if err := json.Unmarshal(c.Decide, &flags); err != nil {
				panic(err)
			}
			slices.Sort(flags)
		} else {
			for i := range p.NumFlags() {
				flags = append(flags, p.FlagKey(i))
			}
		}
		for i, key := range flags {
			repeats := 2 * (i - slices.Index(flags, key) + 1) // two a decision past a bypassed holdout
			for ordinal := range repeats {
				owners[strings.Clone(ids.Text(schemas.IDImpression, key, ordinal))] = eventOwner{c, false}
			}
		}
		for i, e := range c.Track {
			for ordinal := range i + 1 {
				owners[strings.Clone(ids.Text(schemas.IDConversion, e.EventKey, ordinal))] = eventOwner{c, true}
			}
		}
	}
	return owners
}

// wantHead is what surrounds the visitors of a datafile's bodies, if recorded.
func wantHead(t *testing.T, datafile string) map[string]any {
	raw, err := os.ReadFile(filepath.Join(conformanceFolder(), "batches.json"))
	if err != nil {
		return nil
	}
	var all map[string]map[string]any
	require.NoError(t, json.Unmarshal(raw, &all))
	name := filepath.Base(datafile)
	if filepath.Base(filepath.Dir(datafile)) == "sdk" {
		name = "sdk/" + name
	}
	used, err := os.ReadFile(datafile)
	require.NoError(t, err)
	recorded, err := os.ReadFile(filepath.Join(conformanceFolder(), "datafiles", name))
	if err != nil || !bytes.Equal(used, recorded) { // the folder is of other vectors
		return nil
	}
	head := all[name]
	require.NotEmpty(t, head, name)
	delete(head, "endpoint") // is not in the body
	return head
}
