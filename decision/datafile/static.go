package datafile

import (
	"bytes"
	"context"
	"time"
)

// A Static source holds one datafile, or none, and never changes.
type Static struct{ *feed }

// NewStatic compiles a datafile given as bytes, which are copied. An invalid one
// is a [*decision.DatafileError]. Without any (nil or empty) the source is valid
// but never ready. Source: config.md section 1.
func NewStatic(text []byte, o Options) (*Static, error) {
	f, err := newFeed(o)
	if err != nil {
		return nil, err
	}
	s := &Static{f}
	if len(text) == 0 {
		return s, nil
	}
	if _, err := f.install(bytes.Clone(text), OriginGiven, time.Now(), true); err != nil {
		return nil, err
	}
	return s, nil
}

// Run waits for the end of ctx: there is nothing to do.
func (s *Static) Run(ctx context.Context) error {
	if err := s.start(); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
