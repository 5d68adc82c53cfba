package odp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"sortition/schemas"
)

// The identifiers a user can be asked for by. Source: odp.md OD-12, OD-P2.
const (
	FSUserID = "fs_user_id"
	VUID     = "vuid"
)

// DefaultTimeout bounds a request. Source: odp.md section 2.
const DefaultTimeout = 10 * time.Second

// A Query asks for one user's segments.
type Query struct {
	Host, PublicKey string
	Key, Value      string   // identifier, such as fs_user_id, and the user's
	Segments        []string // to check
}

// A Fetcher asks ODP, or something in its place: the SDKs' segment API manager. The
// list is the caller's from then on and may hold repeats. An error that isn't an
// [*Error] is held to be a [NetworkError]. It must be safe for concurrent use.
// Source: pages.md O-6.
type Fetcher interface {
	FetchSegments(ctx context.Context, q Query) ([]string, error)
}

// GraphQL is the [Fetcher] that asks ODP: one POST, no repetition.
// Source: odp.md section 4.
type GraphQL struct {
	client  *http.Client
	timeout time.Duration
}

// NewGraphQL makes a fetcher whose requests take at most timeout; 0 stands for the
// default. Requests go through transport; nil: an own pool of connections.
func NewGraphQL(timeout time.Duration, transport http.RoundTripper) *GraphQL {
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	return &GraphQL{client: newHTTPClient(transport, timeout, 64), timeout: timeout}
}

// Close drops idle connections.
func (g *GraphQL) Close() { g.client.CloseIdleConnections() }

// newHTTPClient makes a client that follows no redirects: the key is for one host.
func newHTTPClient(transport http.RoundTripper, timeout time.Duration, conns int) *http.Client {
	if transport == nil {
		transport = &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSHandshakeTimeout: timeout,
			MaxIdleConns: conns, MaxIdleConnsPerHost: conns, IdleConnTimeout: 90 * time.Second,
		}
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// FetchSegments asks ODP. Errors are [*Error].
func (g *GraphQL) FetchSegments(ctx context.Context, q Query) ([]string, error) {
	body, err := appendQuery(make([]byte, 0, 512), &q)
	if err != nil {
		return nil, err
	}
	answer, err := post(ctx, g.client, g.timeout, q.Host+"/v3/graphql", q.PublicKey, body, maxAnswer)
	if err != nil {
		return nil, err
	}
	return parseAnswer(answer)
}

// appendQuery renders the request. The user and the segments are variables, never
// part of the query's text. Source: odp.md OD-17.
func appendQuery(dst []byte, q *Query) ([]byte, error) {
	if !isName(q.Key) {
		return nil, &Error{Class: InvalidIdentifier, Detail: "the identifier's name must be a GraphQL name"}
	}
	if !utf8.ValidString(q.Value) {
		return nil, &Error{Class: InvalidIdentifier, Detail: "the user id is not UTF-8"}
	}
	dst = append(dst, `{"query":"query($userId:String,$audiences:[String]){customer(`...)
	dst = append(dst, q.Key...)
	dst = append(dst, `:$userId){audiences(subset:$audiences){edges{node{name state}}}}}","variables":{"userId":`...)
	dst = schemas.AppendString(dst, q.Value)
	dst = append(dst, `,"audiences":[`...)
	for i, segment := range q.Segments {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = schemas.AppendString(dst, segment)
	}
	return append(dst, "]}}"...), nil
}

// isName tells whether text can stand in a query as the name of an argument.
func isName(text string) bool {
	for i := range len(text) {
		c := text[i]
		isLetter := c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z'
		if !isLetter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return text != ""
}

const (
	maxAnswer     = 4 << 20 // of segments: 50,000 long names
	maxRetryAfter = 10 * time.Second
)

var errTimeout = errors.New("timed out")

// post makes one request and returns the answer's body if its status is 2xx.
func post(ctx context.Context, client *http.Client, timeout time.Duration, address, key string, body []byte, most int64) ([]byte, error) {
	if err := checkAddress(address); err != nil {
		return nil, err
	}
	whole := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, &Error{Class: InvalidHost, Err: bare(err)}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Api-Key", key)
	failed := func(err error) error {
		switch {
		case whole.Err() != nil:
			return cancelled(whole)
		case ctx.Err() != nil:
			err = fmt.Errorf("%w after %v", errTimeout, timeout)
		}
		return &Error{Class: NetworkError, Err: bare(err)}
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, failed(err)
	}
	defer response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode > 299 {
		// Read so that the connection can be kept, but not more than a decent answer has.
		_, _ = io.CopyN(io.Discard, response.Body, 64<<10)
		return nil, &Error{Class: HTTPError, Status: response.StatusCode, RetryAfter: parseRetryAfter(response.Header, time.Now())}
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, most+1))
	switch {
	case err != nil:
		return nil, failed(err)
	case int64(len(answer)) > most:
		return nil, &Error{Class: DecodeError, Detail: "the answer is larger than " + strconv.FormatInt(most, 10) + " bytes"}
	}
	return answer, nil
}

// checkAddress refuses what can't be posted to.
func checkAddress(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return &Error{Class: InvalidHost, Err: bare(err)}
	case u.Scheme != "http" && u.Scheme != "https":
		return &Error{Class: InvalidHost, Detail: "its scheme must be http or https"}
	case u.Host == "":
		return &Error{Class: InvalidHost, Detail: "it names no host"}
	}
	return nil
}

// bare takes the URL off an error, which may hold a password.
func bare(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// parseRetryAfter reads the header, seconds or an HTTP date; 0 for none, for the
// past and for what is neither. More than the limit is the limit.
func parseRetryAfter(header http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(header.Get("Retry-After"))
	if text == "" {
		return 0
	}
	if strings.Trim(text, "0123456789") == "" {
		seconds, err := strconv.ParseInt(text, 10, 32)
		if err != nil { // more than fits
			return maxRetryAfter
		}
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
