package kafkago

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

const (
	// metadataTTL is how long a stale leader may be believed. kafka-go refreshes
	// at a random moment before it has passed; its default of 6 s makes every
	// move of a leader a long hiccup.
	metadataTTL = 2 * time.Second
	// coordinatorTimeout bounds one call to the group coordinator.
	coordinatorTimeout = 5 * time.Second
)

// Connection says how to reach a cluster. One value serves every connection of
// a process, so that there is one place for addresses, TLS and credentials.
type Connection struct {
	// Brokers are the bootstrap addresses, host:port. At least one.
	Brokers []string
	// ClientID is the name brokers log and quota this client under. Default
	// "sortition".
	ClientID string
	// TLS: nil means plain text.
	TLS *TLS
	// SASL: nil means no authentication.
	SASL *SASL
	// DialTimeout bounds connecting, including TLS and authentication. Default
	// 5 s.
	DialTimeout time.Duration
	// Dial opens network connections. Default: [net.Dialer].
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// link is one owner's way to the cluster: a client for data and metadata, and a
// dialer for the group coordinator, both built from the same Connection.
type link struct {
	client    *kafka.Client
	transport *kafka.Transport
	dialer    *kafka.Dialer
	wire      *wire
}

// open prepares a link whose metadata is limited to topics. It dials nothing.
// requestTimeout bounds one request, answer included.
func (c Connection) open(topics []string, requestTimeout time.Duration) (*link, error) {
	var faults []error
	if len(c.Brokers) == 0 {
		faults = append(faults, errors.New("no broker address given"))
	}
	for _, b := range c.Brokers {
		if _, _, err := net.SplitHostPort(b); err != nil {
			faults = append(faults, fmt.Errorf("broker address %q: want host:port", b))
		}
	}
	tlsConfig, err := c.TLS.config()
	if err != nil {
		faults = append(faults, err)
	}
	mechanism, err := c.SASL.mechanism()
	if err != nil {
		faults = append(faults, err)
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("kafka connection: %w", errors.Join(faults...))
	}
	if c.ClientID == "" {
		c.ClientID = "sortition"
	}
	if c.DialTimeout == 0 {
		c.DialTimeout = 5 * time.Second
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext
	}
	w := &wire{dialNext: c.Dial, open: map[net.Conn]struct{}{}}
	t := &kafka.Transport{
		Dial:           w.dial,
		DialTimeout:    c.DialTimeout,
		MetadataTTL:    metadataTTL,
		MetadataTopics: topics,
		ClientID:       c.ClientID,
		TLS:            tlsConfig,
		SASL:           mechanism,
	}
	return &link{
		client: &kafka.Client{Addr: kafka.TCP(c.Brokers...), Transport: t, Timeout: requestTimeout},
		dialer: &kafka.Dialer{
			ClientID:      c.ClientID,
			DialFunc:      w.dial,
			Timeout:       c.DialTimeout,
			TLS:           tlsConfig,
			SASLMechanism: mechanism,
		},
		transport: t,
		wire:      w,
	}, nil
}

// leaders returns the broker that leads each partition of topic, from cached
// metadata. A partition that has no leader at present is left out.
func (l *link) leaders(ctx context.Context, topic string) (map[int32]int, error) {
	res, err := l.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return nil, fmt.Errorf("ask for leaders of %s: %w", topic, err)
	}
	leaders := map[int32]int{}
	for _, t := range res.Topics {
		for _, p := range t.Partitions {
			if p.Leader.Host != "" {
				leaders[int32(p.ID)] = p.Leader.ID
			}
		}
	}
	return leaders, nil
}

// close gives up all connections, also those still waiting for an answer.
func (l *link) close() {
	l.transport.CloseIdleConnections()
	l.wire.cut()
}

// wire remembers the open connections of a link, so that a deadline of ours can
// end calls of kafka-go that heed no context (joining and leaving a group).
type wire struct {
	dialNext func(ctx context.Context, network, address string) (net.Conn, error)

	mu      sync.Mutex // guards the fields below
	open    map[net.Conn]struct{}
	severed bool
}

func (w *wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	severed := w.severed
	w.mu.Unlock()
	if severed {
		return nil, net.ErrClosed
	}
	c, err := w.dialNext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	tracked := &wireConn{Conn: c, wire: w}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.severed {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	w.open[tracked] = struct{}{}
	return tracked, nil
}

// cut closes every connection and refuses new ones.
func (w *wire) cut() {
	w.mu.Lock()
	w.severed = true
	open := w.open
	w.open = map[net.Conn]struct{}{}
	w.mu.Unlock()
	for c := range open {
		_ = c.Close()
	}
}

type wireConn struct {
	net.Conn
	wire *wire
}

func (c *wireConn) Close() error {
	c.wire.mu.Lock()
	delete(c.wire.open, c)
	c.wire.mu.Unlock()
	return c.Conn.Close()
}
