package decision

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
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
)

// vectors_test.go compares the engine with answers recorded from the official
// SDKs. The generated vectors are in testdata/vectors; what else a conformance
// folder has (SORTITION_CONFORMANCE names one), as those made from the SDKs' own
// datafiles, is used in place.

const vectorFolder = "testdata/vectors"

func conformanceFolder() string {
	if dir := os.Getenv("SORTITION_CONFORMANCE"); dir != "" {
		return dir
	}
	return filepath.Join("..", "..", "shared", "conformance")
}

type vector struct {
	ID         string                     `json:"id"`
	Datafile   string                     `json:"datafile"`
	UserID     string                     `json:"user_id"`
	Attributes map[string]json.RawMessage `json:"attributes"`
	Segments   *[]string                  `json:"segments"`
	Forced     []struct {
		FlagKey      string  `json:"flag_key"`
		RuleKey      *string `json:"rule_key"`
		VariationKey string  `json:"variation_key"`
	} `json:"forced_decisions"`
	Options     []string        `json:"options"`
	UserProfile json.RawMessage `json:"user_profile"`
	Decide      json.RawMessage `json:"decide"`
	Track       []struct {
		EventKey string          `json:"event_key"`
		Tags     json.RawMessage `json:"tags"`
	} `json:"track"`
	Expect struct {
		Decisions   any `json:"decisions"`
		Impressions any `json:"impressions"`
		Conversions any `json:"conversions"`
		Profile     any `json:"profile"`
	} `json:"expect"`
}

// valueOf makes a Value of raw JSON.
func valueOf(raw json.RawMessage) Value {
	raw = bytes.TrimSpace(raw)
	switch c := raw[0]; {
	case c == 'n':
		return Null()
	case c == 't' || c == 'f':
		return Bool(c == 't')
	case c == '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			panic(err)
		}
		return String(s)
	case c == '{' || c == '[':
		return Composite(string(raw))
	default:
		return Number(string(raw))
	}
}

func (v *vector) user(u *User, p *Project) {
	u.Reset(p, v.UserID)
	keys := make([]string, 0, len(v.Attributes))
	for k := range v.Attributes {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		u.SetAttribute(k, valueOf(v.Attributes[k]))
	}
	if v.Segments != nil {
		u.SetSegments(*v.Segments)
	}
	for _, f := range v.Forced {
		rule := ""
		if f.RuleKey != nil {
			rule = *f.RuleKey
		}
		u.SetForcedDecision(f.FlagKey, rule, f.VariationKey)
	}
}

func (v *vector) options() (o Options) {
	for _, name := range v.Options {
		option, _ := ParseOption(name)
		o |= option
	}
	return o
}

// fakeProfiles answers every lookup with one profile and keeps what is saved.
type fakeProfiles struct {
	stored  *Profile
	saved   []*Profile
	lookups int
}

func (f *fakeProfiles) Lookup(context.Context, string) (*Profile, error) {
	f.lookups++
	return f.stored, nil
}

func (f *fakeProfiles) Save(_ context.Context, p *Profile) error {
	f.saved = append(f.saved, p)
	return nil
}

const testUUID = "00000000-0000-4000-8000-000000000000"

// run answers the vector as its expectation is written.
func (v *vector) run(p *Project, u *User) (map[string]any, error) {
	v.user(u, p)
	env := &Env{}
	var profiles *fakeProfiles
	if v.UserProfile != nil {
		profiles = &fakeProfiles{}
		if stored, err := ParseProfile(v.UserProfile); err == nil {
			profiles.stored = stored
		}
		env.Profiles = profiles
	}
	var decisions []Decision
	switch {
	case v.Decide == nil:
	case v.Decide[0] == '"':
		decisions = p.DecideAll(context.Background(), nil, u, v.options(), env)
	default:
		var keys []string
		if err := json.Unmarshal(v.Decide, &keys); err != nil {
			return nil, err
		}
		decisions = p.DecideKeys(context.Background(), nil, u, keys, v.options(), env)
	}

	listed := map[string]any{}
	for i := range decisions {
		d := &decisions[i]
		if d.IsListed() {
			listed[d.FlagKey()] = map[string]any{
				"variation_key": orNil(d.VariationKey()), "enabled": d.Enabled(), "rule_key": orNil(d.RuleKey()),
				"variables": json.RawMessage(d.VariablesJSON()),
			}
		}
	}
	got := map[string]any{"decisions": listed}
	if impressions := AppendImpressions(nil, decisions); len(impressions) > 0 {
		var list []json.RawMessage
		for i := range impressions {
			list = append(list, impressions[i].AppendVisitor(nil, u, testUUID, 1))
		}
		got["impressions"] = list
	}
	var conversions []json.RawMessage
	for _, t := range v.Track {
		if c, ok := p.Conversion(t.EventKey, t.Tags); ok {
			conversions = append(conversions, c.AppendVisitor(nil, u, testUUID, 1))
		}
	}
	if conversions != nil {
		got["conversions"] = conversions
	}
	if profiles != nil {
		if profiles.lookups > 1 || len(profiles.saved) > 1 {
			return nil, fmt.Errorf("%d lookups and %d saves in one call", profiles.lookups, len(profiles.saved))
		}
		for _, saved := range profiles.saved {
			got["profile"] = saved
		}
	}
	return got, nil
}

func orNil(s string, ok bool) any {
	if !ok {
		return nil
	}
	return s
}

// canonical turns any JSON-able value into a tree as the comparison rules of the
// vectors want it: numbers as floats, visitors' attributes and impressions sorted,
// uuid and timestamp gone.
func canonical(v any) any {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	var tree any
	if err := json.Unmarshal(data, &tree); err != nil {
		panic(err)
	}
	return tree
}

func canonicalVisitors(v any, isSorted bool) any {
	list, _ := canonical(v).([]any)
	for _, visitor := range list {
		m := visitor.(map[string]any)
		attributes := m["attributes"].([]any)
		sort.SliceStable(attributes, func(i, k int) bool { return sortKey(attributes[i]) < sortKey(attributes[k]) })
		for _, s := range m["snapshots"].([]any) {
			for _, e := range s.(map[string]any)["events"].([]any) {
				delete(e.(map[string]any), "uuid")
				delete(e.(map[string]any), "timestamp")
			}
		}
	}
	if isSorted {
		sort.SliceStable(list, func(i, k int) bool { return text(list[i]) < text(list[k]) })
	}
	return list
}

func sortKey(attribute any) string {
	return attribute.(map[string]any)["key"].(string) + text(attribute)
}

func text(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(data)
}

// diff compares what the engine said with what was recorded.
func (v *vector) diff(got map[string]any) string {
	var out []string
	compare := func(name string, got, want any) {
		if !reflect.DeepEqual(got, want) {
			out = append(out, fmt.Sprintf("%s:\n  got  %s\n  want %s", name, text(got), text(want)))
		}
	}
	if want := v.Expect.Decisions; want != nil || v.Decide != nil {
		compare("decisions", canonical(got["decisions"]), canonical(want))
	}
	compare("impressions", canonicalVisitors(got["impressions"], true), canonicalVisitors(v.Expect.Impressions, true))
	compare("conversions", canonicalVisitors(got["conversions"], false), canonicalVisitors(v.Expect.Conversions, false))
	compare("profile", canonical(got["profile"]), canonical(v.Expect.Profile))
	return strings.Join(out, "\n")
}

// projects compiles datafiles once.
type projects struct {
	folder string
	made   map[string]*Project
}

func (ps *projects) get(t testing.TB, name string) *Project {
	if p := ps.made[name]; p != nil {
		return p
	}
	raw, err := os.ReadFile(filepath.Join(ps.folder, "datafiles", name))
	require.NoError(t, err)
	p, err := Compile(raw)
	require.NoError(t, err, name)
	if ps.made == nil {
		ps.made = map[string]*Project{}
	}
	ps.made[name] = p
	return p
}

// eachLine calls f for the lines of a file, unpacking .gz.
func eachLine(t testing.TB, name string, f func(line []byte)) {
	file, err := os.Open(name)
	require.NoError(t, err)
	defer file.Close()
	var r io.Reader = file
	if strings.HasSuffix(name, ".gz") {
		r, err = gzip.NewReader(file)
		require.NoError(t, err)
	}
	s := bufio.NewScanner(r)
	s.Buffer(nil, 16<<20)
	for s.Scan() {
		f(s.Bytes())
	}
	require.NoError(t, s.Err())
}

func runVectorFile(t *testing.T, ps *projects, name string) (passed, total int) {
	var u User
	eachLine(t, name, func(line []byte) {
		var v vector
		require.NoError(t, json.Unmarshal(line, &v))
		total++
		got, err := v.run(ps.get(t, v.Datafile), &u)
		if err == nil {
			if diff := v.diff(got); diff != "" {
				err = fmt.Errorf("%s", diff)
			}
		}
		if err != nil {
			if total-passed <= 3 {
				t.Errorf("%s: %v", v.ID, err)
			}
			return
		}
		passed++
	})
	return passed, total
}

// TestVectors runs every recorded case and prints passed/total by file.
func TestVectors(t *testing.T) {
	names, err := filepath.Glob(filepath.Join(vectorFolder, "cases-*.ndjson.gz"))
	require.NoError(t, err)
	require.NotEmpty(t, names, "no vectors found in "+vectorFolder)
	committed := &projects{folder: vectorFolder}
	inPlace := &projects{folder: conformanceFolder()}
	numCommitted := len(names)
	names = append(names, vectorsInPlace(t, "cases-*.ndjson")...)
	all := 0
	for i, name := range names {
		ps := committed
		if i >= numCommitted {
			ps = inPlace
		}
		passed, total := runVectorFile(t, ps, name)
		fmt.Printf("vectors: %-28s %5d/%d\n", filepath.Base(name), passed, total)
		require.Positive(t, total, "%s holds no cases", name)
		if passed != total {
			t.Errorf("%s: %d of %d failed", filepath.Base(name), total-passed, total)
		}
		all += total
	}
	fmt.Printf("vectors: %d cases in %d files\n", all, len(names))
}

// vectorsInPlace lists the files of the conformance folder, but for copies of
// committed ones.
func vectorsInPlace(t testing.TB, pattern string) (names []string) {
	found, err := filepath.Glob(filepath.Join(conformanceFolder(), pattern))
	require.NoError(t, err)
	if len(found) == 0 {
		t.Logf("vectors: no %s in %s; SORTITION_CONFORMANCE names another folder", pattern, conformanceFolder())
	}
	content := func(name string) string {
		var all []byte
		eachLine(t, name, func(line []byte) { all = append(append(all, line...), '\n') })
		return string(all)
	}
	for _, name := range found {
		copied := filepath.Join(vectorFolder, filepath.Base(name)+".gz")
		if _, err := os.Stat(copied); err == nil && content(copied) == content(name) {
			continue
		}
		names = append(names, name)
	}
	return names
}

// TestBucketingVectors compares hash and bucket of recorded strings.
func TestBucketingVectors(t *testing.T) {
	names := append([]string{filepath.Join(vectorFolder, "bucketing.ndjson.gz")}, vectorsInPlace(t, "bucketing*.ndjson")...)
	for _, name := range names {
		passed, total := 0, 0
		eachLine(t, name, func(line []byte) {
			var v struct {
				Key    string
				Hash   uint32
				Bucket int
			}
			require.NoError(t, json.Unmarshal(line, &v))
			total++
			if Hash(v.Key) == v.Hash && Bucket(v.Hash) == v.Bucket {
				passed++
			}
		})
		fmt.Printf("vectors: %-28s %5d/%d\n", filepath.Base(name), passed, total)
		require.Positive(t, total, name)
		require.Equal(t, total, passed, name)
	}
}

// TestBatchHeads compares the fields around the visitors with recorded ones.
func TestBatchHeads(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(conformanceFolder(), "batches.json"))
	if err != nil {
		t.Skip("batches.json is not here; set SORTITION_CONFORMANCE to run it")
	}
	var want map[string]map[string]any
	require.NoError(t, json.Unmarshal(raw, &want))
	require.NotEmpty(t, want)
	ps := &projects{folder: conformanceFolder()}
	for name, fields := range want {
		p := ps.get(t, name)
		var got map[string]any
		require.NoError(t, json.Unmarshal(AppendBatchTail(p.AppendBatchHead(nil, Client{"n", "v"})), &got))
		got["endpoint"] = p.EventEndpoint()
		delete(got, "visitors")
		delete(got, "client_name")
		delete(got, "client_version")
		require.Equal(t, fields, got, name)
	}
	fmt.Printf("vectors: %-28s %5d/%d\n", "batches.json", len(want), len(want))
}
