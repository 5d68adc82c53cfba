package kafkago

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"sortition/internal/kafkatest"
	"sortition/pipeline"
)

// The environment that makes the test binary a member of a group: brokers, group
// and topic.
const memberEnv = "SORTITION_TEST_MEMBER"

// shortSession is for tests that wait for a session to time out.
func shortSession(c *SubscriberConfig) {
	c.SessionTimeout, c.RebalanceTimeout = 1500*time.Millisecond, 1500*time.Millisecond
	c.HeartbeatInterval = 100 * time.Millisecond
	c.CommitInterval, c.MaxWait = 10*time.Millisecond, 100*time.Millisecond
	c.MaxBatchRecords = 10
}

// runMember reads a topic as told on stdin: "ack" acks the batch in flight, "free"
// all that follow; the end of stdin closes it. It prints "batch PARTITION FIRST
// NEXT" for each batch, "joined N" for each generation, and "closed".
func runMember(spec string) error {
	part := strings.Split(spec, " ")
	cfg := SubscriberConfig{Connection: Connection{Brokers: strings.Split(part[0], ",")}, Group: part[1], DrainTimeout: time.Second,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	shortSession(&cfg)
	s, err := NewSubscriber(cfg)
	if err != nil {
		return err
	}
	messages, err := s.Subscribe(context.Background(), part[2])
	if err != nil {
		return err
	}
	acks := make(chan struct{}, 1) // capacity 1: one batch is in flight
	var free atomic.Bool
	go func() {
		for m := range messages {
			b, _ := pipeline.BatchOf(m)
			fmt.Println("batch", b.Partition, b.Records[0].Offset, b.Records[len(b.Records)-1].Offset+1)
			if !free.Load() {
				<-acks
			}
			m.Ack()
		}
	}()
	go func() {
		for said := uint64(0); ; time.Sleep(5 * time.Millisecond) {
			if now := s.Stats().Generations; now != said {
				said = now
				fmt.Println("joined", now)
			}
		}
	}()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if in.Text() == "free" {
			free.Store(true)
		}
		acks <- struct{}{}
	}
	if err := s.Close(); err != nil {
		return err
	}
	fmt.Println("closed")
	return nil
}

// member is a subscriber in a process of its own.
type member struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string
}

func (b *broker) member(t *testing.T, group, topic string) *member {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	m := &member{t: t, cmd: exec.Command(self), lines: make(chan string, 1000)} // capacity: more than a test's lines
	m.cmd.Env = append(os.Environ(), memberEnv+"="+strings.Join(b.addrs, ",")+" "+group+" "+topic)
	if os.Getenv("SORTITION_TEST_LOG") != "" {
		m.cmd.Stderr = os.Stderr
	}
	m.stdin, err = m.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := m.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, m.cmd.Start())
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(m.lines)
		for in := bufio.NewScanner(out); in.Scan(); {
			m.lines <- in.Text()
		}
	}()
	t.Cleanup(func() {
		_ = m.cmd.Process.Kill()
		<-done
		_ = m.cmd.Wait()
	})
	return m
}

// expect waits for a line that begins so, and returns it.
func (m *member) expect(prefix string) string {
	m.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case line, ok := <-m.lines:
			require.True(m.t, ok, "the member ended; waited for %q", prefix)
			if strings.HasPrefix(line, prefix) {
				return line
			}
		case <-deadline:
			require.FailNow(m.t, "the member does not say "+prefix)
		}
	}
}

func (m *member) say(line string) {
	m.t.Helper()
	_, err := io.WriteString(m.stdin, line+"\n")
	require.NoError(m.t, err)
}

func (m *member) signal(s syscall.Signal) {
	m.t.Helper()
	require.NoError(m.t, m.cmd.Process.Signal(s))
}

// Traps 1 and 5: a process that is stopped for longer than the session timeout, as
// a paused machine is, wakes up with a batch in flight whose partition has long
// been somebody else's. Its ack must commit nothing; it must join again, and work.
func TestTrap01StoppedMemberCommitsNothingItLost(t *testing.T) {
	test := func(t *testing.T, b *broker) {
		const n = 100
		topic, group := b.topic(t, 1), b.name(t, "group")
		b.seed(t, topic, n, 5)
		stopped := b.member(t, group, topic)
		require.Equal(t, "batch 0 0 10", stopped.expect("batch"))
		stopped.signal(syscall.SIGSTOP)

		// The other one gets the partition when the session is over, not before.
		other := b.subscriber(t, group, shortSession)
		messages := subscribe(t, other, topic)
		require.Len(t, collect(t, messages, n), n, "from the beginning: nothing was committed")
		eventually(t, "the other member has committed all", func() bool { return b.committed(t, group, topic, 1)[0] == n })

		stopped.signal(syscall.SIGCONT)
		stopped.say("ack") // and this one is late
		stopped.expect("joined 2")
		b.seed(t, topic, n, 5)
		taken := collectFor(t, messages, 300*time.Millisecond)
		require.NoError(t, other.Close())
		at := b.committed(t, group, topic, 1)[0]
		require.GreaterOrEqual(t, at, int64(n), "the late ack has not moved the offset back")
		require.EqualValues(t, n+taken, at)

		// It does not hang: with the other one gone it goes on where that one ended.
		stopped.say("free")
		b.seed(t, topic, 10, 5)
		first := ""
		if at < 2*n+10 {
			first = stopped.expect(fmt.Sprintf("batch 0 %d ", at))
		}
		eventually(t, "the woken member commits what it is given", func() bool { return b.committed(t, group, topic, 1)[0] == 2*n+10 })
		require.NotEmpty(t, first)
		require.NoError(t, stopped.stdin.Close())
		stopped.expect("closed")
	}
	t.Run("kfake", func(t *testing.T) { test(t, fakeBroker(t, kfake.GroupMinSessionTimeout(time.Second))) })
	t.Run("kafka", func(t *testing.T) { test(t, &broker{addrs: kafkatest.Real(t)}) })
}

// collectFor acks what comes until nothing has come for quiet, and returns the
// number of records.
func collectFor(t *testing.T, messages <-chan *message.Message, quiet time.Duration) int {
	t.Helper()
	n := 0
	for {
		select {
		case m, ok := <-messages:
			if !ok {
				return n
			}
			n += len(batchOf(t, m).Records)
			m.Ack()
		case <-time.After(quiet):
			return n
		}
	}
}
