package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
)

// HandlerName is the name of the router's handler.
const HandlerName = "assign"

// ErrEnded is returned by Run when the subscription ended although nobody asked it
// to. The Subscriber knows why.
var ErrEnded = errors.New("the subscription ended by itself")

// A Pipeline is the stream from an activities topic to a topic of decisions, one
// of events and one of dead letters. The package comment says what it promises.
type Pipeline struct {
	cfg        Config
	subscriber message.Subscriber
	handler    *handler
	logger     *slog.Logger
}

// New checks cfg. It starts nothing and takes over nothing: who made the Subscriber
// and the Units closes them, after Run has returned. The logger gets changes of
// state and failures, nothing per record; nil discards them.
func New(cfg Config, from message.Subscriber, units Units, snapshots SnapshotSource, logger *slog.Logger) (*Pipeline, error) {
	cfg.setDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("pipeline: %w", err)
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	p := &Pipeline{cfg: cfg, subscriber: from, logger: logger}
	p.handler = newHandler(&p.cfg, units, snapshots, logger)
	return p, nil
}

// Stats returns the totals so far. Safe for concurrent use.
func (p *Pipeline) Stats() Stats { return p.handler.counters.stats() }

// Run works until ctx is done, then finishes what is in flight: the Subscriber
// stops fetching, waits for the acks, and ends the messages' own contexts when its
// drain timeout is over. nil means that ctx ended it, ErrEnded that the
// Subscriber did; another error that the topic could not be subscribed to, or that
// handlers were still running after CloseTimeout. It can be called once.
func (p *Pipeline) Run(ctx context.Context) error {
	subscription, stop := context.WithCancel(ctx)
	defer stop()
	// Subscribing before the router starts, because a router whose Subscribe fails
	// leaves a goroutine behind that waits for its handlers for ever.
	messages, err := p.subscriber.Subscribe(subscription, p.cfg.Topics.Activities)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("start stream: %w", err)
	}
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: p.cfg.CloseTimeout}, routerLog{p.logger})
	if err != nil {
		return fmt.Errorf("start stream: %w", err)
	}
	router.AddMiddleware(middleware.Recoverer) // the first one is the outermost
	router.AddConsumerHandler(HandlerName, p.cfg.Topics.Activities, &subscribed{messages, stop}, p.handler.handle)
	// The router's context is not ctx: the end of ctx reaches it as the end of the
	// messages, when the last of them is done.
	if err := router.Run(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("run stream: %w", err)
	}
	if n := p.handler.running.Load(); n > 0 {
		return fmt.Errorf("run stream: %d batches were still being worked on %s after the end", n, p.cfg.CloseTimeout)
	}
	if ctx.Err() == nil {
		return ErrEnded
	}
	return nil
}

// subscribed hands out a subscription that exists already.
type subscribed struct {
	messages <-chan *message.Message
	stop     context.CancelFunc
}

func (s *subscribed) Subscribe(context.Context, string) (<-chan *message.Message, error) {
	return s.messages, nil
}

func (s *subscribed) Close() error {
	s.stop()
	return nil
}
