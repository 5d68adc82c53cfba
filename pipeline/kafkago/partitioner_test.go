package kafkago

import (
	"math/rand/v2"
	"testing"

	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"
)

// Trap 20: kafka-go's default balancer ignores keys, its Hash is Sarama's.
//
// Source of the vectors: Apache Kafka, UtilsTest.testMurmur2.
func TestTrap20PartitionerAgreesWithJava(t *testing.T) {
	for key, want := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		require.Equal(t, want, int32(murmur2([]byte(key))), key)
	}
	// Java: Utils.toPositive(hash) % numPartitions.
	require.Equal(t, int(uint32(0xffffffff&(-973932308))&0x7fffffff)%12, keyPartition([]byte("21"), 12))

	java := kafka.Murmur2Balancer{}
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		key := make([]byte, r.IntN(40))
		for i := range key {
			key[i] = byte(r.Uint32())
		}
		n := 1 + r.IntN(50)
		partitions := make([]int, n)
		for i := range partitions {
			partitions[i] = i
		}
		require.Equal(t, java.Balance(kafka.Message{Key: key}, partitions...), keyPartition(key, n))
	}
}
