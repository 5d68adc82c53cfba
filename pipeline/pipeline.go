package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// ErrEnded is returned by Run when a subscription ended although nobody asked it
// to. The Subscriber knows why.
var ErrEnded = errors.New("the subscription ended by itself")

// A Stage works on the messages of one topic: [Assign] or [Deliver].
type Stage interface {
	// Name is the name of the stage's handler: "assign", "deliver-events" or
	// "deliver-odp".
	Name() string
	// Topic is what the stage reads.
	Topic() string
	// Handle works through one message; nil means that everything made of it is
	// stored. It is called for several messages at once.
	Handle(msg *message.Message) error

	underWay() int64 // calls of Handle that have not returned
}

// A Leg is a stage and the Subscriber that feeds it. Each leg has a Subscriber, and
// with Kafka a consumer group, of its own: a rebalance or an outage of one leaves the
// others alone.
type Leg struct {
	Stage Stage
	From  message.Subscriber
}

// Options of a [Pipeline].
type Options struct {
	// CloseTimeout is how long Run waits for handlers once its context is done.
	// More than the Subscribers' own drain timeouts. Default 25 s.
	CloseTimeout time.Duration
	// Retries is how often a batch whose storing failed is tried again before it is
	// nacked. Default 2; less than 0: never.
	Retries int
	// Metrics measures the handlers; nil: nobody looks.
	Metrics *Metrics
	// Logger gets changes of state and failures, nothing per record; nil discards.
	Logger *slog.Logger
}

// A Pipeline runs stages side by side on one Watermill router. The package comment
// says what it promises.
type Pipeline struct {
	options Options
	legs    []Leg
}

// New puts legs together. It starts nothing and takes over nothing: who made the
// Subscribers closes them, after Run has returned.
func New(o Options, legs ...Leg) (*Pipeline, error) {
	if o.CloseTimeout == 0 {
		o.CloseTimeout = 25 * time.Second
	}
	if o.Retries == 0 {
		o.Retries = 2
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	var faults []error
	if o.CloseTimeout < 0 {
		faults = append(faults, fmt.Errorf("CloseTimeout %s is negative", o.CloseTimeout))
	}
	if len(legs) == 0 {
		faults = append(faults, errors.New("no stage to run"))
	}
	for i := range legs {
		for k := range i {
			if legs[k].Stage.Name() == legs[i].Stage.Name() {
				faults = append(faults, fmt.Errorf("stage %s is there twice", legs[i].Stage.Name()))
			}
		}
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("pipeline: %w", errors.Join(faults...))
	}
	return &Pipeline{options: o, legs: legs}, nil
}

// Run works until ctx is done, then finishes what is in flight: the Subscribers
// stop fetching, wait for the acks, and end the messages' own contexts when their
// drain timeout is over. nil means that ctx ended it; [ErrEnded] that a Subscriber
// did, and so the other stages were stopped too; another error that a topic could
// not be subscribed to, or that handlers were still running after CloseTimeout. It
// can be called once.
func (p *Pipeline) Run(ctx context.Context) error {
	subscription, stop := context.WithCancel(ctx)
	defer stop()
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: p.options.CloseTimeout}, routerLog{p.options.Logger})
	if err != nil {
		return fmt.Errorf("start stream: %w", err)
	}
	router.AddMiddleware(p.middleware()...)
	// Subscribing before the router starts, because a router whose Subscribe fails
	// leaves a goroutine behind that waits for its handlers for ever.
	feeds := make([]<-chan *message.Message, len(p.legs))
	for i, leg := range p.legs {
		if feeds[i], err = leg.From.Subscribe(subscription, leg.Stage.Topic()); err != nil {
			stop()
			for _, feed := range feeds[:i] {
				for msg := range feed { // until it is closed; who waits for an ack needn't
					msg.Nack()
				}
			}
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("start stage %s: %w", leg.Stage.Name(), err)
		}
	}
	var (
		watchers sync.WaitGroup
		mu       sync.Mutex // guards ended
		ended    string     // the first stage that ended by itself
	)
	routed := make(chan struct{}) // closed when the router has ended
	for i, leg := range p.legs {
		h := router.AddConsumerHandler(leg.Stage.Name(), leg.Stage.Topic(), &subscribed{feeds[i], stop}, leg.Stage.Handle)
		watchers.Go(func() {
			// The channel behind Stopped exists only once the router runs.
			select {
			case <-router.Running():
			case <-routed:
				if !router.IsRunning() {
					return // it never has
				}
			}
			<-h.Stopped()
			mu.Lock()
			defer mu.Unlock()
			if subscription.Err() == nil {
				ended = leg.Stage.Name()
				stop()
			}
		})
	}
	// The router's context is not ctx: the end of ctx reaches it as the end of the
	// messages, when the last of them is done.
	err = router.Run(context.WithoutCancel(ctx))
	close(routed)
	if err != nil {
		return fmt.Errorf("run stream: %w", err)
	}
	for _, leg := range p.legs {
		if n := leg.Stage.underWay(); n > 0 {
			return fmt.Errorf("run stream: stage %s was still working on %d batches %s after the end", leg.Stage.Name(), n, p.options.CloseTimeout)
		}
	}
	watchers.Wait()
	if ended != "" {
		return fmt.Errorf("stage %s: %w", ended, ErrEnded)
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
