package sample

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What activities say of their user's segments is the truth, and some say nothing.
func TestActivitiesTellTheTruth(t *testing.T) {
	truth := map[string][]string{}
	for id, segments := range Truth(5, DefaultVisitors) {
		truth[id] = segments
	}
	require.Len(t, truth, int(DefaultVisitors), "ids are unique")
	all := Segments()
	options := DefaultOptions()
	options.Bad = 0
	g := NewGenerator(5, options)
	told, silent := 0, 0
	for range 3000 {
		var a struct {
			UserID   string `json:"user_id"`
			Segments *[]string
		}
		require.NoError(t, json.Unmarshal(g.AppendNext(nil), &a))
		want, isKnown := truth[a.UserID]
		require.True(t, isKnown, "a visitor of the population")
		assert.Subset(t, all, want)
		if a.Segments == nil {
			silent++
			continue
		}
		told++
		assert.ElementsMatch(t, want, *a.Segments)
	}
	assert.Greater(t, told, 1500)
	assert.Greater(t, silent, 300, "ODP has something to say")
}
