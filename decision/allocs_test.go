package decision

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The hot path allocates nothing, over the nastiest datafile and many users.
func TestNoAllocations(t *testing.T) {
	ps := &projects{folder: vectorFolder}
	p := ps.get(t, "g30.json")
	vectors := corpusUsers(t, 500)
	in := inputs(vectors)
	ctx := t.Context()

	var u User
	decisions := make([]Decision, 0, p.NumFlags())
	impressions := make([]Impression, 0, 2*p.NumFlags())
	visitors := make([]byte, 0, 1<<20)
	keys := []string{p.FlagKey(3), p.FlagKey(1), "no such flag", p.FlagKey(3), p.FlagKey(59)}
	perUser := func() { // every user's slices have grown, and what is kept is made
		for i := range in {
			in[i].setUp(&u, p)
			decisions = p.DecideAll(ctx, decisions[:0], &u, 0, nil)
			impressions = AppendImpressions(impressions[:0], decisions)
			visitors = visitors[:0]
			for k := range impressions {
				visitors = impressions[k].AppendVisitor(visitors, &u, testUUID, 1)
			}
		}
	}
	perUser()
	require.NotEmpty(t, impressions)
	require.Less(t, len(visitors), 1<<20)

	env := &Env{}
	i := 0
	next := func() *input { i++; return &in[i%len(in)] }
	for name, f := range map[string]func(){
		"user": func() { next().setUp(&u, p) },
		"Decide": func() {
			next().setUp(&u, p)
			d := p.Decide(ctx, &u, p.flags[i%len(p.flags)].key, 0, nil)
			sink = d.Enabled()
			sink = d.VariablesJSON() == ""
		},
		"Decide, options": func() {
			next().setUp(&u, p)
			d := p.Decide(ctx, &u, p.flags[i%len(p.flags)].key, EnabledFlagsOnly|ExcludeVariables|DisableDecisionEvent, env)
			sink = d.Enabled()
		},
		"DecideAll": func() {
			next().setUp(&u, p)
			decisions = p.DecideAll(ctx, decisions[:0], &u, 0, nil)
		},
		"impressions": func() {
			next().setUp(&u, p)
			decisions = p.DecideAll(ctx, decisions[:0], &u, 0, nil)
			impressions = AppendImpressions(impressions[:0], decisions)
			visitors = visitors[:0]
			for k := range impressions {
				visitors = impressions[k].AppendVisitor(visitors, &u, testUUID, 1)
			}
		},
		"forced": func() {
			next().setUp(&u, p)
			u.SetForcedDecision(p.flags[0].key, "", "nope")
			u.SetForcedDecision(p.flags[1].key, "rule", "nope")
			decisions = p.DecideAll(ctx, decisions[:0], &u, 0, nil)
		},
	} {
		require.Zero(t, testing.AllocsPerRun(2*len(in), f), name)
	}
	known := keys[:2]
	require.Zero(t, testing.AllocsPerRun(len(in), func() {
		next().setUp(&u, p)
		decisions = p.DecideKeys(ctx, decisions[:0], &u, known, 0, nil)
	}), "DecideKeys")
	require.LessOrEqual(t, testing.AllocsPerRun(len(in), func() {
		next().setUp(&u, p)
		decisions = p.DecideKeys(ctx, decisions[:0], &u, keys, 0, nil)
	}), 2.0, "an unknown key costs its reason")
}
