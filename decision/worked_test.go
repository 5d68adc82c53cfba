package decision

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// The worked example of decide.md section 12: testdata/worked.json is its
// datafile, the .ndjson files are its tables.

func TestWorkedBuckets(t *testing.T) {
	eachTestdataLine(t, "worked-buckets.ndjson", func(row map[string]string) {
		for salt, want := range row {
			if salt != "user" {
				require.Equal(t, want, json.Number(want).String())
				bucket, err := json.Number(want).Int64()
				require.NoError(t, err)
				require.EqualValues(t, bucket, Bucket(Hash(row["user"]+salt)), "user %s, salt %s", row["user"], salt)
			}
		}
	})
}

type workedRow struct {
	Row        int
	Flag, User string
	Attributes json.RawMessage
	Segments   []string
	Forced     [][3]*string
	Variation  *string
	Enabled    bool
	Rule       *string
	Variables  json.RawMessage
	Event      *struct {
		Experiment string  `json:"experiment_id"`
		Variation  *string `json:"variation_id"`
		Type       string  `json:"rule_type"`
	}
}

func (row *workedRow) user(t *testing.T, p *Project) *User {
	u := userOf(t, p, row.User, string(row.Attributes), row.Segments...)
	for _, f := range row.Forced {
		rule := ""
		if f[1] != nil {
			rule = *f[1]
		}
		u.SetForcedDecision(*f[0], rule, *f[2])
	}
	return u
}

func TestWorkedExample(t *testing.T) {
	p, err := Compile(readTestdata(t, "worked.json"))
	require.NoError(t, err)
	numRows := 0
	eachTestdataLine(t, "worked.ndjson", func(row workedRow) {
		numRows++
		u := row.user(t, p)
		d := p.Decide(context.Background(), u, row.Flag, 0, nil)
		name := func(s string, ok bool) *string {
			if !ok {
				return nil
			}
			return &s
		}
		require.Equal(t, row.Variation, name(d.VariationKey()), "row %d", row.Row)
		require.Equal(t, row.Rule, name(d.RuleKey()), "row %d", row.Row)
		require.Equal(t, row.Enabled, d.Enabled(), "row %d", row.Row)
		require.JSONEq(t, string(row.Variables), d.VariablesJSON(), "row %d", row.Row)

		events := AppendImpressions(nil, []Decision{d})
		if row.Event == nil {
			require.Empty(t, events, "row %d", row.Row)
			require.False(t, d.IsDispatched())
			return
		}
		require.Len(t, events, 1, "row %d", row.Row)
		require.True(t, d.IsDispatched())
		require.Equal(t, row.Event.Experiment, events[0].ExperimentID, "row %d", row.Row)
		require.Equal(t, row.Event.Type, events[0].RuleType.String(), "row %d", row.Row)
		variation := ""
		if row.Event.Variation != nil {
			variation = *row.Event.Variation
		}
		require.Equal(t, variation, events[0].VariationID, "row %d", row.Row)
	})
	require.Equal(t, 34, numRows)
}
