package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sortition/examples"
	"sortition/internal/sample"
)

// BenchmarkAssign measures the command end to end, from a file to the null
// device: reading, cutting into lines, decoding, deciding, encoding, writing in
// order. Each measurement is held against another one of the same run:
//
//	x-json      activities/s, as a multiple of a loop that only unmarshals the
//	            same activities with encoding/json into a struct and marshals them
//	            again, without reading or writing anything. Floors: 4 with one
//	            flag decided per activity, 2 with ten.
//	x-1worker   two workers against one. Floor: 1.7 on two processors.
//	x-machine   what two goroutines that share nothing do against one: the most
//	            that x-1worker could be on the machine as it is now.
//
// The loop and the runs take turns, and of each the fastest turn counts: what a
// noisy machine adds is left out of both sides.
func BenchmarkAssign(b *testing.B) {
	input, lines := benchActivities(b, 100_000)
	for _, datafile := range []struct {
		name string
		text []byte
	}{{"shop", examples.Datafile()}, {"60flags", sample.Datafile(1, 60)}} {
		path := filepath.Join(b.TempDir(), "d.json")
		require.NoError(b, os.WriteFile(path, datafile.text, 0o666))
		project, err := readProject(path, false)
		require.NoError(b, err)
		for _, flags := range []int{1, 10} {
			var keys []string
			for i := range flags {
				keys = append(keys, project.FlagKey(i*project.NumFlags()/flags))
			}
			b.Run(fmt.Sprintf("%s/flags=%d", datafile.name, flags), func(b *testing.B) {
				benchAssign(b, path, input, keys, lines)
			})
		}
	}
}

func benchAssign(b *testing.B, datafile, input string, keys []string, lines [][]byte) {
	reference, one, two, alone, together := time.Hour, time.Hour, time.Hour, time.Hour, time.Hour
	run := func(workers int) time.Duration {
		c := &assignCmd{
			Datafile: datafile, Input: []string{input}, Output: os.DevNull, Stream: "bench", Decide: keys, Workers: workers, Quiet: true,
		}
		start := time.Now()
		require.NoError(b, c.Run(context.Background(), stdio{os.Stdin, os.Stdout, os.Stderr}))
		return time.Since(start)
	}
	run(1) // so that the first measurement finds a warm page cache, too
	for b.Loop() {
		reference = min(reference, jsonLoop(b, lines))
		one = min(one, run(1))
		two = min(two, run(2))
		alone = min(alone, hashes(1))
		together = min(together, hashes(2))
	}
	b.ReportMetric(float64(len(lines))/one.Seconds(), "activities/s")
	b.ReportMetric(reference.Seconds()/one.Seconds(), "x-json")
	b.ReportMetric(one.Seconds()/two.Seconds(), "x-1worker")
	b.ReportMetric(alone.Seconds()/together.Seconds(), "x-machine")
	b.ReportMetric(0, "ns/op")
}

// hashes does a fixed amount of work that needs no memory, by some goroutines.
func hashes(goroutines int) time.Duration {
	const work = 1_000_000
	start := time.Now()
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			var block [64]byte
			for range work / goroutines {
				sum := sha256.Sum256(block[:])
				block[0] = sum[0]
			}
		})
	}
	all.Wait()
	return time.Since(start)
}

// benchActivities writes activities that all decide the flags of the command
// line, and returns them line by line, too.
func benchActivities(b *testing.B, n int) (path string, lines [][]byte) {
	g := sample.NewGenerator(1, sample.Options{Conversions: 150})
	var text []byte
	for len(lines) < n {
		line := g.AppendNext(nil)
		if bytes.Contains(line, []byte(`"decide":`)) {
			continue
		}
		lines = append(lines, line)
		text = append(append(text, line...), '\n')
	}
	path = filepath.Join(b.TempDir(), "activities.ndjson")
	require.NoError(b, os.WriteFile(path, text, 0o666))
	b.Logf("%d activities of %d bytes", n, len(text)/n)
	return path, lines
}

// jsonActivity is what somebody would write down for encoding/json.
type jsonActivity struct {
	UserID      string            `json:"user_id"`
	ID          string            `json:"id,omitempty"`
	Timestamp   json.RawMessage   `json:"timestamp,omitempty"`
	Attributes  map[string]any    `json:"attributes,omitempty"`
	Identifiers map[string]string `json:"identifiers,omitempty"`
	Segments    []string          `json:"segments"`
	Decide      json.RawMessage   `json:"decide,omitempty"`
	Options     []string          `json:"options,omitempty"`
	Forced      []struct {
		FlagKey      string `json:"flag_key"`
		RuleKey      string `json:"rule_key,omitempty"`
		VariationKey string `json:"variation_key"`
	} `json:"forced_decisions,omitempty"`
	Events []struct {
		Key       string         `json:"key"`
		Tags      map[string]any `json:"tags,omitempty"`
		Timestamp int64          `json:"timestamp,omitempty"`
	} `json:"events,omitempty"`
	ODPEvents []struct {
		Type   string         `json:"type,omitempty"`
		Action string         `json:"action"`
		Data   map[string]any `json:"data,omitempty"`
	} `json:"odp_events,omitempty"`
	Context json.RawMessage `json:"context,omitempty"`
}

// jsonLoop is the loop that assign is measured against.
func jsonLoop(b *testing.B, lines [][]byte) time.Duration {
	start := time.Now()
	size := 0
	for _, line := range lines {
		var a jsonActivity
		if err := json.Unmarshal(line, &a); err != nil {
			b.Fatal(err)
		}
		out, err := json.Marshal(&a)
		if err != nil {
			b.Fatal(err)
		}
		size += len(out)
	}
	if size == 0 {
		b.Fatal("nothing marshalled: " + strconv.Itoa(len(lines)))
	}
	return time.Since(start)
}
