package sample_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/decision"
	"sortition/examples"
	"sortition/internal/sample"
	"sortition/schemas"
)

// The sample is judged by those it is made for.

func TestDatafilesCompile(t *testing.T) {
	for name, text := range map[string][]byte{
		"example": examples.Datafile(),
		"0":       sample.Datafile(1, 0),
		"3":       sample.Datafile(1, 3),
		"1000":    sample.Datafile(1, 1000),
	} {
		_, err := decision.Compile(text)
		require.NoError(t, err, name)
	}
}

func TestDecoderAgreesWithTheGenerator(t *testing.T) {
	opts := sample.DefaultOptions()
	opts.Bad = 100
	g := sample.NewGenerator(13, opts)
	var (
		decoder  schemas.Decoder
		activity schemas.Activity
		line     []byte
	)
	for i := range 20_000 {
		line = g.AppendNext(line[:0])
		err := decoder.Decode(line, &activity)
		if g.Reject() == "" {
			require.NoError(t, err, "record %d: %s", i, line)
			require.Equal(t, string(g.Key()), activity.UserID)
			assert.Zero(t, activity.Unknown)
			continue
		}
		var reject *schemas.Reject
		require.ErrorAs(t, err, &reject, "record %d is taken: %q", i, line)
		require.Equal(t, g.Reject(), string(reject.Code), "record %d: %q", i, line)
	}
}
