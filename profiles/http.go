package profiles

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"sortition/decision"
)

// The bounds of an HTTP profile service.
const (
	DefaultHTTPTimeout = 2 * time.Second
	maxHTTPProfile     = 4 << 20
)

// An HTTPShape is how requests and answers name their members.
type HTTPShape uint8

// The shapes.
const (
	// SDKShape is {"user_id", "experiment_bucket_map"}: what Optimizely Agent's
	// "rest" service expects of a profile service.
	SDKShape HTTPShape = iota
	// AgentShape is {"userId", "experimentBucketMap"}: the API of Optimizely Agent
	// itself, which keeps profiles for others. It wants the header
	// X-Optimizely-SDK-Key.
	AgentShape
)

var shapes = [...]struct{ userID, entries, lookup, save string }{
	{"user_id", "experiment_bucket_map", "/lookup", "/save"},
	{"userId", "experimentBucketMap", "/v1/lookup", "/v1/save"},
}

// HTTPOptions say where a profile service is and how it is asked.
type HTTPOptions struct {
	// Host is the address that the paths follow, such as http://profiles.internal.
	Host  string
	Shape HTTPShape
	// LookupPath takes {"user_id": "…"} and answers 200 with the profile; with 404,
	// 204 or an empty answer if it has none. Default "/lookup", or Agent's.
	LookupPath string
	// SavePath takes the profile, as JSON. Default "/save", or Agent's.
	SavePath string
	// Header goes with every request: credentials, for instance.
	Header http.Header
	// Timeout bounds one request, reading included. Default 2 s: a decision waits
	// for it.
	Timeout time.Duration
	// Client makes the requests. Default: one of the service's own. Redirects are not
	// followed in any case.
	Client *http.Client
}

// HTTP asks a profile service by POST, as Optimizely Agent's "rest" user profile
// service does. Nothing is sent for the user id "", which such services don't know. A
// redirect is an error: what is sent is for the service alone.
// It is safe for concurrent use; close it.
//
// Source: config.md sections 9.1 and 9.4, client.userProfileService.
type HTTP struct {
	lookup, save string
	o            HTTPOptions
	client       *http.Client
	isOwn        bool
}

var _ decision.ProfileService = (*HTTP)(nil)

// NewHTTP checks the addresses. It connects to nothing.
func NewHTTP(o HTTPOptions) (*HTTP, error) {
	if int(o.Shape) >= len(shapes) {
		return nil, errors.New("user profiles over HTTP: unknown shape")
	}
	if o.LookupPath == "" {
		o.LookupPath = shapes[o.Shape].lookup
	}
	if o.SavePath == "" {
		o.SavePath = shapes[o.Shape].save
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultHTTPTimeout
	}
	h := &HTTP{lookup: o.Host + o.LookupPath, save: o.Host + o.SavePath, o: o}
	for _, address := range []string{h.lookup, h.save} {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, errors.New("user profiles over HTTP: host and path don't make an absolute http or https address")
		}
	}
	client := http.Client{}
	if o.Client != nil {
		client = *o.Client // a copy: the original goes on following redirects
	} else {
		client.Transport = &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute,
		}
		h.isOwn = true
	}
	// A POST that becomes a GET saves nothing, and one that is repeated elsewhere takes
	// the user id and the credentials along.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	h.client = &client
	return h, nil
}

// Close drops the connections kept for further requests, if they are the service's
// own.
func (h *HTTP) Close() {
	if h.isOwn {
		h.client.CloseIdleConnections()
	}
}

// Lookup asks for a user's profile, nil if the service has none. An answer that is no
// profile, or another user's, is an error.
func (h *HTTP) Lookup(ctx context.Context, userID string) (*decision.Profile, error) {
	if userID == "" {
		return nil, nil //nolint:nilnil // the port says: an unknown user
	}
	request, err := json.Marshal(map[string]string{shapes[h.o.Shape].userID: userID})
	if err != nil {
		return nil, errors.New("look up user profile over HTTP: the user id has no form in JSON")
	}
	status, answer, err := h.post(ctx, h.lookup, request)
	switch {
	case err != nil:
		return nil, fmt.Errorf("look up user profile over HTTP: %w", err)
	case status == http.StatusNotFound || status == http.StatusNoContent || status == http.StatusOK && len(bytes.TrimSpace(answer)) == 0:
		return nil, nil //nolint:nilnil // likewise
	case status != http.StatusOK:
		return nil, fmt.Errorf("look up user profile over HTTP: status %d", status)
	}
	p, err := h.parse(answer)
	if err == nil {
		err = checkUser(p, userID)
	}
	if err != nil {
		return nil, fmt.Errorf("look up user profile over HTTP: %w", err)
	}
	return p, nil
}

// parse reads a profile in the service's shape.
func (h *HTTP) parse(answer []byte) (*decision.Profile, error) {
	if h.o.Shape == SDKShape {
		return decision.ParseProfile(answer)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(answer, &members); err != nil {
		return nil, errors.New("answer is no JSON object")
	}
	renamed := map[string]json.RawMessage{}
	names, own := shapes[h.o.Shape], shapes[SDKShape]
	for from, to := range map[string]string{names.userID: own.userID, names.entries: own.entries} {
		if value, ok := members[from]; ok {
			renamed[to] = value
		}
	}
	text, err := json.Marshal(renamed)
	if err != nil {
		return nil, errors.New("answer is no JSON object")
	}
	return decision.ParseProfile(text)
}

// Save sends a profile. Any 2xx is success.
func (h *HTTP) Save(ctx context.Context, profile *decision.Profile) error {
	if profile.UserID == "" {
		return nil
	}
	names := shapes[h.o.Shape]
	request, err := json.Marshal(map[string]any{names.userID: profile.UserID, names.entries: profile.Entries})
	if err != nil {
		return errors.New("save user profile over HTTP: it has no form in JSON")
	}
	status, _, err := h.post(ctx, h.save, request)
	switch {
	case err != nil:
		return fmt.Errorf("save user profile over HTTP: %w", err)
	case status < 200 || status > 299:
		return fmt.Errorf("save user profile over HTTP: status %d", status)
	}
	return nil
}

func (h *HTTP) post(ctx context.Context, address string, body []byte) (status int, answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, h.o.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return 0, nil, errors.New("unusable address")
	}
	for name, values := range h.o.Header {
		r.Header[http.CanonicalHeaderKey(name)] = values
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := h.client.Do(r)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // its text would repeat the whole URL
		}
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(response.Body, maxHTTPProfile+1))
	if err != nil {
		return 0, nil, err
	}
	if len(answer) > maxHTTPProfile {
		return 0, nil, fmt.Errorf("answer is larger than %d bytes", maxHTTPProfile)
	}
	return response.StatusCode, answer, nil
}
