package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/examples"
)

// openTestWorld is a world as the command line would make it, in this process.
func openTestWorld(t *testing.T, c devCmd) *devWorld {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = null.Close() })
	if c.Seed == 0 {
		c.Seed = 1
	}
	if c.Partitions == 0 {
		c.Partitions = 3
	}
	require.NoError(t, c.validate())
	w, err := openDevWorld(t.Context(), &c, stdio{null, null, null})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, w.close()) })
	return w
}

func (w *devWorld) workThrough(t *testing.T, c devCmd) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := w.work(ctx, &c, &devProgress{})
	require.NoError(t, err)
	require.NoError(t, ctx.Err(), "not through in time")
}

func request(t *testing.T, method, url, body string, headers ...string) (status int, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	res, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	got, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(got)
}

func readState(t *testing.T, page string) *devState {
	t.Helper()
	status, text := request(t, http.MethodGet, page+"api/state", "")
	require.Equal(t, http.StatusOK, status)
	s := &devState{}
	require.NoError(t, json.Unmarshal([]byte(text), s))
	return s
}

// awaitState polls until the state is as wanted.
func awaitState(t *testing.T, page string, isWanted func(*devState) bool) *devState {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		s := readState(t, page)
		if isWanted(s) {
			return s
		}
		require.True(t, time.Now().Before(deadline), "not in time: %+v", s)
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *devState) flag(key string) *devFlag {
	for i := range s.Flags {
		if s.Flags[i].Key == key {
			return &s.Flags[i]
		}
	}
	return &devFlag{}
}

// What the page serves is what the account finds in the topics and the emulator.
func TestDevPageTellsWhatTheAccountFinds(t *testing.T) {
	c := devCmd{Activities: 1500, Exit: true, Page: "127.0.0.1:0", Bad: 0.05}
	w := openTestWorld(t, c)
	w.workThrough(t, c)
	page := w.page.url()
	a, err := w.takeAccount(t.Context(), false)
	require.NoError(t, err)
	require.Empty(t, a.faults())
	require.Zero(t, a.pending())
	assert.Equal(t, 1500, a.consumed)
	assert.Positive(t, a.rejected)
	assert.Positive(t, a.odpEvents.made, "the sample has ODP events")
	assert.Positive(t, a.stats.SegmentsKnown, "and users whose segments must be asked for")
	assert.Zero(t, a.segmentsWrong)
	assert.Zero(t, a.segmentsUnknown)

	s := awaitState(t, page, func(s *devState) bool {
		return s.Activities.Decided == a.decided && s.Activities.DeadLetters == a.rejected && s.Activities.Lag == 0
	})
	assert.Equal(t, a.consumed, s.Activities.Consumed)
	assert.Equal(t, 1500, s.Activities.Made)
	assert.Equal(t, a.numDecisions, s.Decisions)
	for _, d := range []struct {
		found *eventAccount
		shown devDelivery
	}{{&a.events, s.Events}, {&a.odpEvents, s.ODPEvents}} {
		assert.Equal(t, []int{d.found.made, d.found.delivered, d.found.refused, d.found.pending}, []int{d.shown.Made, d.shown.Delivered, d.shown.Refused, d.shown.Pending})
	}
	reasons := map[string]int{}
	for _, r := range s.DeadLetters {
		reasons[r.Reason] = r.Count
	}
	assert.Equal(t, a.reasons, reasons)
	require.Len(t, s.Flags, len(a.flags))
	for _, f := range s.Flags {
		found := a.flags[f.Key]
		require.NotNil(t, found, f.Key)
		assert.Equal(t, found.decided, f.Decided)
		assert.Equal(t, found.ranked(), f.Total)
		assert.Equal(t, f.Total, f.Variations, "there was one datafile only")
	}
	assert.Equal(t, "42", s.Datafile.Revision)
	assert.Equal(t, a.decided, s.Datafile.Decided)

	t.Run("why", func(t *testing.T) {
		require.NotEmpty(t, s.Last)
		last := s.Last[0]
		e, err := w.explain(t.Context(), last.Partition, last.Offset, last.Flag)
		require.NoError(t, err)
		assert.Equal(t, last.User, e.User)
		want := " is off for " + last.User
		if last.Variation != "" {
			want = "variation " + last.Variation
		}
		assert.Contains(t, e.Text, want, "the explanation comes to the same end")
		status, text := request(t, http.MethodGet, page+"explain?partition=0&offset=0&flag=dark_mode", "")
		assert.Equal(t, http.StatusOK, status)
		assert.Contains(t, text, "processor explain --datafile d.json --flag dark_mode --user ")
		status, _ = request(t, http.MethodGet, page+"explain?partition=0&offset=99999999&flag=dark_mode", "")
		assert.Equal(t, http.StatusNotFound, status)
		status, _ = request(t, http.MethodGet, page+"explain?partition=0", "")
		assert.Equal(t, http.StatusBadRequest, status)
	})
	t.Run("the page is whole", func(t *testing.T) {
		status, text := request(t, http.MethodGet, page, "")
		assert.Equal(t, http.StatusOK, status)
		assert.NotRegexp(t, `(src|href)="?(https?:)?//`, text, "nothing comes from elsewhere")
		_, text = request(t, http.MethodGet, page+"api/datafile", "")
		assert.Equal(t, string(examples.Datafile()), text)
	})
	t.Run("strangers are not let in", func(t *testing.T) {
		status, _ := request(t, http.MethodGet, page+"api/state", "", "Host", "shop.example")
		assert.Equal(t, http.StatusForbidden, status)
		for _, bad := range []struct {
			body, kind string
			status     int
		}{
			{`{"flag":"dark_mode","percent":100}`, "text/plain", http.StatusUnsupportedMediaType},
			{`{"flag":"dark_mode"}`, "application/json", http.StatusBadRequest},
			{`{"flag":"dark_mode","percent":101}`, "application/json", http.StatusBadRequest},
			{`{"flag":"no_such_flag","percent":1}`, "application/json", http.StatusBadRequest},
		} {
			status, _ := request(t, http.MethodPost, page+"api/rollout", bad.body, "Content-Type", bad.kind)
			assert.Equal(t, bad.status, status, bad.body)
		}
		assert.Equal(t, "42", readState(t, page).Datafile.Revision)
	})
	t.Run("an account that does not add up", func(t *testing.T) {
		require.NoError(t, w.cloud.Clear())
		a, err := w.takeAccount(t.Context(), false)
		require.NoError(t, err)
		assert.Equal(t, a.events.made, a.events.lost)
		assert.Len(t, a.faults(), 2, "events and ODP events that nobody has")
	})
}

// devChild is `processor dev` as a process, and its page.
func startDev(t *testing.T, args ...string) (c *child, page string) {
	t.Helper()
	c = startProcessor(t, append([]string{"dev", "--page", "127.0.0.1:0"}, args...)...)
	address := regexp.MustCompile(`(?m)^page +(http://\S+)$`)
	deadline := time.Now().Add(patience)
	for {
		if found := address.FindStringSubmatch(c.output.String()); found != nil {
			return c, found[1]
		}
		require.True(t, time.Now().Before(deadline), c.output.String())
		time.Sleep(10 * time.Millisecond)
	}
}

// A run without end: datafiles that change while it goes on, Ctrl-C, the account.
func TestDevUntilInterrupted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.json")
	require.NoError(t, os.WriteFile(path, examples.Datafile(), 0o666))
	c, page := startDev(t, "--activities", "100", "--datafile", path, "--rate", "100")
	before := awaitState(t, page, func(s *devState) bool { return s.Activities.Decided >= 90 })
	require.Equal(t, "42", before.Datafile.Revision)
	require.Equal(t, 30, *before.flag("dark_mode").Rollout)

	// isNew is a revision that decides, and the rule for everyone else does all it can: its
	// first variation is nobody's, or there is none without it.
	isNew := func(revision string, everyone bool) func(*devState) bool {
		return func(s *devState) bool {
			if s.Datafile.Revision != revision || s.flag("dark_mode").DecidedNow < 15 {
				return false
			}
			on := false
			for _, v := range s.flag("dark_mode").Variations {
				on = on || v.Key == "on_light_accent"
			}
			return on == everyone
		}
	}
	// By the button, to and fro. A machine that is busy with other things may delay one
	// change, but not every one.
	isQuick := false
	revision := 42
	for range 5 {
		for _, percent := range []string{"0", "100"} {
			revision++
			began := time.Now()
			status, text := request(t, http.MethodPost, page+"api/rollout", `{"flag":"dark_mode","percent":`+percent+`}`, "Content-Type", "application/json")
			require.Equal(t, http.StatusOK, status, text)
			awaitState(t, page, isNew(strconv.Itoa(revision), percent == "100"))
			took := time.Since(began)
			t.Logf("revision %d decides after %s", revision, took)
			isQuick = isQuick || took < time.Second
		}
		if isQuick {
			break
		}
	}
	assert.True(t, isQuick, "a change shows within a second")

	// By the file, its revision untouched: it gets the next one.
	changed, err := withRollout(examples.Datafile(), "dark_mode", 0)
	require.NoError(t, err)
	changed, err = withRevision(changed, "42")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, changed, 0o666))
	revision++
	awaitState(t, page, isNew(strconv.Itoa(revision), false))

	// A file that can't be used changes nothing, and says so.
	require.NoError(t, os.WriteFile(path, []byte("{"), 0o666))
	broken := awaitState(t, page, func(s *devState) bool { return s.Datafile.Fault != "" })
	assert.Equal(t, strconv.Itoa(revision), broken.Datafile.Revision)

	require.NoError(t, c.Process.Signal(os.Interrupt))
	require.NoError(t, c.wait(t), c.output.String())
	output := c.output.String()
	assert.Contains(t, output, "✓ it adds up")
	assert.NotRegexp(t, `u-1\d{5}|anon-[0-9a-f]{16}`, output, "no users in the log or the account")
	http.DefaultClient.CloseIdleConnections()
}

// With a folder it goes on: after a kill, after Ctrl-C, and to the end.
func TestDevGoesOnWhereItWas(t *testing.T) {
	dir := t.TempDir()
	made := 0
	run := func(end os.Signal) {
		c, page := startDev(t, "--activities", "200", "--rate", "150", "--data", dir, "--partitions", "2")
		s := awaitState(t, page, func(s *devState) bool {
			return s.Activities.Consumed >= made+200 && s.Activities.Decided >= (made+200)*9/10 && s.Events.Delivered > 0
		})
		status, _ := request(t, http.MethodPost, page+"api/rollout", `{"flag":"dark_mode","percent":55}`, "Content-Type", "application/json")
		require.Equal(t, http.StatusOK, status)
		require.NoError(t, c.Process.Signal(end))
		err := c.wait(t)
		if end == os.Interrupt {
			require.NoError(t, err, c.output.String())
			assert.Contains(t, c.output.String(), "✓ it adds up")
		}
		made = s.Activities.Consumed
	}
	run(os.Kill)
	run(os.Interrupt)

	c := devCmd{Activities: 100, Exit: true, Data: dir, Partitions: 9}
	w := openTestWorld(t, c)
	before := int(sumOf(w.begin.ends[devTopics.Activities]))
	assert.GreaterOrEqual(t, before, 400, "two runs' activities are there")
	assert.Len(t, w.begin.ends[devTopics.Activities], 2, "the topics are those of the first start")
	second, err := openDevWorld(t.Context(), &c, stdio{os.Stdin, os.Stdout, os.Stderr})
	require.ErrorContains(t, err, "in use by another process")
	require.NotNil(t, second)
	w.workThrough(t, c)
	a, err := w.takeAccount(t.Context(), false)
	require.NoError(t, err)
	assert.Empty(t, a.faults())
	assert.Equal(t, before+100, a.consumed, "all runs' activities")
	assert.Zero(t, a.pending())
	assert.Equal(t, a.events.made, a.events.delivered)
	assert.Equal(t, "44", w.datafile.current().Revision(), "the datafile set before is still served")
	http.DefaultClient.CloseIdleConnections()
}

func TestNextDatafile(t *testing.T) {
	raw := examples.Datafile()
	require.Equal(t, 30, rolloutsOf(raw)["dark_mode"])
	_, hasRollout := rolloutsOf(raw)["app_rating_prompt"]
	require.False(t, hasRollout)
	for _, percent := range []int{0, 25, 100, 0, 50} {
		var err error
		raw, err = withRollout(raw, "dark_mode", percent)
		require.NoError(t, err)
		assert.Equal(t, percent, rolloutsOf(raw)["dark_mode"])
	}
	var d struct{ Revision string }
	require.NoError(t, json.Unmarshal(raw, &d))
	assert.Equal(t, "47", d.Revision)
	assert.Equal(t, "b7+1", nextRevision("b7"))
	_, err := withRollout(raw, "app_rating_prompt", 10)
	require.Error(t, err)
}

func TestViewFitsTheTerminal(t *testing.T) {
	colours := ink{bold: "\x1b[1m", dim: "\x1b[2m", good: "\x1b[32m", bad: "\x1b[31m", bar: "\x1b[36m", off: "\x1b[0m"}
	s := &devState{
		Flags: []devFlag{{Key: "checkout", Variations: []devVariation{{"on", true, 6, .6}, {"two", true, 1, .1}, {"", false, 3, .3}}}, {Key: "other"}},
		Last:  []devShown{{User: "u-1", Flag: "checkout", Variation: "on"}},
	}
	lines := s.view(200, 50, ink{})
	assert.Contains(t, strings.Join(lines, "\n"), "checkout  ██████████████▓▓▓·······  on 60 %  two 10 %  (none) 30 %")
	assert.Contains(t, strings.Join(lines, "\n"), "u-1  checkout → on")
	for _, width := range []int{5, 40, 80} {
		lines := s.view(width, 7, colours)
		assert.LessOrEqual(t, len(lines), 7)
		for _, line := range lines {
			plain := regexp.MustCompile("\x1b\\[[0-9]*m").ReplaceAllString(line, "")
			assert.LessOrEqual(t, len([]rune(plain)), width)
			assert.NotContains(t, plain, "\x1b", "no sequence is cut")
		}
	}
}

func TestShellQuoted(t *testing.T) {
	for in, want := range map[string]string{"u-17": "u-17", "": "''", "a b": "'a b'", `{"a":1}`: `'{"a":1}'`, "it's": `'it'\''s'`, "$x": "'$x'"} {
		assert.Equal(t, want, shellQuoted(in))
	}
}
