package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"sortition/internal/sample"
	"sortition/pipeline"
	"sortition/pipeline/kafkago"
)

// traffic fills the activities topic from the sample generator.
type traffic struct {
	producer  *kafkago.Producer
	generator *sample.Generator
	made      int
	shown     atomic.Int64 // made, for other goroutines
	drawn     int          // from the generator, by earlier runs too
	kept      string       // file that holds drawn for the next run; "": none

	outputs []pipeline.Output
	text    []byte
}

func (t *traffic) close() { _ = t.producer.Close() }

func (t *traffic) madeSoFar() int { return int(t.shown.Load()) }

// skip passes over activities that an earlier run has made.
func (t *traffic) skip(n int) {
	for range n {
		t.text = t.generator.AppendNext(t.text[:0])
	}
	t.drawn += n
}

// keep counts activities in a file before they are made, so that a run that goes on
// makes none a second time, however the one before has ended. Without the file, as many
// were made as stored.
func (t *traffic) keep(path string, stored int) error {
	text, err := os.ReadFile(path)
	switch {
	case err == nil:
		if stored, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	t.skip(stored)
	t.kept = path
	return nil
}

func (t *traffic) note() error {
	if t.kept == "" {
		return nil
	}
	if err := os.WriteFile(t.kept+".tmp", fmt.Appendln(nil, t.drawn), 0o644); err != nil {
		return err
	}
	return os.Rename(t.kept+".tmp", t.kept)
}

// produce makes n activities and stores them.
func (t *traffic) produce(ctx context.Context, n int) error {
	const atOnce = 2000
	for n > 0 && ctx.Err() == nil {
		t.outputs, t.text = t.outputs[:0], t.text[:0]
		for range min(n, atOnce) {
			start := len(t.text)
			t.text = t.generator.AppendNext(t.text)
			value := t.text[start:len(t.text):len(t.text)]
			start = len(t.text)
			t.text = append(t.text, t.generator.Key()...)
			t.outputs = append(t.outputs, pipeline.Output{
				Topic: devTopics.Activities, Key: t.text[start:len(t.text):len(t.text)], Value: value, Time: t.generator.Time(),
			})
		}
		t.drawn += len(t.outputs)
		if err := t.note(); err != nil {
			return fmt.Errorf("make activities: %w", err)
		}
		// Once begun it is finished: what is made is exact.
		if err := t.producer.Produce(context.WithoutCancel(ctx), t.outputs); err != nil {
			return fmt.Errorf("make activities: %w", err)
		}
		t.made += len(t.outputs)
		t.shown.Store(int64(t.made))
		n -= len(t.outputs)
	}
	return nil
}

// run makes activities at a rate per second, until there are goal of them (never,
// if goal is negative) or ctx is done.
func (t *traffic) run(ctx context.Context, goal int, rate float64) error {
	if goal >= 0 && t.made >= goal {
		return nil
	}
	const beat = 20 * time.Millisecond
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	start, before := time.Now(), t.made
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		// By the clock, not by the beat: a late beat is made up for.
		due := before + int(time.Since(start).Seconds()*rate) - t.made
		if goal >= 0 {
			due = min(due, goal-t.made)
		}
		if err := t.produce(ctx, due); err != nil {
			return err
		}
		if goal >= 0 && t.made >= goal {
			return nil
		}
	}
}
