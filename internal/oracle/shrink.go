package main

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"sortition/decision"
)

// maxTries bounds the shrinking of one case; a try costs some milliseconds.
const maxTries = 4000

// A shrinker takes parts of a case and its datafile away while the same part of
// the answers differs.
type shrinker struct {
	judge *judge
	part  string
	tries int
}

// shrink returns the smallest batch found, of one case, and its differences; nil ones
// if the case alone, with a fresh user, doesn't differ.
func shrink(s asker, datafile string, c testCase, part string) (*batch, []difference, error) {
	h := &shrinker{judge: &judge{sdk: s}, part: part}
	best := &batch{datafile, []testCase{c}}
	found, err := h.try(best)
	if err != nil || found == nil {
		return best, nil, err
	}
	for hasShrunk := true; hasShrunk && h.tries < maxTries; {
		hasShrunk = false
		for k := 0; h.tries < maxTries; {
			smaller, ok := smallerCase(best.Cases[0], k)
			if !ok {
				break
			}
			b := &batch{best.Datafile, []testCase{smaller}}
			d, err := h.try(b)
			switch {
			case err != nil:
				return nil, nil, err
			case d != nil:
				best, found, hasShrunk = b, d, true
			default:
				k++
			}
		}
		for k := 0; h.tries < maxTries; {
			smaller, ok, err := smallerDatafile(best.Datafile, k)
			if err != nil {
				return nil, nil, err
			}
			if !ok {
				break
			}
			b := &batch{smaller, best.Cases}
			d, err := h.try(b)
			switch {
			case err != nil:
				return nil, nil, err
			case d != nil:
				best, found, hasShrunk = b, d, true
			default:
				k++
			}
		}
	}
	return best, found, nil
}

// try returns the differences if the part still differs.
func (h *shrinker) try(b *batch) ([]difference, error) {
	h.tries++
	p, err := decision.Compile([]byte(b.Datafile))
	if err != nil {
		return nil, nil //nolint:nilerr // too much was taken away
	}
	h.judge.engine = engine{}
	verdicts, err := h.judge.judge(p, b)
	if errors.Is(err, errRefused) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, d := range verdicts[0].differences {
		if d.Part == h.part {
			return verdicts[0].differences, nil
		}
	}
	return nil, nil
}

// smallerCase returns the case without its k-th part; false if it has no more.
func smallerCase(c testCase, k int) (testCase, bool) {
	take := func(n int) (int, bool) { // the k-th of the next n parts
		if k < n {
			return k, true
		}
		k -= n
		return 0, false
	}
	if i, ok := take(len(c.Track)); ok {
		c.Track = slices.Delete(slices.Clone(c.Track), i, i+1)
		return c, true
	}
	if c.Call == callKeys {
		if i, ok := take(len(c.Keys)); ok {
			c.Keys = slices.Delete(slices.Clone(c.Keys), i, i+1)
			return c, true
		}
	}
	if c.Call != callNone {
		if _, ok := take(1); ok {
			c.Call, c.Keys = callNone, nil
			return c, true
		}
	}
	if i, ok := take(len(c.Options)); ok {
		c.Options = slices.Delete(slices.Clone(c.Options), i, i+1)
		return c, true
	}
	if i, ok := take(len(c.DefaultOptions)); ok {
		c.DefaultOptions = slices.Delete(slices.Clone(c.DefaultOptions), i, i+1)
		return c, true
	}
	if i, ok := take(len(c.ForcedDecisions)); ok {
		c.ForcedDecisions = slices.Delete(slices.Clone(c.ForcedDecisions), i, i+1)
		return c, true
	}
	if i, ok := take(len(c.ForcedVariations)); ok {
		c.ForcedVariations = slices.Delete(slices.Clone(c.ForcedVariations), i, i+1)
		return c, true
	}
	if i, ok := take(len(c.Attributes)); ok {
		keys := slices.Sorted(maps.Keys(c.Attributes))
		c.Attributes = maps.Clone(c.Attributes)
		delete(c.Attributes, keys[i])
		return c, true
	}
	if c.UserProfile != nil {
		if _, ok := take(1); ok {
			c.UserProfile = nil
			return c, true
		}
	}
	if i, ok := take(len(c.Predictions)); ok {
		keys := slices.Sorted(maps.Keys(c.Predictions))
		c.Predictions = maps.Clone(c.Predictions)
		delete(c.Predictions, keys[i])
		return c, true
	}
	if c.Segments != nil {
		if _, ok := take(1); ok {
			c.Segments = nil
			return c, true
		}
	}
	return c, false
}

// smallerDatafile returns the datafile without the k-th element of any of its
// arrays, outer ones first; false if there are no more.
func smallerDatafile(datafile string, k int) (string, bool, error) {
	root, err := tree([]byte(datafile))
	if err != nil {
		return "", false, err
	}
	if !removeElement(root, func(any) {}, &k) {
		return "", false, nil
	}
	raw, err := json.Marshal(root)
	return string(raw), true, err
}

// removeElement removes the k-th element below v; set replaces v in what holds it.
func removeElement(v any, set func(any), k *int) bool {
	switch v := v.(type) {
	case []any:
		if *k < len(v) {
			set(slices.Delete(v, *k, *k+1))
			return true
		}
		*k -= len(v)
		for i := range v {
			if removeElement(v[i], func(w any) { v[i] = w }, k) {
				return true
			}
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if removeElement(v[name], func(w any) { v[name] = w }, k) {
				return true
			}
		}
	}
	return false
}
