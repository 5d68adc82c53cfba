package schemas

import (
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
