package client

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"sortition/decision"
)

// A SegmentFetcher finds out which audience segments a user qualifies for: the
// SDKs' ODP segment manager, or a service of one's own. It must be safe for
// concurrent use. Source: pages.md O-6, O-9.
type SegmentFetcher interface {
	FetchSegments(ctx context.Context, q SegmentQuery) ([]string, error)
}

// A SegmentQuery asks for a user's segments. Source: odp.md section 3.
type SegmentQuery struct {
	UserID   string
	Segments []string // those the datafile's audiences ask for, at least one
	Options  SegmentOptions
	// The project's ODP integration, as the datafile names it.
	Host, PublicKey string
}

// SegmentOptions say how a fetch treats the cache of segments, and what the user's id
// is; they are joined with |.
type SegmentOptions uint8

// The options of a fetch. Source: odp.md section 3.
const (
	IgnoreSegmentsCache SegmentOptions = 1 << iota // neither look into the cache nor save to it
	ResetSegmentsCache                             // empty the whole cache first, for all users
	// FetchByVUID says that the user's id is a VUID, ODP's id of a visitor: ODP is asked
	// for the customer of that vuid. Default: the id is an fs_user_id, whatever it looks
	// like. The cache keeps the two apart. Source: odp.md OD-P2.
	FetchByVUID
)

// QualifiedSegments returns a copy of the segments last fetched or set; false if
// they never were, or the last fetch failed. Source: decide.md section 11, pages.md U-7.
func (u *UserContext) QualifiedSegments() (segments []string, isKnown bool) {
	s := u.state.Load()
	if !s.hasSegments {
		return nil, false
	}
	return append([]string{}, s.segments...), true
}

// SetQualifiedSegments says which segments the user qualifies for, so that a
// service of one's own can provide them. The list is copied. An empty one says
// that there are none; nil, that they are not known. Source: pages.md U-7.
func (u *UserContext) SetQualifiedSegments(segments []string) {
	kept := slices.Clone(segments)
	u.change(func(s *userState) { s.segments, s.hasSegments = kept, kept != nil })
}

// IsQualifiedFor tells whether the user is in a segment; false when the segments
// aren't known. Source: pages.md U-9.
func (u *UserContext) IsQualifiedFor(segment string) bool {
	return slices.Contains(u.state.Load().segments, segment)
}

// FetchQualifiedSegments asks for the user's segments and keeps them. It returns
// when they are there. After a failure the segments are not known, whatever they
// were before. If no audience of the datafile asks for a segment, there are none
// and nothing is fetched. The user's id is an fs_user_id for ODP, unless [FetchByVUID]
// is among the options.
//
// The error wraps [ErrNotReady], [ErrODPDisabled], [ErrODPNotIntegrated],
// [ErrClosed], or what the fetcher failed with. Source: pages.md U-8, odp.md OD-9, section 3.
func (u *UserContext) FetchQualifiedSegments(ctx context.Context, options ...SegmentOptions) error {
	segments, err := u.fetch(ctx, options)
	if err != nil {
		u.SetQualifiedSegments(nil)
		u.client.log.Warn("segments not fetched", slog.Any("error", err))
		return err
	}
	u.SetQualifiedSegments(append([]string{}, segments...))
	return nil
}

func (u *UserContext) fetch(ctx context.Context, options []SegmentOptions) ([]string, error) {
	c := u.client
	if c.life.isClosed() {
		return nil, fmt.Errorf("fetch segments: %w", ErrClosed)
	}
	p := c.source.Current()
	if p == nil {
		return nil, fmt.Errorf("fetch segments: %w", ErrNotReady)
	}
	q, err := c.segmentQuery(p, u.id, options)
	if err != nil {
		return nil, err
	}
	if len(q.Segments) == 0 {
		return nil, nil
	}
	fetcher := c.settings.odp.fetcher
	if fetcher == nil {
		c.odp.use(ctx, p)
		fetcher = &c.odp
	}
	segments, err := fetcher.FetchSegments(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("fetch segments: %w", err)
	}
	return segments, nil
}

// segmentQuery is steps 3 to 5 of odp.md section 3.
func (c *Client) segmentQuery(p *decision.Project, userID string, options []SegmentOptions) (SegmentQuery, error) {
	if c.settings.odp.isDisabled {
		return SegmentQuery{}, fmt.Errorf("fetch segments: %w", ErrODPDisabled)
	}
	q := SegmentQuery{UserID: userID, Segments: p.Segments()}
	for _, o := range options {
		q.Options |= o
	}
	if q.Host, q.PublicKey = p.ODP(); q.Host == "" {
		return q, fmt.Errorf("fetch segments: %w", ErrODPNotIntegrated)
	}
	return q, nil
}

// A SegmentFetch is a fetch in the background.
type SegmentFetch struct {
	done chan struct{} // never sent on; closed when err is there
	err  error
}

// Done is closed when the fetch is over and its callback has returned.
func (f *SegmentFetch) Done() <-chan struct{} { return f.done }

// Wait waits for the end of the fetch and returns its error, or that of ctx if
// that ends first.
func (f *SegmentFetch) Wait(ctx context.Context) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return fmt.Errorf("wait for segments: %w", context.Cause(ctx))
	}
}

// FetchQualifiedSegmentsAsync is [UserContext.FetchQualifiedSegments] in the
// background. callback, if not nil, is called with the outcome once the segments
// are set. ctx is that of the fetch; [Client.Close] ends it too, and waits for the
// callback. Source: pages.md U-8, odp.md OD-8.
func (u *UserContext) FetchQualifiedSegmentsAsync(ctx context.Context, callback func(error), options ...SegmentOptions) *SegmentFetch {
	f := &SegmentFetch{done: make(chan struct{})}
	finish := func(err error) {
		defer close(f.done)
		f.err = err
		if callback != nil {
			u.client.guard("segments callback", func() { callback(err) })
		}
	}
	hasStarted := u.client.life.goAlong(ctx, func(ctx context.Context) { finish(u.FetchQualifiedSegments(ctx, options...)) })
	if !hasStarted {
		u.SetQualifiedSegments(nil)
		finish(fmt.Errorf("fetch segments: %w", ErrClosed))
	}
	return f
}
