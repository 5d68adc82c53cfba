package kafkago

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestProbe(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		small, missing := b.topic(t, 3, "max.message.bytes", "12345"), b.name(t, "missing")
		require.NoError(t, b.connection().Validate())
		p, err := b.connection().Probe(small, missing)
		require.NoError(t, err)
		defer p.Close()
		advertised, err := p.Broker(t.Context(), b.addrs[0])
		require.NoError(t, err)
		require.Equal(t, b.addrs, advertised)
		partitions, err := p.Topic(t.Context(), small)
		require.NoError(t, err)
		require.Equal(t, 3, partitions)
		size, err := p.MaxMessageBytes(t.Context(), small)
		require.NoError(t, err)
		require.EqualValues(t, 12345, size)
		coordinator, err := p.Coordinator(t.Context(), "probe")
		require.NoError(t, err)
		require.Contains(t, b.addrs, coordinator)

		// What is missing stays missing: nobody is asked to make it.
		for range 3 {
			_, err = p.Topic(t.Context(), missing)
			var isMissing *TopicMissingError
			require.ErrorAs(t, err, &isMissing)
			require.NoError(t, isMissing.Err)
		}
		_, err = p.MaxMessageBytes(t.Context(), missing)
		require.Error(t, err)
		_, err = p.Broker(t.Context(), "127.0.0.1:1")
		require.ErrorContains(t, err, "refused")
	})
}
