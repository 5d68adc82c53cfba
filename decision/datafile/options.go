package datafile

import (
	"fmt"
	"io"
	"log/slog"

	"sortition/decision"
)

// DefaultMaxSize is the largest datafile read when [Options.MaxSize] is 0: 64 MiB.
const DefaultMaxSize = 64 << 20

// Options are common to all sources. The zero value is ready for use.
type Options struct {
	// SkipSchemaValidation compiles without the schema step, as the SDKs'
	// skip_json_validation does.
	SkipSchemaValidation bool
	// MaxSize is the largest datafile accepted, in bytes after unpacking. 0 stands
	// for DefaultMaxSize. Source: config.md CF-P3.
	MaxSize int64
	// Archive receives every datafile before it comes into force; nil: none. When
	// writing fails, the datafile comes into force all the same, Status says so,
	// and writing is tried again at the next look at the origin.
	Archive *Archive
	// OnUpdate, if set, is called for every project that comes into force, the one
	// given to the constructor included, before the listeners. See [Source.Listen].
	OnUpdate func(Update)
	// Logger receives changes of state and failures; nil: nobody.
	Logger *slog.Logger
}

func (o Options) withDefaults() (Options, error) {
	if o.MaxSize < 0 {
		return o, fmt.Errorf("datafile options: MaxSize is %d; it is a number of bytes, 0 for the default", o.MaxSize)
	}
	if o.MaxSize == 0 {
		o.MaxSize = DefaultMaxSize
	}
	o.MaxSize = min(o.MaxSize, 1<<50) // so that adding to it is safe
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

func (o *Options) compile(text []byte) (*decision.Project, error) {
	if o.SkipSchemaValidation {
		return decision.Compile(text, decision.SkipSchemaValidation())
	}
	return decision.Compile(text)
}

// readLimited reads all of r, up to limit bytes.
func readLimited(r io.Reader, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("%w of %d bytes", ErrTooLarge, limit)
	}
	return text, nil
}
