package cmab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"

	"sortition/decision"
)

// A Predictor asks the prediction service. It is safe for concurrent use.
type Predictor struct {
	config        Config
	before, after string // of the rule id in the address
	client        *http.Client
	isOwnClient   bool
	cache         Cache
	isLocal       bool // the cache is in memory: it needs no budget
	flights       flights
	counters      counters
}

var _ decision.Predictor = (*Predictor)(nil)

// New checks the configuration. It connects to nothing; Close it all the same.
func New(c Config) (*Predictor, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	p := &Predictor{config: c, cache: c.Cache}
	p.before, p.after, _ = splitEndpoint(c.Endpoint)
	if p.cache == nil {
		p.cache = NewLRU(c.CacheSize, c.CacheTTL)
	}
	_, p.isLocal = p.cache.(*LRU)
	if p.config.NewUUID == nil {
		p.config.NewUUID = newUUID
	}
	client := http.Client{}
	if c.Client != nil {
		client = *c.Client // a copy: the original goes on following redirects
	} else {
		client.Transport = &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute,
			// A service without HTTP/2 takes one connection for each request under way, and
			// those beyond this number would be made anew for every batch of a stream.
			MaxIdleConnsPerHost: 256,
		}
		p.isOwnClient = true
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	p.client = &client
	return p, nil
}

// Close drops the connections kept for further requests. It doesn't wait for
// predictions under way; they are their callers'.
func (p *Predictor) Close() {
	if p.isOwnClient {
		p.client.CloseIdleConnections()
	}
}

// Predict returns the variation of q's rule for q's user, from the cache if it
// may, and the uuid of the request it comes from. An id may be one the rule
// doesn't have; that is the service's answer, and isn't cached. With a ctx that has
// ended already the cache alone answers, and is reset or invalidated as q says.
//
// The error wraps [ErrBudget], [ErrInvalidReply], a [*StatusError], what the
// network said, or why ctx ended. Source: cmab.md sections 3 to 6.
func (p *Predictor) Predict(ctx context.Context, q *decision.PredictionQuery) (decision.Prediction, error) {
	p.counters.calls.Add(1)
	a := attributePool.Get().(*attributes) //nolint:errcheck // the pool holds nothing else
	defer a.free()
	p.counters.droppedType.Add(uint64(a.read(q.Attributes)))
	c := call{p: p, q: q, a: a, key: Key{p.config.Scope, q.UserID, q.RuleID}, hash: a.hash()}
	isFresh := q.Options&(decision.IgnoreCMABCache|decision.ResetCMABCache|decision.InvalidateUserCMABCache) != 0
	if p.isLocal && !isFresh {
		if e, ok := c.lookup(ctx); ok {
			p.counters.hits.Add(1)
			return e, nil
		}
	}
	caller := ctx
	if p.config.Budget > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, p.config.Budget, ErrBudget)
		defer cancel()
	}
	answer, how, err := c.predict(ctx)
	if err != nil {
		p.counters.failed(err, caller.Err() != nil)
		return decision.Prediction{}, err
	}
	how.Add(1)
	return answer, nil
}

// newUUID is a random UUID of version 4, as RFC 9562 has it.
func newUUID(context.Context, *decision.PredictionQuery) string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // it never fails; the program would have ended
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	text := hex.EncodeToString(id[:])
	return fmt.Sprintf("%s-%s-%s-%s-%s", text[:8], text[8:12], text[12:16], text[16:20], text[20:])
}
