package main

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sortition/internal/kafkatest"
)

func TestTraffic(t *testing.T) {
	onBrokers(t, func(t *testing.T, addrs []string) {
		topic := fmt.Sprintf("traffic-%d", time.Now().UnixNano())
		require.NoError(t, kafkatest.CreateTopic(t.Context(), addrs, kafkatest.Topic{Name: topic, Partitions: 2}))
		start := time.Now()
		c := startProcessor(t, "generate", "traffic", "--brokers", addrs[0], "--topic", topic, "-n", "300", "--rate", "1000")
		require.NoError(t, c.wait(t), c.output.String())
		require.GreaterOrEqual(t, time.Since(start), 300*time.Millisecond, "at the rate")
		rig := &killRig{addrs: addrs}
		records := rig.read(t, topic)
		require.Len(t, records, 300)
		for _, r := range records {
			require.WithinDuration(t, start, r.Time, patience)
		}

		// Until somebody wants the end, which is no failure.
		c = startProcessor(t, "generate", "traffic", "--brokers", addrs[0], "--topic", topic, "--rate", "5000")
		require.Eventually(t, func() bool { return len(rig.read(t, topic)) > 400 }, patience, 20*time.Millisecond)
		require.NoError(t, c.Process.Signal(syscall.SIGTERM))
		require.NoError(t, c.wait(t), c.output.String())
	})
}
