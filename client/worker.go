package client

import (
	"sortition/decision"
)

// installed is a project with what every event of it shares.
type installed struct {
	project  *decision.Project
	head     []byte
	endpoint string
}

// configuration is the configuration of the moment, nil while there is none. It
// never waits. One call uses one configuration throughout. Source: decide.md
// DC-P1, config.md CF-20, CF-P4.
func (c *Client) configuration() *installed {
	p := c.source.Current()
	if p == nil {
		return nil
	}
	if in := c.installed.Load(); in != nil && in.project == p {
		return in
	}
	in := &installed{project: p, head: p.AppendBatchHead(nil, c.settings.identity), endpoint: c.settings.events.endpoint}
	if in.endpoint == "" {
		in.endpoint = p.EventEndpoint()
	}
	c.installed.Store(in)
	return in
}

// A worker is what one call needs; workers are pooled, so that a decision doesn't
// pay for setting up.
type worker struct {
	user        decision.User
	decisions   []decision.Decision
	impressions []decision.Impression
	events      []UserEvent
	text        []byte // of the events' visitors
	ends        []int  // of each in text
	uuids       uuidSource
}

func (c *Client) worker() *worker {
	if w, ok := c.workers.Get().(*worker); ok {
		return w
	}
	return &worker{}
}

// release gives a worker back. One that has grown very large is not kept.
func (c *Client) release(w *worker) {
	const maxText = 1 << 20
	if cap(w.text) > maxText {
		return
	}
	clear(w.decisions)
	clear(w.events)
	w.events = w.events[:0]
	c.workers.Put(w)
}

// startEvents forgets the events of the call before.
func (w *worker) startEvents() { w.events, w.text, w.ends = w.events[:0], w.text[:0], w.ends[:0] }

// add takes note of an event whose visitor has just been appended to text.
func (w *worker) add(in *installed, uuid string) {
	w.events = append(w.events, UserEvent{Endpoint: in.endpoint, Head: in.head, ID: uuid})
	w.ends = append(w.ends, len(w.text))
}

// finishEvents gives the events their bytes, now that text doesn't move any more.
func (w *worker) finishEvents() []UserEvent {
	start := 0
	for i, end := range w.ends {
		w.events[i].Body = w.text[start:end:end]
		start = end
	}
	return w.events
}
