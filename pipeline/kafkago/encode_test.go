package kafkago

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/stretchr/testify/require"

	"sortition/pipeline"
)

// encodingSamples are outputs of every shape.
func encodingSamples(t testing.TB) map[string][]pipeline.Output {
	at := time.UnixMilli(1_790_000_000_123).UTC()
	random := make([]byte, 3<<20)
	_, _ = rand.Read(random) // never fails
	var many []pipeline.Output
	for i := range 3000 {
		many = append(many, pipeline.Output{
			Key: fmt.Appendf(nil, "user-%d", i%17), Time: at.Add(time.Duration(i%7-3) * time.Second),
			Value: fmt.Appendf(nil, `{"id":"%08x","decisions":[{"flag_key":"checkout","enabled":true,"variation_key":"treatment"}],"n":%d}`, i*2654435761, i),
			Headers: []pipeline.Header{
				{Key: "sortition-id", Value: fmt.Appendf(nil, "%032d", i)}, {Key: "", Value: nil}, {Key: "empty", Value: []byte{}},
			},
		})
	}
	return map[string][]pipeline.Output{
		"one": {{Key: []byte("k"), Value: []byte("v"), Time: at}},
		"nothing in it": {
			{Time: at}, {Key: []byte{}, Value: []byte{}, Time: at}, {Value: []byte{0}, Time: at}, {Key: []byte{0}, Time: at},
		},
		"many":               many,
		"not compressible":   {{Value: random[:1<<20], Time: at}, {Value: random[1<<20:], Time: at}, {Value: []byte("end"), Time: at}},
		"larger than blocks": {{Value: bytes.Repeat([]byte("lottery "), 1<<18), Time: at}, {Value: random[:10], Time: at.Add(time.Hour)}},
	}
}

func encoded(t testing.TB, name string, outputs []pipeline.Output) []byte {
	var compression kafka.Compression
	if name != "none" {
		require.NoError(t, compression.UnmarshalText([]byte(name)))
	}
	k, err := newCodec(compression)
	require.NoError(t, err)
	b := k.take()
	for range 2 { // also when used again
		b.reset(time.Now())
		for i := range outputs {
			b.add(&outputs[i])
		}
		_, err = b.finish()
		require.NoError(t, err)
	}
	return b.out
}

// kafkaRecords shows outputs to kafka-go's own encoder.
func kafkaRecords(outputs []pipeline.Output) protocol.RecordReader {
	records := make([]protocol.Record, len(outputs))
	for i, o := range outputs {
		records[i] = protocol.Record{Time: o.Time, Key: kafka.NewBytes(o.Key), Value: kafka.NewBytes(o.Value)}
		for _, h := range o.Headers {
			records[i].Headers = append(records[i].Headers, protocol.Header{Key: h.Key, Value: h.Value})
		}
	}
	return protocol.NewRecordReader(records...)
}

// Uncompressed batches are byte for byte those of kafka-go.
func TestBatchesAreThoseOfKafkaGo(t *testing.T) {
	for name, outputs := range encodingSamples(t) {
		t.Run(name, func(t *testing.T) {
			var want bytes.Buffer
			_, err := (&protocol.RecordSet{Version: 2, Records: kafkaRecords(outputs)}).WriteTo(&want)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want.Bytes(), encoded(t, "none", outputs)))
		})
	}
}

// Every codec gives back what went in, checksum and all, to a decoder that isn't ours.
func TestCompressedBatchesReadBack(t *testing.T) {
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		for name, outputs := range encodingSamples(t) {
			t.Run(codec+"/"+name, func(t *testing.T) {
				var set protocol.RecordSet
				raw := encoded(t, codec, outputs)
				_, err := set.ReadFrom(bytes.NewReader(raw))
				require.NoError(t, err)
				if codec != "none" {
					require.Equal(t, codec, set.Attributes.Compression().String())
				}
				for i, o := range outputs {
					r, err := set.Records.ReadRecord()
					require.NoError(t, err, "record %d", i)
					require.Equal(t, int64(i), r.Offset)
					require.Equal(t, o.Time, r.Time.UTC())
					for _, field := range []struct {
						want []byte
						got  protocol.Bytes
					}{{o.Key, r.Key}, {o.Value, r.Value}} {
						got, err := protocol.ReadAll(field.got)
						require.NoError(t, err)
						require.True(t, bytes.Equal(field.want, got) && (field.want == nil) == (got == nil), "record %d", i)
					}
					require.Len(t, r.Headers, len(o.Headers))
					for k, h := range o.Headers {
						require.Equal(t, h.Key, r.Headers[k].Key)
						require.True(t, bytes.Equal(h.Value, r.Headers[k].Value))
					}
				}
				_, err = set.Records.ReadRecord()
				require.ErrorIs(t, err, io.EOF)
			})
		}
	}
}

// An output without a time gets the moment of the request.
func TestBatchFillsInTheTime(t *testing.T) {
	before := time.Now().Truncate(time.Millisecond)
	var set protocol.RecordSet
	_, err := set.ReadFrom(bytes.NewReader(encoded(t, "none", []pipeline.Output{{Value: []byte("v")}})))
	require.NoError(t, err)
	r, err := set.Records.ReadRecord()
	require.NoError(t, err)
	require.False(t, r.Time.Before(before) || r.Time.After(time.Now()))
}

// BenchmarkEncode holds the encoder against kafka-go's.
func BenchmarkEncode(b *testing.B) {
	outputs := encodingSamples(b)["many"]
	for _, codec := range []string{"none", "lz4", "zstd"} {
		var compression kafka.Compression
		if codec != "none" {
			require.NoError(b, compression.UnmarshalText([]byte(codec)))
		}
		b.Run(codec+"/ours", func(b *testing.B) {
			k, err := newCodec(compression)
			require.NoError(b, err)
			b.ReportAllocs()
			size := 0
			for b.Loop() {
				r := k.take()
				for i := range outputs {
					r.add(&outputs[i])
				}
				raw, err := r.finish()
				if err != nil {
					b.Fatal(err)
				}
				size = len(raw)
				k.giveBack(r)
			}
			b.ReportMetric(float64(size), "encoded-B")
		})
		b.Run(codec+"/kafka-go", func(b *testing.B) {
			b.ReportAllocs()
			var w bytes.Buffer
			for b.Loop() {
				w.Reset()
				set := protocol.RecordSet{Version: 2, Attributes: protocol.Attributes(compression), Records: kafkaRecords(outputs)}
				if _, err := set.WriteTo(&w); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(w.Len()), "encoded-B")
		})
	}
}
