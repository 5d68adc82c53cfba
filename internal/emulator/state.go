package emulator

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"sortition/sinks"
)

// state is what was set: datafiles, segments, predictions. With a path it is
// written there, whole, at each change.
type state struct {
	path string // "": memory only
	seed uint64
	now  func() time.Time

	mu          sync.RWMutex // guards what follows
	datafiles   map[string]*datafile
	keys        []string                     // of datafiles, in the order they came
	seeded      map[string]string            // digest of the datafile that a key was started with
	known       map[catalogOf]*sinks.Catalog // of all revisions that were served, the latest under revision ""
	users       map[string]Segments          // by user id
	rule        SegmentRule                  // for other users
	isRuleSet   bool
	predictions map[predictionKey]json.RawMessage // variation ids
}

type catalogOf struct{ projectID, revision string }

type predictionKey struct{ rule, user string } // user "": everybody

// stateFile is the state's form on disk.
type stateFile struct {
	Datafiles   []*datafile         `json:"datafiles"`
	Seeded      map[string]string   `json:"seeded"`
	Users       map[string]Segments `json:"users"`
	Rule        *SegmentRule        `json:"rule"` // null: the default
	Predictions []Prediction        `json:"predictions"`
}

// openState reads what an earlier process set, if dir isn't "".
func openState(dir string, seed uint64, now func() time.Time) (*state, error) {
	s := &state{
		seed: seed, now: now,
		datafiles: map[string]*datafile{}, seeded: map[string]string{}, known: map[catalogOf]*sinks.Catalog{},
		users: map[string]Segments{}, predictions: map[predictionKey]json.RawMessage{},
	}
	if seed != 0 {
		s.rule.Fraction = 0.5
	}
	if dir == "" {
		return s, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open the emulator's data: %w", err)
	}
	s.path = filepath.Join(dir, "state.json")
	text, err := os.ReadFile(s.path)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the emulator's data: %w", err)
	}
	file := stateFile{Seeded: s.seeded, Users: s.users}
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("read %s: %w", s.path, err)
	}
	for _, d := range file.Datafiles {
		d.read()
		s.put(d)
	}
	if file.Rule != nil {
		s.rule, s.isRuleSet = *file.Rule, true
	}
	for _, p := range file.Predictions {
		s.predictions[predictionKey{p.Rule, p.User}] = p.VariationID
	}
	return s, nil
}

// save writes the state; the lock is held.
func (s *state) save() error {
	if s.path == "" {
		return nil
	}
	file := stateFile{Seeded: s.seeded, Users: s.users, Predictions: s.listPredictions()}
	if s.isRuleSet {
		file.Rule = &s.rule
	}
	for _, key := range s.keys {
		file.Datafiles = append(file.Datafiles, s.datafiles[key])
	}
	text, err := json.Marshal(file)
	if err != nil {
		return fmt.Errorf("keep the state: %w", err)
	}
	tmp := s.path + ".tmp"
	if err := writeSynced(tmp, text); err != nil {
		return fmt.Errorf("keep the state: %w", err)
	}
	if err := os.Rename(tmp, s.path); err != nil {
		return fmt.Errorf("keep the state: %w", err)
	}
	return nil
}

func writeSynced(path string, text []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// seedDatafile sets the datafile that the process was started with, unless it is
// the one that an earlier process was started with too: what was set since stays.
func (s *state) seedDatafile(key string, raw []byte) error {
	if key == "" {
		var wire struct {
			SDKKey string `json:"sdkKey"`
		}
		_ = json.Unmarshal(raw, &wire) // broken text is served too, under the default key
		if key = wire.SDKKey; key == "" {
			key = "local"
		}
	}
	sum := sha256.Sum256(raw)
	digest := hex.EncodeToString(sum[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seeded[key] == digest && s.datafiles[key] != nil {
		return nil
	}
	s.seeded[key] = digest
	d := newDatafile(key, raw)
	s.stamp(d)
	s.put(d)
	return s.save()
}

func (s *state) setDatafile(d *datafile) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stamp(d)
	s.put(d)
	return s.save()
}

// stamp gives a datafile its time. HTTP's is in seconds, so two of the same second
// would look the same to a client that asks for what is newer.
func (s *state) stamp(d *datafile) {
	d.SetAt = s.now().UTC()
	if d.modified {
		return
	}
	t := d.SetAt.Truncate(time.Second)
	if before := s.datafiles[d.Key]; before != nil {
		if last, err := http.ParseTime(before.LastModified); err == nil && !t.After(last) {
			t = last.Add(time.Second)
		}
	}
	d.LastModified = t.Format(http.TimeFormat)
}

func (s *state) put(d *datafile) {
	if s.datafiles[d.Key] == nil {
		s.keys = append(s.keys, d.Key)
	}
	s.datafiles[d.Key] = d
	if c := d.catalog; c != nil {
		const maxKnown = 1000
		if len(s.known) >= maxKnown {
			clear(s.known)
		}
		s.known[catalogOf{c.ProjectID, c.Revision}] = c
		s.known[catalogOf{c.ProjectID, ""}] = c
	}
}

func (s *state) removeDatafile(key string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.datafiles[key] == nil {
		return false, nil
	}
	delete(s.datafiles, key)
	s.keys = slices.DeleteFunc(s.keys, func(k string) bool { return k == key })
	return true, s.save()
}

func (s *state) datafile(key string) *datafile {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.datafiles[key]
}

func (s *state) listDatafiles() []*datafile {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]*datafile, len(s.keys))
	for i, key := range s.keys {
		list[i] = s.datafiles[key]
	}
	return list
}

func (s *state) firstKey() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.keys) == 0 {
		return ""
	}
	return s.keys[0]
}

// catalog finds what events of a project may refer to: in the revision they were
// made with, or else in the latest. If no datafile is of that project, any other
// shows that they are misdirected.
func (s *state) catalog(projectID, revision string) *sinks.Catalog {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if c := s.known[catalogOf{projectID, revision}]; c != nil {
		return c
	}
	if c := s.known[catalogOf{projectID, ""}]; c != nil {
		return c
	}
	for _, key := range s.keys {
		if c := s.datafiles[key].catalog; c != nil {
			return c
		}
	}
	return nil
}

// acceptsODPKey tells whether a public key is one of the datafiles' integrations;
// if they name none, any key is.
func (s *state) acceptsODPKey(key string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	hasAny := false
	for _, d := range s.datafiles {
		if d.odpKey == key && key != "" {
			return true
		}
		hasAny = hasAny || d.odpKey != ""
	}
	return !hasAny && key != ""
}

func (s *state) listPredictions() []Prediction {
	list := make([]Prediction, 0, len(s.predictions))
	for key, id := range s.predictions {
		list = append(list, Prediction{key.rule, key.user, id})
	}
	slices.SortFunc(list, func(a, b Prediction) int {
		return slices.Compare([]string{a.Rule, a.User}, []string{b.Rule, b.User})
	})
	return list
}

// chance turns names into a number from 0 to 1 that depends on the seed only.
func (s *state) chance(names ...string) float64 {
	h := sha256.New()
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], s.seed)
	_, _ = h.Write(n[:]) // a hash takes everything
	for _, name := range names {
		binary.BigEndian.PutUint64(n[:], uint64(len(name)))
		_, _ = h.Write(n[:])
		_, _ = h.Write([]byte(name))
	}
	return float64(binary.BigEndian.Uint64(h.Sum(nil))>>11) / (1 << 53)
}

// segmentTable returns a copy of the table of users.
func (s *state) segmentTable() (map[string]Segments, SegmentRule) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return maps.Clone(s.users), s.rule
}
