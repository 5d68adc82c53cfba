package datafile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// The timing of [FileConfig], and what stands for 0.
const (
	DefaultSettle = 50 * time.Millisecond
	DefaultRestat = 10 * time.Second
)

// FileConfig says which file a [File] watches.
type FileConfig struct {
	// Path of the datafile. Any part of it may be a symbolic link, and be exchanged.
	Path string
	// Settle is how long the folder must be quiet before the file is read, so that
	// a file being written isn't read half. 0 stands for DefaultSettle.
	Settle time.Duration
	// Restat is how often the file is looked at without having been told of a
	// change: network file systems tell nothing. 0 stands for DefaultRestat.
	Restat time.Duration
	Options
}

// A File watches a datafile. Replaced by renaming, rewritten in place, swapped by
// way of a symbolic link as Kubernetes does with a ConfigMap, removed and created
// again: the new content is installed, if it is valid and has another revision.
// While the file is missing or broken, the project in force stays.
type File struct {
	*feed
	path           string
	settle, restat time.Duration

	// What Run looked at last; only Run uses them.
	seen     fs.FileInfo
	hasSeen  bool
	broken   string          // digest of the last text that was no datafile
	steps    map[string]bool // paths whose change can matter
	watched  map[string]bool // folders being watched
	notifier *fsnotify.Watcher
}

// NewFile makes a source of the file; it isn't read before Run.
func NewFile(c FileConfig) (*File, error) {
	var faults []error
	if c.Path == "" {
		faults = append(faults, errors.New("datafile source: the file's path is missing"))
	}
	if c.Settle < 0 || c.Restat < 0 {
		faults = append(faults, errors.New("datafile source: Settle and Restat may not be negative"))
	}
	f, err := newFeed(c.Options)
	if err = errors.Join(append(faults, err)...); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(c.Path)
	if err != nil {
		return nil, fmt.Errorf("datafile source: %w", err)
	}
	s := &File{feed: f, path: path, settle: c.Settle, restat: c.Restat, watched: map[string]bool{}}
	if s.settle == 0 {
		s.settle = DefaultSettle
	}
	if s.restat == 0 {
		s.restat = DefaultRestat
	}
	return s, nil
}

// Run reads the file, and again whenever it changes, until ctx is done. If the
// system refuses to tell of changes, looking from time to time is what remains.
func (s *File) Run(ctx context.Context) error {
	if err := s.start(); err != nil {
		return err
	}
	var events chan fsnotify.Event // both nil, so never ready, without a notifier
	var failures chan error
	notifier, err := fsnotify.NewWatcher()
	if err != nil {
		s.options.Logger.Warn("cannot watch the datafile; looking from time to time", slog.Duration("every", s.restat), slog.Any("error", err))
	} else {
		s.notifier = notifier
		events, failures = notifier.Events, notifier.Errors
		defer notifier.Close()
	}
	// Watching begins before reading: what changes in between is told.
	s.watch()
	s.look(true)

	settled := time.NewTimer(s.settle)
	settled.Stop()
	defer settled.Stop()
	restat := time.NewTicker(s.restat)
	defer restat.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case event := <-events:
			if s.steps[event.Name] { // others share the folder
				settled.Reset(s.settle)
			}
		case err := <-failures:
			// Most likely events were lost, so look.
			s.options.Logger.Warn("watching the datafile failed", slog.Any("error", err))
			settled.Reset(s.settle)
		case <-settled.C:
			s.watch()
			s.look(true)
		case <-restat.C:
			s.watch()
			s.look(false)
		}
	}
}

// look reads the file and installs it; without force only if it is another file
// than before, or was written to. A file that is as bad as before isn't news.
func (s *File) look(force bool) {
	info, err := os.Stat(s.path)
	if err == nil && !force && s.hasSeen && isSame(s.seen, info) {
		return
	}
	if err != nil && !s.hasSeen && s.Status().Err != nil {
		return // still missing
	}
	s.seen, s.hasSeen = info, err == nil
	var text []byte
	if err == nil {
		text, err = s.read()
	}
	if err == nil {
		digest := digestOf(text)
		if digest == s.broken {
			return
		}
		if _, err = s.install(text, OriginFile, time.Now(), false); err != nil {
			s.broken = digest
		} else {
			s.broken = ""
		}
	}
	if err != nil {
		err = fmt.Errorf("read datafile from %s: %w", s.path, err)
	}
	s.attempted(0, err)
}

func isSame(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

func (s *File) read() ([]byte, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLimited(f, s.options.MaxSize)
}

// watch makes the notifier watch the folders the path leads through now.
func (s *File) watch() {
	if s.notifier == nil {
		return
	}
	s.steps = stepsOf(s.path)
	wanted := map[string]bool{}
	for step := range s.steps {
		wanted[filepath.Dir(step)] = true
	}
	for dir := range s.watched {
		if !wanted[dir] {
			_ = s.notifier.Remove(dir) // it may be gone, and the watch with it
			delete(s.watched, dir)
		}
	}
	for dir := range wanted {
		// Added again although watched already: a folder removed and made anew has
		// lost its watch silently. The notifier knows those it has.
		if err := s.notifier.Add(dir); err != nil && !s.watched[dir] && !errors.Is(err, fs.ErrNotExist) {
			s.options.Logger.Warn("cannot watch the datafile's folder; looking from time to time",
				slog.String("folder", dir), slog.Duration("every", s.restat), slog.Any("error", err))
		} else if err != nil {
			continue
		}
		s.watched[dir] = true
	}
}
