package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"sortition/decision"
	"sortition/internal/emulator"
	"sortition/internal/sample"
)

// devCloud is the local Optimizely cloud of `processor dev`: the stream's datafile
// comes from it, segments are asked of it, and events are delivered to it, all over
// HTTP. What it knows of the sample's visitors is the truth about them.
type devCloud struct {
	*emulator.Server
	key string // of the datafile
}

// devMaxIDs bounds the ids of events that are compared one by one.
const devMaxIDs = 50_000_000

// openDevCloud makes the cloud; nobody answers before Run.
func openDevCloud(datafile []byte, seed uint64, dir string) (*devCloud, error) {
	if dir != "" {
		dir = filepath.Join(dir, "cloud")
	}
	e, err := emulator.New(emulator.Options{Seed: seed, Dir: dir, MaxUUIDs: devMaxIDs})
	if err != nil {
		return nil, err
	}
	err = e.SeedDatafile("", datafile)
	if err == nil {
		users := map[string]emulator.Segments{}
		for id, segments := range sample.Truth(seed, sample.DefaultVisitors) {
			users[id] = emulator.Segments{Segments: segments}
		}
		err = e.SetUsers(users)
	}
	var server *emulator.Server
	if err == nil {
		server, err = emulator.Listen(e, "127.0.0.1:0")
	}
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return &devCloud{Server: server, key: e.SDKKey()}, nil
}

// served is the datafile that is served now.
func (c *devCloud) served() (*decision.Project, error) {
	raw, ok := c.Datafile(c.key)
	if !ok {
		return nil, errors.New("the emulator serves no datafile")
	}
	p, err := decision.Compile(raw)
	if err != nil {
		return nil, fmt.Errorf("the datafile the emulator serves: %w", err)
	}
	return p, nil
}
