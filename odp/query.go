package odp

import (
	"context"
	"net/http"
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
type GraphQL struct{ to poster }

// NewGraphQL makes a fetcher whose requests take at most timeout; 0 stands for the
// default. Requests go through transport; nil: an own pool of connections.
func NewGraphQL(timeout time.Duration, transport http.RoundTripper) *GraphQL {
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	return &GraphQL{newPoster(transport, timeout, 64)}
}

// Close drops idle connections.
func (g *GraphQL) Close() { g.to.close() }

// FetchSegments asks ODP. Errors are [*Error].
func (g *GraphQL) FetchSegments(ctx context.Context, q Query) ([]string, error) {
	body, err := appendQuery(make([]byte, 0, 512), &q)
	if err != nil {
		return nil, err
	}
	answer, err := g.to.post(ctx, q.Host+"/v3/graphql", q.PublicKey, body, maxAnswer)
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

const maxAnswer = 4 << 20 // of segments: 50,000 long names

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
