package cmab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"time"

	"sortition/decision"
)

// maxReply is more than any prediction, in bytes.
const maxReply = 1 << 20

// appendBody appends the request's JSON. Source: cmab.md CM-14, CM-15.
func (a *attributes) appendBody(dst []byte, q *decision.PredictionQuery, uuid string) []byte {
	dst = append(dst, `{"instances":[{"visitorId":`...)
	dst = decision.String(q.UserID).AppendJSON(dst)
	dst = append(dst, `,"experimentId":`...)
	dst = decision.String(q.RuleID).AppendJSON(dst)
	dst = append(dst, `,"attributes":[`...)
	for i, x := range a.list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"id":`...)
		dst = decision.String(x.id).AppendJSON(dst)
		dst = append(dst, `,"value":`...)
		dst = append(dst, a.sent[x.start:x.end]...)
		dst = append(dst, `,"type":"custom_attribute"}`...)
	}
	dst = append(dst, `],"cmabUUID":`...)
	dst = decision.String(uuid).AppendJSON(dst)
	return append(dst, `}]}`...)
}

// fetch asks the service, again if that can help and ctx leaves the time. All
// attempts send the same bytes. Source: cmab.md CM-8, CM-P6.
func (p *Predictor) fetch(ctx context.Context, q *decision.PredictionQuery, a *attributes) (decision.Prediction, error) {
	if ctx.Err() != nil {
		return decision.Prediction{}, fmt.Errorf("fetch prediction for rule %s: %w", q.RuleID, endOf(ctx))
	}
	uuid := p.config.NewUUID(ctx, q)
	// A body of its own: the transport may still be reading it when the answer is there.
	body := a.appendBody(nil, q, uuid)
	address := p.before + url.PathEscape(q.RuleID) + p.after
	for attempt := 1; ; attempt++ {
		p.counters.requests.Add(1)
		id, err := p.post(ctx, address, body)
		if err == nil {
			return decision.Prediction{VariationID: id, UUID: uuid}, nil
		}
		if ctx.Err() != nil {
			err = endOf(ctx)
		} else if attempt <= p.config.MaxRetries && isTransient(err) && p.pause(ctx, attempt) {
			p.counters.retries.Add(1)
			continue
		}
		return decision.Prediction{}, fmt.Errorf("fetch prediction for rule %s: attempt %d: %w", q.RuleID, attempt, err)
	}
}

// pause waits before the next attempt. False: ctx ends before that.
func (p *Predictor) pause(ctx context.Context, attempt int) bool {
	c := &p.config
	wait := time.Duration(min(float64(c.InitialBackoff)*math.Pow(c.Multiplier, float64(attempt-1)), float64(c.MaxBackoff)))
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= wait {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// post makes one attempt and returns the variation id.
func (p *Predictor) post(ctx context.Context, address string, body []byte) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, p.config.AttemptTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return "", withoutURL(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "sortition")
	response, err := p.client.Do(request)
	if err != nil {
		return "", withoutURL(err)
	}
	defer response.Body.Close()
	reply, err := io.ReadAll(io.LimitReader(response.Body, maxReply+1))
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return "", &StatusError{response.StatusCode} // whatever became of the body
	}
	if err != nil {
		return "", withoutURL(err)
	}
	if len(reply) > maxReply {
		return "", fmt.Errorf("%w: over %d bytes", ErrInvalidReply, maxReply)
	}
	return variationID(reply)
}

// variationID reads the first prediction of a reply. Names are compared exactly,
// which encoding/json does for maps only. Source: cmab.md CM-16, CM-P5.
func variationID(reply []byte) (string, error) {
	var root map[string]json.RawMessage
	if json.Unmarshal(reply, &root) != nil || root == nil {
		return "", fmt.Errorf("%w: not a JSON object", ErrInvalidReply)
	}
	var predictions []json.RawMessage
	if json.Unmarshal(root["predictions"], &predictions) != nil || len(predictions) == 0 {
		return "", fmt.Errorf("%w: no list of predictions", ErrInvalidReply)
	}
	var first map[string]json.RawMessage
	if json.Unmarshal(predictions[0], &first) != nil {
		return "", fmt.Errorf("%w: the prediction is not an object", ErrInvalidReply)
	}
	value, ok := first["variation_id"]
	var id string
	switch {
	case !ok:
		return "", fmt.Errorf("%w: no variation_id", ErrInvalidReply)
	case value[0] == '"':
		if json.Unmarshal(value, &id) != nil || id == "" {
			return "", fmt.Errorf("%w: variation_id is empty", ErrInvalidReply)
		}
		return id, nil
	case string(value) == "null":
		return "", fmt.Errorf("%w: variation_id is null", ErrInvalidReply)
	}
	return string(value), nil // a number; anything else names no variation
}
