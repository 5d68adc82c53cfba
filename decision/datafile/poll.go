package datafile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// The poller's timing, and what stands for 0. Source: config.md CF-3, CF-7, CF-9.
const (
	DefaultInterval   = 5 * time.Minute
	DefaultTimeout    = 10 * time.Second
	DefaultRetries    = 3
	DefaultCacheAfter = 3 * time.Second

	shortInterval = 30 * time.Second // shorter ones are warned of
)

// PollConfig says what a [Poller] fetches, and how often. An SDK key, a URL, or a
// datafile that names its SDK key is needed; the rest has defaults.
type PollConfig struct {
	SDKKey        string // default: that of Datafile (CF-4)
	AccessToken   Secret // selects the authenticated address and is sent there
	Authenticated bool   // an empty AccessToken is a mistake, not a wish for the public address (CF-5)
	URL           string // complete address; wins over everything (CF-3)
	URLTemplate   string // address with {sdk_key} or %s in it; wins over the CDN's
	// Datafile is used until the first fetch succeeds, if it is valid.
	Datafile []byte
	// Interval from the end of one fetch to the next. <= 0 stands for
	// DefaultInterval; less than 30 s is accepted with a warning. Source: CF-6, CF-7.
	Interval time.Duration
	// Timeout of one request, reading included. 0 stands for DefaultTimeout.
	Timeout time.Duration
	// Retries within one fetch. 0 stands for DefaultRetries, a negative number for
	// none. Source: CF-9.
	Retries int
	// CachePath names the file that keeps the last good datafile for a start while
	// the CDN is away; "": none. Its folder must exist.
	CachePath string
	// CacheAfter is how long a start waits for the CDN before it takes the cached
	// datafile; a fetch that has failed doesn't wait. 0 stands for DefaultCacheAfter.
	CacheAfter time.Duration
	// Client makes the requests; nil: one of the poller's own. It should follow
	// redirects (CF-15).
	Client *http.Client
	Options
}

func (c *PollConfig) isAuthenticated() bool { return c.Authenticated || c.AccessToken != "" }

// A Poller fetches the datafile of an SDK key at an interval.
type Poller struct {
	*feed
	config     PollConfig
	address    string
	client     *http.Client
	isOwn      bool       // the client is ours to close
	accepting  sync.Mutex // guards what follows; the first datafile may come from two sides
	cache      *diskCache
	validators validators

	refreshes chan struct{} // capacity 1: one request is as good as many
	pursuing  sync.Mutex    // guards wanted
	wanted    *pursuit      // what the next refresh is after
}

// validators are what a server recognises a datafile by.
type validators struct{ lastModified, etag string }

// NewPoller checks the configuration and compiles the datafile in it. A bad one
// there is no error: it is logged, Status tells, and polling may bring a better.
// Source: config.md section 1, CF-3, CF-5, CF-7.
func NewPoller(c PollConfig) (*Poller, error) {
	f, err := newFeed(c.Options)
	if err != nil {
		return nil, err
	}
	c.Options = f.options
	if len(c.Datafile) > 0 {
		if _, err := f.install(bytes.Clone(c.Datafile), OriginGiven, time.Now(), true); err != nil {
			f.status.Err = err // until the first fetch
			c.Logger.Error("the datafile given is of no use", slog.Any("error", err))
		}
	}
	if p := f.Current(); p != nil && c.SDKKey == "" {
		c.SDKKey = p.SDKKey()
	}
	var faults []error
	if c.Authenticated && c.AccessToken == "" {
		faults = append(faults, errors.New("datafile polling: the access token is empty"))
	}
	address, err := c.address()
	if err != nil {
		faults = append(faults, err)
	}
	if c.Timeout < 0 || c.CacheAfter < 0 {
		faults = append(faults, errors.New("datafile polling: Timeout and CacheAfter may not be negative"))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	c.Timeout, c.CacheAfter = or(c.Timeout, DefaultTimeout), or(c.CacheAfter, DefaultCacheAfter)
	c.Retries = max(or(c.Retries, DefaultRetries), 0)
	if c.Interval <= 0 {
		c.Interval = DefaultInterval
	} else if c.Interval < shortInterval {
		c.Logger.Warn("polling for datafiles this often is not recommended", slog.Duration("interval", c.Interval), slog.Duration("recommended", shortInterval))
	}
	p := &Poller{feed: f, config: c, address: address, client: c.Client, refreshes: make(chan struct{}, 1)}
	if p.client == nil {
		transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute}
		p.client, p.isOwn = &http.Client{Transport: transport}, true
	}
	if c.CachePath != "" {
		p.cache = &diskCache{path: c.CachePath, origin: digestOf([]byte(address))}
	}
	return p, nil
}

func or[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

// SDKKey is the key whose datafile is fetched, "" if only a URL is known.
// It is a secret of sorts: don't log it.
func (p *Poller) SDKKey() string { return p.config.SDKKey }

// Run fetches at once, then at the interval and when [Poller.Refresh] asks for it,
// until ctx is done, which also ends a request under way.
// Source: config.md CF-6, CF-8.
func (p *Poller) Run(ctx context.Context) error {
	if err := p.start(); err != nil {
		return err
	}
	if p.isOwn {
		defer p.client.CloseIdleConnections()
	}
	stop := p.expectFirst()
	p.poll(ctx)
	stop()
	if p.Current() == nil && ctx.Err() == nil {
		p.useCache()
	}
	var goal *pursuit
	for {
		delay := p.config.Interval
		if goal != nil && goal.isOver(p.revision()) {
			goal = nil
		}
		if goal != nil {
			delay = min(delay, goal.delay())
		}
		timer := time.NewTimer(delay)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
			if goal != nil {
				goal.tries++
			}
		case <-p.refreshes:
			timer.Stop()
			if wanted := p.takeWanted(); wanted != nil {
				goal = wanted
			}
		}
		p.poll(ctx)
	}
}

// poll makes one fetch and deals with the answer. Source: config.md section 4.
func (p *Poller) poll(ctx context.Context) {
	answer, err := p.fetch(ctx)
	if ctx.Err() != nil {
		return // not the server's fault
	}
	if err == nil && answer.status != http.StatusNotModified {
		err = p.accept(answer)
	}
	if err != nil {
		err = fmt.Errorf("fetch datafile: %w", err)
	}
	p.attempted(answer.status, err)
}

// accept installs what was fetched. What the server recognises the datafile by is
// kept only if it was usable, so that a broken one is asked for again; it is
// forgotten if the server sent nothing. Source: config.md CF-P1, CF-P2.
func (p *Poller) accept(a answer) error {
	p.accepting.Lock()
	defer p.accepting.Unlock()
	received := time.Now()
	if _, err := p.install(a.body, OriginCDN, received, false); err != nil {
		return err
	}
	p.validators = a.validators
	if p.cache != nil && bytes.Equal(p.Current().Datafile(), a.body) {
		if err := p.cache.save(a.body, a.validators, received); err != nil {
			p.options.Logger.Error("datafile not cached", slog.Any("error", err))
		}
	}
	return nil
}

// expectFirst falls back on the cache if the first datafile keeps us waiting. The
// function returned calls that off, or waits until it is done.
func (p *Poller) expectFirst() (stop func()) {
	if p.cache == nil || p.Current() != nil {
		return func() {}
	}
	done := make(chan struct{}) // closed by the fallback
	timer := time.AfterFunc(p.config.CacheAfter, func() {
		defer close(done)
		p.useCache()
	})
	return func() {
		if !timer.Stop() {
			<-done
		}
	}
}

// useCache installs the cached datafile if there is still no other.
func (p *Poller) useCache() {
	if p.cache == nil {
		return
	}
	p.accepting.Lock()
	defer p.accepting.Unlock()
	text, about, err := p.cache.load(p.options.MaxSize)
	isInstalled := false
	if err == nil {
		isInstalled, err = p.install(text, OriginCache, about.ReceivedAt, true)
	}
	if err != nil {
		level := slog.LevelError
		if errors.Is(err, fs.ErrNotExist) {
			level = slog.LevelInfo // the first start
		}
		p.options.Logger.Log(context.Background(), level, "no cached datafile to start with", slog.Any("error", err))
		return
	}
	if isInstalled {
		p.cache.saved = about.Digest
		p.validators = validators{about.LastModified, about.ETag}
		p.options.Logger.Warn("started with the cached datafile", slog.String("revision", p.revision()),
			slog.Duration("age", time.Since(about.ReceivedAt).Round(time.Second)))
	}
}

func (p *Poller) revision() string {
	if c := p.Current(); c != nil {
		return c.Revision()
	}
	return ""
}
