package sinks_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"sortition/decision"
	"sortition/examples"
	"sortition/sinks"
)

// BenchmarkBodies builds event bodies: from decided impressions to what a
// dispatcher is handed. One operation is one visitor; a body has ten.
func BenchmarkBodies(b *testing.B) {
	project, err := decision.Compile(examples.Datafile())
	require.NoError(b, err)
	var user decision.User
	user.Reset(project, "user-1")
	impressions := decision.AppendImpressions(nil, project.DecideAll(b.Context(), nil, &user, 0, nil))
	require.NotEmpty(b, impressions)
	client := decision.Client{Name: "sortition", Version: "1"}
	head := project.AppendBatchHead(nil, client)
	endpoint := project.EventEndpoint()

	var bodies, bytes int
	batcher, err := sinks.NewBatcher(sinks.BatcherOptions{
		Dispatch: func(_ context.Context, batch sinks.Batch) error {
			bodies++
			bytes += len(batch.Body)
			return nil
		},
		OnFailure: func(_ sinks.Batch, err error) { b.Error(err) },
	})
	require.NoError(b, err)
	done := make(chan error, 1) // 1: Run can end
	go func() { done <- batcher.Run(context.Background()) }()
	var visitor []byte
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		visitor = impressions[i%len(impressions)].AppendVisitor(visitor[:0], &user, "00000000-0000-4000-8000-000000000001", 1767225600123)
		if err := batcher.Add(b.Context(), sinks.Visitor{Endpoint: endpoint, Head: head, Body: visitor}); err != nil {
			b.Fatal(err)
		}
	}
	_, err = batcher.Close(context.Background())
	require.NoError(b, err)
	require.NoError(b, <-done)
	b.ReportMetric(float64(bodies)/b.Elapsed().Seconds(), "bodies/s")
	b.ReportMetric(float64(bytes)/float64(bodies), "B/body")
}

// BenchmarkOutboxAppend appends bodies of ten visitors. "parallel" has 16 callers
// a processor, "all" gives 64 at a time to AppendAll.
func BenchmarkOutboxAppend(b *testing.B) {
	batch := batchOf("http://logx.test/v1/events", 0, 10)
	sixtyFour := make([]sinks.Batch, 64)
	for i := range sixtyFour {
		sixtyFour[i] = batch
	}
	for name, policy := range map[string]sinks.SyncPolicy{"always": sinks.SyncAlways, "interval": sinks.SyncInterval} {
		for _, way := range []string{"alone", "parallel", "all"} {
			b.Run(fmt.Sprintf("%s/%s", name, way), func(b *testing.B) {
				o, err := sinks.OpenOutbox(b.TempDir(), sinks.OutboxOptions{Sync: policy, MaxBytes: 8 << 30})
				require.NoError(b, err)
				b.SetBytes(int64(len(batch.Body)))
				b.ReportAllocs()
				switch way {
				case "alone":
					for b.Loop() {
						if _, err := o.Append(b.Context(), batch); err != nil {
							b.Fatal(err)
						}
					}
				case "parallel":
					b.SetParallelism(16)
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							if _, err := o.Append(b.Context(), batch); err != nil {
								b.Error(err)
								return
							}
						}
					})
				case "all":
					for left := b.N; left > 0; left -= len(sixtyFour) {
						if _, err := o.AppendAll(b.Context(), sixtyFour[:min(left, len(sixtyFour))]); err != nil {
							b.Fatal(err)
						}
					}
				}
				b.StopTimer()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
				require.NoError(b, o.Close())
			})
		}
	}
}

// BenchmarkSplit halves a body of ten visitors.
func BenchmarkSplit(b *testing.B) {
	batch := batchOf("http://logx.test/v1/events", 0, 10)
	b.SetBytes(int64(len(batch.Body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, ok := batch.Split(); !ok {
			b.Fatal("not split")
		}
	}
}
