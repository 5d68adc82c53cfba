package pipeline

import (
	"context"
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
)

// The pauses between tries of a batch before it is nacked.
const (
	firstRetryPause = 100 * time.Millisecond
	maxRetryPause   = 2 * time.Second
)

// middleware is what every message passes on its way to its stage, outermost first:
//
//	Metrics ─▶ Retry ─▶ Recoverer ─▶ stage
//
// Metrics sees what the Subscriber sees: one message, one verdict, the pauses
// included. Retry is inside of it, so that tries aren't counted as messages, and
// outside of the Recoverer, so that it is told of a panic and can leave it alone.
// The Recoverer is the innermost: nothing of ours unwinds through Watermill.
func (p *Pipeline) middleware() []message.HandlerMiddleware {
	chain := []message.HandlerMiddleware{}
	if p.options.Metrics != nil {
		chain = append(chain, p.options.Metrics.middleware)
	}
	if p.options.Retries > 0 {
		chain = append(chain, middleware.Retry{
			MaxRetries: p.options.Retries, InitialInterval: firstRetryPause, MaxInterval: maxRetryPause,
			Multiplier: 2, RandomizationFactor: 0.2, ResetContextOnRetry: true,
			ShouldRetry: func(r middleware.RetryParams) bool { return isWorthRetrying(r.Err) },
		}.Middleware)
	}
	return append(chain, middleware.Recoverer)
}

// isWorthRetrying tells whether doing the same batch once more, right away, may help:
// not after a panic, which would come again, and not when the batch has been taken
// away or the program ends, when the next owner has to have it.
func isWorthRetrying(err error) bool {
	var panicked middleware.RecoveredPanicError
	return !errors.As(err, &panicked) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}
