package client

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"sortition/cmab"
	"sortition/decision"
)

// cmabSettings are the settings of contextual bandits. Source: cmab.md sections 3, 4.
type cmabSettings struct {
	config    cmab.Config
	predictor decision.Predictor
}

// WithCMABPredictionEndpoint sets the address of the prediction service, with {} or
// %s where the rule id belongs. Source: config.md section 6, cmab.md section 4.
func WithCMABPredictionEndpoint(template string) Option {
	return func(s *settings) { s.cmab.config.Endpoint = template }
}

// WithCMABCacheSize sets how many predictions are kept. Default 10,000; 0 or less:
// none. Source: cmab.md section 3.1.
func WithCMABCacheSize(predictions int) Option {
	return func(s *settings) { s.cmab.config.CacheSize = predictions }
}

// WithCMABCacheTTL sets how long a prediction is given again. Default 30 minutes; 0
// or less: for ever. Source: cmab.md section 3.1.
func WithCMABCacheTTL(ttl time.Duration) Option {
	return func(s *settings) { s.cmab.config.CacheTTL = ttl }
}

// WithCMABCache keeps predictions in a cache of one's own; size and TTL are then
// ignored. Source: cmab.md section 3.1.
func WithCMABCache(cache cmab.Cache) Option { return func(s *settings) { s.cmab.config.Cache = cache } }

// WithCMABConfig sets everything about predictions at once: timeouts, retries and
// the time budget too. Begin with [cmab.DefaultConfig].
func WithCMABConfig(config cmab.Config) Option { return func(s *settings) { s.cmab.config = config } }

// WithPredictor answers for contextual bandits in place of the prediction service:
// the SDKs' own cmab_service. Source: config.md section 1.
func WithPredictor(p decision.Predictor) Option { return func(s *settings) { s.cmab.predictor = p } }

func (c *Client) openPredictor() error {
	s := &c.settings.cmab
	if s.predictor != nil {
		c.env.Predictor = reportedPredictor{s.predictor, c}
		return nil
	}
	if s.config.Client == nil && c.settings.transport != nil {
		s.config.Client = &http.Client{Transport: c.settings.transport}
	}
	p, err := cmab.New(s.config)
	if err != nil {
		return err
	}
	c.env.Predictor, c.closePredictor = reportedPredictor{p, c}, p.Close
	return nil
}

// reportedPredictor tells the error handler why a prediction failed; the decision
// says only that it did.
type reportedPredictor struct {
	predictor decision.Predictor
	client    *Client
}

// Predict asks the predictor.
func (r reportedPredictor) Predict(ctx context.Context, q *decision.PredictionQuery) (decision.Prediction, error) {
	p, err := r.predictor.Predict(ctx, q)
	if err != nil {
		r.client.fail(fmt.Errorf("predict for rule %s: %w", q.RuleID, err))
	}
	return p, err
}
