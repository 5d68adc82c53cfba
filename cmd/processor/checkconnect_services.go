package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"sortition/decision/datafile"
	"sortition/odp"
	"sortition/pipeline"
)

// nobody is the user for whom ODP is asked; it has no segments.
const nobody = "sortition-check"

func (r *connecting) serviceTrials() []trial {
	p := &r.parts
	var trials []trial
	if p.datafile != nil && (p.datafile.Poll.SDKKey != "" || p.datafile.Poll.URL != "") {
		trials = append(trials, trial{"datafile", "by " + r.polledBy(), r.tryDatafile})
	}
	if p.runs(pipeline.DeliverEvents) {
		trials = append(trials, trial{"events", cmp.Or(shownAddress(p.deliverEvents.endpoint), "the endpoint of the datafile"), r.tryEvents})
	}
	asksODP := p.segments != nil && r.assigns()
	if asksODP {
		trials = append(trials, trial{"segments", cmp.Or(shownAddress(p.segments.host), "the host of the datafile"), func(ctx context.Context) (string, error) {
			return r.tryODP(ctx, p.segments.host, "", p.segments.config.UserKey)
		}})
	}
	if d := p.deliverODP; p.runs(pipeline.DeliverODP) && !(asksODP && d.endpoint == p.segments.host && d.key == "") {
		trials = append(trials, trial{"ODP", cmp.Or(shownAddress(d.endpoint), "the host of the datafile"), func(ctx context.Context) (string, error) {
			return r.tryODP(ctx, d.endpoint, d.key, odp.FSUserID)
		}})
	}
	if p.predictions != nil && r.assigns() {
		trials = append(trials, trial{"predictions", shownAddress(p.predictions.Endpoint), func(ctx context.Context) (string, error) {
			return head(ctx, strings.NewReplacer("{}", nobody, "%s", nobody).Replace(p.predictions.Endpoint))
		}})
	}
	if p.redis != nil {
		trials = append(trials, trial{"redis", shownAddress(p.redis.Addr), r.tryRedis})
	}
	return trials
}

// polledBy names the source of the datafile without its key.
func (r *connecting) polledBy() string {
	poll := &r.parts.datafile.Poll
	address := poll.URL
	if address == "" {
		address = poll.URLTemplate
	}
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		if poll.URL != "" {
			return "address at " + u.Host
		}
		return "SDK key at " + u.Host
	}
	return "SDK key"
}

// fetchDatafile asks for the datafile once, as the stream will, and keeps nothing of it
// on disk.
func (r *connecting) fetchDatafile(ctx context.Context) (*checkReport, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	config := r.parts.datafile.Poll
	config.CachePath, config.Archive, config.Logger = "", nil, slog.New(slog.DiscardHandler)
	poller, err := datafile.NewPoller(config)
	if err != nil {
		return nil, err
	}
	var ended error
	done := make(chan struct{}) // never sent to
	running, stop := context.WithCancel(ctx)
	go func() {
		defer close(done)
		ended = poller.Run(running)
	}()
	err = firstAnswer(ctx, poller)
	stop()
	<-done
	status := poller.Status()
	project := poller.Current()
	switch {
	case project != nil:
		report := &checkReport{Datafile: "the one fetched"}
		report.accept(project)
		return report, nil
	case status.Err != nil:
		return nil, status.Err
	case err != nil:
		return nil, err
	}
	return nil, errors.Join(ended, errors.New("no datafile came"))
}

func (r *connecting) tryDatafile(ctx context.Context) (string, error) {
	fetched, err := r.fetched()
	if err != nil {
		var status *datafile.StatusError
		if errors.As(err, &status) {
			return "", advised{err, "look at datafile.sdk_key and datafile.access_token: the key may be of another environment, or the token missing or revoked"}
		}
		return "", err
	}
	s := fetched.Summary
	return fmt.Sprintf("revision %s, %s, %s of %s", s.Revision, count(int64(s.Flags), "flag", "flags"),
		count(int64(s.ExperimentRules+s.DeliveryRules), "rule", "rules"), s.Digest), nil
}

// fetchedIfPolled is the datafile that was fetched; nil if none is polled.
func (r *connecting) fetchedIfPolled() (*checkReport, error) {
	if d := r.parts.datafile; d == nil || d.Poll.SDKKey == "" && d.Poll.URL == "" {
		return nil, nil
	}
	return r.fetched()
}

// known is the datafile: the one fetched, or the file's.
func (r *connecting) known() (*checkReport, error) {
	fetched, err := r.fetchedIfPolled()
	switch {
	case err == nil && fetched == nil:
		return r.report.Datafile, nil
	case err != nil:
		return nil, advised{errors.New("not tried: it is named by the datafile, which can't be had"), ""}
	}
	return fetched, nil
}

// tryEvents looks whether the event endpoint answers. A HEAD makes no event: events
// are what is POSTed.
func (r *connecting) tryEvents(ctx context.Context) (string, error) {
	if to := r.parts.deliverEvents.endpoint; to != "" {
		return head(ctx, to)
	}
	report, err := r.known()
	if err != nil {
		return "", err
	}
	if report == nil {
		return "not tried: each record names its endpoint, and no datafile is known", nil
	}
	to := report.project.EventEndpoint()
	found, err := head(ctx, to)
	if err != nil {
		return "", fmt.Errorf("%s: %w", shownAddress(to), err)
	}
	return shownAddress(to) + ": " + found, nil
}

// head makes a HEAD request. Any answer shows that name, route, TLS and proxies are
// right; only a server that says it is broken, or a proxy that wants to know who we
// are, is a failure. (That the method isn't allowed is what most will answer.)
func head(ctx context.Context, address string) (string, error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, address, http.NoBody)
	if err != nil {
		return "", err
	}
	request.Header.Set("User-Agent", client.Name+"/"+client.Version)
	follow := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	answer, err := (&http.Client{Transport: transport, CheckRedirect: follow}).Do(request)
	if err != nil {
		return "", err
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	_ = answer.Body.Close()
	status := fmt.Sprintf("answered %s to HEAD", answer.Status)
	switch {
	case answer.StatusCode >= http.StatusInternalServerError:
		return "", advised{errors.New(status), "it is there, and not well; try later"}
	case answer.StatusCode == http.StatusProxyAuthRequired:
		return "", advised{errors.New(status), "the proxy wants credentials: look at HTTPS_PROXY"}
	case answer.StatusCode >= 300 && answer.StatusCode < 400:
		return "", advised{errors.New(status), "redirects are not followed: give the address it points at"}
	}
	return status + ": reachable", nil
}

// tryODP asks for the segments of a user who doesn't exist: it reads, and proves host
// and key.
func (r *connecting) tryODP(ctx context.Context, host, key, identifier string) (string, error) {
	var segments []string
	at := host
	if host == "" || key == "" {
		report, err := r.known()
		if err != nil {
			return "", err
		}
		if report != nil {
			ofHost, ofKey := report.project.ODP()
			segments = report.project.Segments()
			host, key = cmp.Or(host, ofHost), cmp.Or(key, ofKey)
		}
	}
	if host == "" || key == "" {
		return "", advised{errors.New("there is no integration with ODP in the datafile"), "switch it on for the project, or give endpoint and key in the configuration"}
	}
	if len(segments) == 0 {
		segments = []string{nobody}
	}
	api := odp.NewGraphQL(r.timeout, nil)
	defer api.Close()
	_, err := api.FetchSegments(ctx, odp.Query{Host: host, PublicKey: key, Key: identifier, Value: nobody, Segments: segments[:1]})
	found := "asked for a user who doesn't exist, and answered"
	if at == "" {
		found = shownAddress(host) + ": " + found
	}
	var e *odp.Error
	switch {
	case err == nil, odp.ClassOf(err) == odp.InvalidIdentifier:
		return found, nil
	case errors.As(err, &e) && e.Class == odp.HTTPError:
		return "", advised{err, "if it is 401 or 403, the key is wrong; else the host"}
	}
	return "", err
}

func (r *connecting) tryRedis(ctx context.Context) (string, error) {
	options := *r.parts.redis
	options.MaxRetries, options.DialerRetries, options.DialTimeout, options.ContextTimeoutEnabled = -1, 1, r.timeout, true
	redis.SetLogger(silent{}) // the library's only one; what goes wrong is in the error
	db := redis.NewClient(&options)
	defer db.Close()
	if err := db.Ping(ctx).Err(); err != nil {
		for _, code := range []string{"NOAUTH", "WRONGPASS", "ERR AUTH"} {
			if strings.HasPrefix(err.Error(), code) {
				return "", advised{err, "look at redis.username and redis.password"}
			}
		}
		return "", err
	}
	return "answered PING", nil
}

// firstAnswer waits for the first attempt of a poller that runs.
func firstAnswer(ctx context.Context, p *datafile.Poller) error {
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for p.Status().LastAttempt.IsZero() {
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// silent is a logger that doesn't.
type silent struct{}

// Printf says nothing.
func (silent) Printf(context.Context, string, ...any) {}
