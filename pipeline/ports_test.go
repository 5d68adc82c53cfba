package pipeline

import (
	"context"
	"errors"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
)

func TestBatchOfCarriedBatch(t *testing.T) {
	b := &Batch{Topic: "activities", Partition: 3, Records: []Record{{Offset: 7}, {Offset: 9}}}
	msg := message.NewMessage("m", nil)
	msg.SetContext(WithBatch(context.Background(), b))

	got, carried := BatchOf(msg)
	require.True(t, carried)
	require.Same(t, b, got)
}

func TestBatchOfPlainMessage(t *testing.T) {
	msg := message.NewMessage("uuid-1", []byte(`{"user_id":"u"}`))
	msg.Metadata.Set("trace", "t1")

	got, carried := BatchOf(msg)
	require.False(t, carried)
	require.Equal(t, &Batch{
		Partition: -1,
		ID:        "uuid-1",
		Records:   []Record{{Value: []byte(`{"user_id":"u"}`), Headers: []Header{{Key: "trace", Value: []byte("t1")}}}},
	}, got)
}

func TestProduceErrorTellsCausesAndPermanence(t *testing.T) {
	tooLarge, down := errors.New("too large"), errors.New("broker down")
	mixed := &ProduceError{Failed: []FailedOutput{
		{Index: 1, Permanent: true, Err: tooLarge}, {Index: 4, Err: down}, {Index: 5, Err: down},
	}}
	require.ErrorIs(t, mixed, tooLarge)
	require.ErrorIs(t, mixed, down)
	require.Len(t, mixed.Unwrap(), 2)
	require.False(t, mixed.Permanent())
	require.Equal(t, "produce: 3 outputs not stored (1 of them permanently refused): too large", mixed.Error())

	require.True(t, (&ProduceError{Failed: mixed.Failed[:1]}).Permanent())
}
