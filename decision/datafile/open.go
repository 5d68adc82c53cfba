package datafile

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// Config says where the datafile comes from. The [Options] in Poll are those of
// whatever source is chosen.
type Config struct {
	Path   string        // a file
	Restat time.Duration // of the file; see [FileConfig]
	Poll   PollConfig    // SDK key, URL, or a datafile as bytes
}

// Open chooses the source:
//
//	Poll.SDKKey or Poll.URL   a Poller; Poll.Datafile, or what Path holds now, is used at once
//	Path                      a File
//	Poll.Datafile, or none    a Static
//
// Source: config.md section 1.
func Open(c Config) (Source, error) {
	if c.Path != "" && len(c.Poll.Datafile) > 0 {
		return nil, errors.New("datafile source: both a path and a datafile are given")
	}
	isPolled := c.Poll.SDKKey != "" || c.Poll.URL != ""
	switch {
	case isPolled && c.Path != "":
		f, err := os.Open(c.Path)
		if err != nil {
			return nil, fmt.Errorf("datafile source: %w", err)
		}
		defer f.Close()
		o, err := c.Poll.withDefaults()
		if err != nil {
			return nil, err
		}
		if c.Poll.Datafile, err = readLimited(f, o.MaxSize); err != nil {
			return nil, fmt.Errorf("datafile source: read %s: %w", c.Path, err)
		}
		return opened(NewPoller(c.Poll))
	case isPolled:
		return opened(NewPoller(c.Poll))
	case c.Poll.isAuthenticated():
		return nil, errors.New("datafile source: an access token needs an SDK key")
	case c.Path != "":
		return opened(NewFile(FileConfig{Path: c.Path, Restat: c.Restat, Options: c.Poll.Options}))
	default:
		return opened(NewStatic(c.Poll.Datafile, c.Poll.Options))
	}
}

// opened keeps a nil pointer from becoming a Source that isn't nil.
func opened[S Source](s S, err error) (Source, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}
