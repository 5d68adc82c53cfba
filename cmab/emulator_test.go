package cmab

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/decision"
	"sortition/internal/emulator"
)

// The rows of cmab.md section 10 that need a service, against the emulator, which
// refuses every request that isn't exactly as section 4 has it.
func TestAgainstTheEmulator(t *testing.T) {
	em := emulator.Start(t, emulator.Options{Datafile: datafile(10000, `"501","502"`), SDKKey: "KEY"})
	require.NoError(t, em.SetPrediction("30002", "", "50012"))
	route := string(emulator.RoutePredict)
	p := start(t, func(c *Config) { c.Endpoint = em.URLs().Predict }, reply{})
	requests := func(n int) {
		t.Helper()
		all := em.Attempts(route)
		assert.Len(t, all, n)
		for _, a := range all {
			assert.Empty(t, a.Problems)
		}
	}
	uuid := p.gets("reco_b", "u1", gold) // rows 1 to 3
	assert.Equal(t, uuid, p.gets("reco_b", "u1", gold))
	p.gets("reco_b", "u1", values{"tier": decision.String("gold"), "age": decision.Int(31), "unlisted": decision.Int(1)})
	requests(1)
	p.gets("reco_b", "u1", values{"tier": decision.String("silver")})
	p.gets("reco_b", "u2", nil) // row 4
	requests(3)
	p.gets("reco_b", "u2", nil, decision.IgnoreCMABCache) // rows 5 to 7
	p.gets("reco_b", "u2", nil, decision.InvalidateUserCMABCache)
	p.gets("reco_b", "u2", nil, decision.ResetCMABCache)
	p.gets("reco_b", "u1", gold)
	requests(7)

	em.Script(route, 500) // row 8
	p.gets("reco_b", "u3", gold)
	requests(9)
	em.Script(route, 500, 500) // row 9
	d, _ := p.decide("u4", gold)
	assert.Equal(t, decision.CMABFetchFailed, d.Err())
	requests(11)
	_, err := em.AddFault(emulator.Fault{Route: route, BrokenJSON: true, Times: 1})
	require.NoError(t, err)
	_, err = p.ask(t, "u4", gold)
	require.ErrorIs(t, err, ErrInvalidReply)
	require.NoError(t, em.SetPrediction("30002", "u5", "999")) // row 10
	p.gets("off", "u5", gold)
	p.gets("reco_b", "listed", nil) // row 12
	requests(13)
}
