package cmab

import (
	"context"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/decision"
)

type pair = decision.PredictionAttribute

func goldList() []pair {
	return []pair{{ID: "501", Value: gold["tier"]}, {ID: "502", Value: gold["age"]}}
}

func hashOf(list []pair) Hash {
	var a attributes
	a.read(list)
	return a.hash()
}

// textOf is what is hashed.
func textOf(list ...pair) string {
	var a attributes
	a.read(list)
	a.hash()
	return string(a.text)
}

func TestHash(t *testing.T) { // CM-12, and hashlib.md5(json.dumps(x, sort_keys=True)) of Python 3
	assert.Equal(t, `{"501": "gold", "502": 31}`, textOf(goldList()...))
	assert.Equal(t, "e81485bc0886db24ea2171fad5dddc57", hashOf(goldList()).String())
	assert.Equal(t, "99914b932bd37a50b983c5e7c90ae93b", hashOf(nil).String())
	nasty := []pair{
		{ID: "9", Value: decision.Float(9007199254740992)},
		{ID: "501", Value: decision.String("gö😀\x7f\n\u2028<")},
		{ID: "502", Value: decision.Number("3.5e-7")},
		{ID: "503", Value: decision.Bool(true)},
		{ID: "7", Value: decision.Float(math.Copysign(0, -1))},
		{ID: "8", Value: decision.Number("1e15")},
	}
	assert.Equal(t, `{"501": "g\u00f6\ud83d\ude00\u007f\n\u2028<", "502": 3.5e-07, "503": true, "7": -0.0, "8": 1000000000000000.0, "9": 9007199254740992.0}`, textOf(nasty...))
	reversed := []pair{goldList()[1], goldList()[0]}
	assert.Equal(t, hashOf(goldList()), hashOf(reversed), "order does not matter")
}

func TestHashedText(t *testing.T) {
	for want, v := range map[string]decision.Value{
		`31`:                   decision.Int(31),
		`31.0`:                 decision.Float(31),
		`0`:                    decision.Number("-0"),
		`-0.0`:                 decision.Number("-0.0"),
		`3.1`:                  decision.Number("3.10"),
		`100.0`:                decision.Number("1e2"),
		`0.0001`:               decision.Number("0.0001"),
		`1e-05`:                decision.Number("0.00001"),
		`9007199254740992`:     decision.Number("9007199254740992"),
		`-9007199254740992`:    decision.Int(-1 << 53),
		`false`:                decision.Bool(false),
		`"\b\f\u0001\"\\\\/"`:  decision.String("\b\f\x01\"\\\\/"),
		`""`:                   decision.String(""),
		`"\ufffd"`:             decision.String("\xff"),
		`"\u00e9\u4e2d\uffff"`: decision.String("é中\uffff"),
	} {
		assert.Equal(t, `{"1": `+want+`}`, textOf(pair{ID: "1", Value: v}))
	}
	assert.Equal(t, `{"\u00e9": 1}`, textOf(pair{ID: "é", Value: decision.Int(1)}))
	assert.Equal(t, `{"1": 1}`, textOf(pair{ID: "1", Value: decision.Int(1)}, pair{ID: "1", Value: decision.Int(1)}))
}

func TestTypesTheServiceCantTake(t *testing.T) { // CM-P4
	dropped := map[string]decision.Value{
		"null": decision.Null(), "list": decision.Composite(`[1]`), "object": decision.Composite(`{"a":1}`),
		"NaN": decision.Float(math.NaN()), "infinite": decision.Float(math.Inf(-1)), "large": decision.Number("9007199254740993"),
		"very large": decision.Number("123456789012345678901234567890"), "large float": decision.Number("9.1e15"), "beyond": decision.Number("1e999"),
		"small": decision.Number("-9007199254740993"),
	}
	for name, v := range dropped {
		var a attributes
		assert.Equal(t, 1, a.read([]pair{{ID: "1", Value: v}, {ID: "2", Value: decision.Int(2)}}), name)
		require.Len(t, a.list, 1, name)
		assert.Equal(t, "2", a.list[0].id)
	}
	p := start(t, nil, variation("50012"))
	p.gets("reco_b", "u1", values{"tier": decision.Null(), "age": decision.Composite(`[1]`)})
	assert.Contains(t, p.service.all()[0].body, `"attributes":[],`)
	p.gets("reco_b", "u1", nil)
	p.posted(1) // dropped before hashing
	assert.Equal(t, uint64(2), p.Stats().DroppedTypes)
}

func TestBodyKeepsLiterals(t *testing.T) {
	p := start(t, nil, variation("50012"))
	p.gets("reco_b", "né\"w\n", values{"tier": decision.String("g\"ö\\"), "age": decision.Number("3.10")})
	sent := p.service.all()[0]
	assert.Contains(t, sent.body, `{"id":"501","value":"g\"ö\\","type":"custom_attribute"},{"id":"502","value":3.10,"type":"custom_attribute"}`)
	assert.True(t, json.Valid([]byte(sent.body)))
	assert.Equal(t, "né\"w\n", sent.Instances[0].VisitorID)
	assert.Equal(t, "30002", sent.Instances[0].ExperimentID)
}

// A stream derives the uuid from the record, so that a repeat is the same.
func TestUUIDOfOnesOwn(t *testing.T) {
	type coordinates struct{}
	p := start(t, func(c *Config) {
		c.NewUUID = func(ctx context.Context, q *decision.PredictionQuery) string {
			return ctx.Value(coordinates{}).(string) + "/" + q.RuleID
		}
	}, reply{status: 500}, variation("50012"))
	ctx := context.WithValue(t.Context(), coordinates{}, "activities/3/1042")
	_, uuid := p.decideWith(ctx, "u1", gold)
	assert.Equal(t, "activities/3/1042/30002", uuid)
	for _, sent := range p.service.all() {
		assert.Equal(t, uuid, sent.Instances[0].UUID)
	}
}

func TestConfigValidation(t *testing.T) {
	c := DefaultConfig()
	require.NoError(t, c.Validate())
	for want, change := range map[string]func(*Config){
		"{} or %s once":         func(c *Config) { c.Endpoint = "http://h/predict" },
		"or %s once, where":     func(c *Config) { c.Endpoint = "http://h/{}/%s" },
		"absolute http":         func(c *Config) { c.Endpoint = "/predict/{}" },
		"attempt timeout":       func(c *Config) { c.AttemptTimeout = 0 },
		"number of retries":     func(c *Config) { c.MaxRetries = -1 },
		"waits between":         func(c *Config) { c.InitialBackoff = -1 },
		"between attempts may":  func(c *Config) { c.MaxBackoff = -1 },
		"multiplier":            func(c *Config) { c.Multiplier = math.NaN() },
		"multiplier must be at": func(c *Config) { c.Multiplier = 0.5 },
		"budget":                func(c *Config) { c.Budget = -1 },
	} {
		c := DefaultConfig()
		change(&c)
		_, err := New(c)
		require.ErrorContains(t, err, want)
	}
	bad := Config{}
	require.ErrorContains(t, bad.Validate(), "attempt timeout")
	require.ErrorContains(t, bad.Validate(), "multiplier") // all faults at once
}

func TestEndpoint(t *testing.T) { // {} of Python, %s of the others
	for endpoint, want := range map[string]string{
		"http://h/predict/{}": "http://h/predict/a%2Fb", "https://h/p/%s/x?y=1": "https://h/p/a%2Fb/x?y=1", "http://{}.h/": "http://a%2Fb.h/",
	} {
		before, after, err := splitEndpoint(endpoint)
		require.NoError(t, err)
		assert.Equal(t, want, before+"a%2Fb"+after)
	}
	p := start(t, func(c *Config) { c.Endpoint = strings.Replace(c.Endpoint, "{}", "%s/now", 1) }, variation("50012"))
	p.gets("reco_b", "u1", gold)
	assert.Equal(t, "/predict/30002/now", p.service.all()[0].path)
}
