package schemas

import (
	"bytes"
	"encoding/json"
	"testing"
)

// sampleActivity is what the floors are measured on: about 220 bytes, five
// attributes.
var sampleActivity = []byte(`{"user_id":"user-0048213","id":"evt-9f27c1","timestamp":1790000000000,` +
	`"attributes":{"plan":"gold","age":31,"beta":true,"country":"DE","app_version":"4.12.1"},` +
	`"segments":["vip","newsletter"],"decide":["checkout"]}`)

// stdActivity is what a program without this package would unmarshal into.
type stdActivity struct {
	UserID     string         `json:"user_id"`
	ID         string         `json:"id"`
	Timestamp  int64          `json:"timestamp"`
	Attributes map[string]any `json:"attributes"`
	Segments   []string       `json:"segments"`
	Decide     []string       `json:"decide"`
}

func BenchmarkDecode(b *testing.B) {
	b.Run("ours", func(b *testing.B) {
		var d Decoder
		var a Activity
		b.SetBytes(int64(len(sampleActivity)))
		b.ReportAllocs()
		for b.Loop() {
			if err := d.Decode(sampleActivity, &a); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.SetBytes(int64(len(sampleActivity)))
		b.ReportAllocs()
		for b.Loop() {
			var a stdActivity
			if err := json.Unmarshal(sampleActivity, &a); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// stdRecord is what a program without this package would marshal.
type stdRecord struct {
	ID         string         `json:"id"`
	ActivityID string         `json:"activity_id"`
	UserID     string         `json:"user_id"`
	Timestamp  int64          `json:"timestamp"`
	Revision   string         `json:"revision"`
	Datafile   string         `json:"datafile"`
	Source     map[string]any `json:"source"`
	Segments   []string       `json:"segments"`
	Decisions  []stdDecision  `json:"decisions"`
}

type stdDecision struct {
	FlagKey      string          `json:"flag_key"`
	Enabled      bool            `json:"enabled"`
	VariationKey *string         `json:"variation_key"`
	RuleKey      *string         `json:"rule_key"`
	RuleType     *string         `json:"rule_type"`
	ExperimentID *string         `json:"experiment_id"`
	VariationID  *string         `json:"variation_id"`
	Variables    json.RawMessage `json:"variables"`
	Reasons      []Reason        `json:"reasons"`
}

func BenchmarkEncode(b *testing.B) {
	r := sampleRecord()
	r.Decisions = r.Decisions[:1]
	r.Context = nil
	var dst []byte
	b.Run("fields", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			dst = r.AppendJSON(dst[:0])
		}
		b.SetBytes(int64(len(dst)))
	})
	b.Run("fragment", func(b *testing.B) {
		r := *r
		r.Decisions = append([]FlagDecision(nil), r.Decisions...)
		r.Decisions[0].Fragment = AppendFlagDecision(nil, &r.Decisions[0])
		b.ReportAllocs()
		for b.Loop() {
			dst = r.AppendJSON(dst[:0])
		}
		b.SetBytes(int64(len(dst)))
	})
	b.Run("csv", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			dst = r.AppendCSV(dst[:0], 0)
		}
		b.SetBytes(int64(len(dst)))
	})
	b.Run("encoding-json", func(b *testing.B) {
		f := &r.Decisions[0]
		std := stdRecord{
			ID: r.ID, ActivityID: r.ActivityID, UserID: r.UserID, Timestamp: r.Timestamp, Revision: r.Revision, Datafile: r.Datafile,
			Source: map[string]any{"topic": "activities", "partition": 3, "offset": 1042}, Segments: r.Segments,
			Decisions: []stdDecision{{
				FlagKey: f.FlagKey, Enabled: f.Enabled, VariationKey: &f.VariationKey, RuleKey: &f.RuleKey, RuleType: &f.RuleType,
				ExperimentID: &f.ExperimentID, VariationID: &f.VariationID, Variables: json.RawMessage(f.Variables), Reasons: []Reason{},
			}},
		}
		b.ReportAllocs()
		for b.Loop() {
			text, err := json.Marshal(std)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(text)))
		}
	})
}

// What looking for a CloudEvent costs a record that is none.
func BenchmarkDecodeEvent(b *testing.B) {
	traced := headersOf("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate: a=b")
	for _, row := range []struct {
		name    string
		headers []Header
	}{{"no-headers", nil}, {"trace", traced}, {"binary", binaryMode}} {
		b.Run(row.name, func(b *testing.B) {
			var d Decoder
			var a Activity
			b.SetBytes(int64(len(sampleActivity)))
			b.ReportAllocs()
			for b.Loop() {
				if err := d.DecodeEvent(row.headers, sampleActivity, nil, &a); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPeek is what a stage that looks at all records first pays for it.
func BenchmarkPeek(b *testing.B) {
	for name, record := range map[string][]byte{
		"given":   sampleActivity,
		"without": bytes.Replace(sampleActivity, []byte(`"segments":["vip","newsletter"],`), nil, 1),
		"escapes": bytes.Replace(sampleActivity, []byte(`"segments":["vip","newsletter"]`), []byte(`"context":"\u0041"`), 1),
	} {
		b.Run(name, func(b *testing.B) {
			var d Decoder
			var p Peek
			b.SetBytes(int64(len(record)))
			b.ReportAllocs()
			for b.Loop() {
				if !d.Peek(nil, record, nil, "", &p) {
					b.Fatal("nothing was told")
				}
			}
		})
	}
}
