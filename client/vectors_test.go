package client

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"sortition/decision"
)

// vectors_test.go makes the recorded cases of package decision pass through the
// client: attributes and tags as Go values, decisions as a program sees them,
// events as a processor gets them, profiles through a service.

type vector struct {
	ID         string         `json:"id"`
	Datafile   string         `json:"datafile"`
	UserID     string         `json:"user_id"`
	Attributes map[string]any `json:"attributes"`
	Segments   []string       `json:"segments"`
	Forced     []struct {
		FlagKey      string `json:"flag_key"`
		RuleKey      string `json:"rule_key"`
		VariationKey string `json:"variation_key"`
	} `json:"forced_decisions"`
	Options     []string        `json:"options"`
	UserProfile json.RawMessage `json:"user_profile"`
	Decide      json.RawMessage `json:"decide"`
	Track       []struct {
		EventKey string         `json:"event_key"`
		Tags     map[string]any `json:"tags"`
	} `json:"track"`
	Expect struct {
		Decisions   any   `json:"decisions"`
		Impressions []any `json:"impressions"`
		Conversions []any `json:"conversions"`
		Profile     any   `json:"profile"`
	} `json:"expect"`
}

// goValue gives a decoded value the types of a Go program; which of the fitting
// ones depends on n.
func goValue(v any, n int) any {
	switch v := v.(type) {
	case json.Number:
		if i, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			switch {
			case n%3 == 0:
				return i
			case n%3 == 1 && i >= 0 && i < 200:
				return uint8(i)
			}
		} else if f, err := v.Float64(); err == nil && strings.ContainsAny(string(v), ".eE") && n%2 == 0 {
			return f
		}
	case string:
		if n%2 == 0 {
			return named(v)
		}
	}
	return v
}

type named string

// oneProfile is a service that has one profile and keeps what is saved.
type oneProfile struct {
	stored  *decision.Profile
	saved   []*decision.Profile
	lookups int
}

func (s *oneProfile) Lookup(context.Context, string) (*decision.Profile, error) {
	s.lookups++
	return s.stored, nil
}

func (s *oneProfile) Save(_ context.Context, p *decision.Profile) error {
	s.saved = append(s.saved, p)
	return nil
}

// swapped lets the cases of one client have services of their own.
type swapped struct{ decision.ProfileService }

func TestVectors(t *testing.T) {
	folder := filepath.Join("..", "decision", "testdata", "vectors")
	names, err := filepath.Glob(filepath.Join(folder, "cases-*.ndjson.gz"))
	require.NoError(t, err)
	require.NotEmpty(t, names)
	type made struct {
		client   *Client
		events   *recorder
		profiles *swapped
	}
	clients := map[string]*made{}
	passed, total := 0, 0
	for _, name := range names {
		for _, line := range unpackedLines(t, name) {
			var v vector
			d := json.NewDecoder(strings.NewReader(line))
			d.UseNumber()
			require.NoError(t, d.Decode(&v))
			for _, withProfiles := range []bool{false, true} {
				if withProfiles != (v.UserProfile != nil) {
					continue
				}
				key := v.Datafile + strconv.FormatBool(withProfiles)
				m := clients[key]
				if m == nil {
					datafile, err := os.ReadFile(filepath.Join(folder, "datafiles", v.Datafile))
					require.NoError(t, err)
					m = &made{profiles: &swapped{}}
					options := []Option{}
					if withProfiles {
						options = append(options, WithUserProfileService(m.profiles))
					}
					m.client, m.events = newClient(t, json.RawMessage(datafile), options...)
					clients[key] = m
				}
				total++
				if v.run(t, m.client, m.events, m.profiles, total) {
					passed++
				}
			}
		}
	}
	t.Logf("%d of %d cases", passed, total)
	require.Equal(t, total, passed)
	require.Greater(t, total, 6000)
}

func unpackedLines(t *testing.T, name string) (lines []string) {
	file, err := os.Open(name)
	require.NoError(t, err)
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	require.NoError(t, err)
	scanner := bufio.NewScanner(unpacked)
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		lines = append(lines, scanner.Text())
	}
	require.NoError(t, scanner.Err())
	return lines
}

func (v *vector) run(t *testing.T, c *Client, events *recorder, profiles *swapped, n int) bool {
	service := &oneProfile{}
	profiles.ProfileService = service
	if v.UserProfile != nil {
		if stored, err := decision.ParseProfile(v.UserProfile); err == nil {
			service.stored = stored
		}
	}
	attributes := map[string]any{}
	for k, value := range v.Attributes {
		attributes[k] = goValue(value, n+len(k))
	}
	u := c.NewUser(v.UserID, attributes)
	u.SetQualifiedSegments(v.Segments)
	for _, f := range v.Forced {
		require.True(t, u.SetForcedDecision(DecisionContext{f.FlagKey, f.RuleKey}, ForcedDecision{f.VariationKey}))
	}
	var options []DecideOptions
	for _, name := range v.Options {
		if o, ok := ParseDecideOption(name); ok {
			options = append(options, o)
		}
	}
	var decisions Decisions
	switch {
	case v.Decide == nil:
	case v.Decide[0] == '"':
		decisions = u.DecideAll(t.Context(), options...)
	default:
		var keys []string
		require.NoError(t, json.Unmarshal(v.Decide, &keys))
		decisions = u.DecideForKeys(t.Context(), keys, options...)
	}
	got := map[string]any{"impressions": events.take(t), "conversions": []any{}, "decisions": map[string]any{}, "profile": nil}
	for key, d := range decisions.All() {
		byKey, ok := decisions.Get(key)
		require.True(t, ok && byKey.FlagKey == key)
		got["decisions"].(map[string]any)[key] = tree(t, map[string]any{
			"variation_key": orNull(d.VariationKey), "enabled": d.Enabled, "rule_key": orNull(d.RuleKey), "variables": d.Variables,
		})
	}
	for _, e := range v.Track {
		_ = u.TrackEvent(t.Context(), e.EventKey, e.Tags)
	}
	got["conversions"] = events.take(t)
	require.LessOrEqual(t, service.lookups, 1)
	require.LessOrEqual(t, len(service.saved), 1)
	for _, p := range service.saved {
		got["profile"] = tree(t, p)
	}

	want := map[string]any{"impressions": []any{}, "conversions": []any{}, "decisions": map[string]any{}, "profile": tree(t, v.Expect.Profile)}
	if v.Expect.Decisions != nil {
		want["decisions"] = tree(t, v.Expect.Decisions)
	}
	for name, list := range map[string][]any{"impressions": v.Expect.Impressions, "conversions": v.Expect.Conversions} {
		for _, visitor := range list {
			visitor = tree(t, visitor)
			stripVisitor(visitor)
			want[name] = append(want[name].([]any), visitor)
		}
	}
	for _, o := range []map[string]any{got, want} {
		byText := func(a, b any) int { return strings.Compare(string(text(t, a)), string(text(t, b))) }
		slices.SortStableFunc(o["impressions"].([]any), byText)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got  %.3000s\n want %.3000s", v.ID, text(t, got), text(t, want))
		return false
	}
	return true
}
