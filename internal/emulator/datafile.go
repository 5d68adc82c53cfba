package emulator

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"sortition/decision"
	"sortition/sinks"
)

// A datafile is what is served under a key. It doesn't change once it is set.
type datafile struct {
	Key          string    `json:"sdk_key"`
	Raw          []byte    `json:"raw"`
	LastModified string    `json:"last_modified"` // header, "": none is sent
	ETag         string    `json:"etag"`          // header, "": none is sent
	SetAt        time.Time `json:"set_at"`
	Revision     string    `json:"revision"`

	modified bool // LastModified was given
	packed   []byte
	catalog  *sinks.Catalog
	bandits  map[string][]string // variation ids by rule
	odpKey   string
	faults   error // from Compile
}

// A DatafileOption changes how a datafile is served.
type DatafileOption func(*datafile)

// LastModified sets the header of this name, to any text; "" sends none. By
// default it is the time of the call, and later than that of the datafile before.
func LastModified(value string) DatafileOption {
	return func(d *datafile) { d.LastModified, d.modified = value, true }
}

// ETag sets the header of this name; "" sends none. By default it is made from
// the content.
func ETag(value string) DatafileOption { return func(d *datafile) { d.ETag = value } }

func newDatafile(key string, raw []byte) *datafile {
	sum := sha256.Sum256(raw)
	// A weak tag, because the same one stands for the packed bytes.
	d := &datafile{Key: key, Raw: raw, ETag: `W/"` + hex.EncodeToString(sum[:12]) + `"`}
	d.read()
	return d
}

// read takes from the text what other routes need of it; all may be missing.
func (d *datafile) read() {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(d.Raw) // to memory
	_ = z.Close()
	d.packed = b.Bytes()
	if catalog, err := sinks.CatalogOf(d.Raw); err == nil {
		d.catalog, d.Revision = catalog, catalog.Revision
	}
	d.bandits = banditsOf(d.Raw)
	project, err := decision.Compile(d.Raw)
	if d.faults = err; err == nil {
		_, d.odpKey = project.ODP()
	}
}

// isFresh tells whether what a client has is what it would get.
// Source: RFC 9110 section 13, config.md section 2, CF-P3.
func (d *datafile) isFresh(h http.Header) bool {
	if tags := h.Get("If-None-Match"); tags != "" {
		if d.ETag == "" {
			return false
		}
		for tag := range strings.SplitSeq(tags, ",") {
			tag = strings.TrimSpace(tag)
			if tag == "*" || strings.TrimPrefix(tag, "W/") == strings.TrimPrefix(d.ETag, "W/") {
				return true
			}
		}
		return false
	}
	since := h.Get("If-Modified-Since")
	if since == "" || d.LastModified == "" {
		return false
	}
	if since == d.LastModified {
		return true
	}
	asked, err := http.ParseTime(since)
	if err != nil {
		return false
	}
	modified, err := http.ParseTime(d.LastModified)
	return err == nil && !modified.After(asked)
}

// datafile answers GET /datafiles/{key}.json and /datafiles/auth/{key}.json.
func (e *Emulator) datafile(c *call) reply {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		r := problem(http.StatusMethodNotAllowed, "only GET")
		r.header["Allow"] = "GET, HEAD"
		return r
	}
	if c.attempt.Route == RouteAuthDatafile {
		token, ok := strings.CutPrefix(c.r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			r := problem(http.StatusUnauthorized, "needs a bearer token")
			r.header["Www-Authenticate"] = "Bearer"
			return r
		}
		if e.opts.Token == "" || subtle.ConstantTimeCompare([]byte(token), []byte(e.opts.Token)) != 1 {
			return problem(http.StatusForbidden, "not the token")
		}
	}
	name, isJSON := strings.CutSuffix(strings.TrimPrefix(c.r.URL.Path, string(c.attempt.Route)), ".json")
	d := e.state.datafile(name)
	if !isJSON || d == nil {
		// As the CDN says of keys it doesn't know. Source: config.md CF-16.
		return problem(http.StatusForbidden, "no datafile of this SDK key")
	}
	r := reply{status: http.StatusOK, header: map[string]string{"Vary": "Accept-Encoding"}}
	if d.LastModified != "" {
		r.header["Last-Modified"] = d.LastModified
	}
	if d.ETag != "" {
		r.header["Etag"] = d.ETag
	}
	if d.isFresh(c.r.Header) {
		r.status = http.StatusNotModified
		return r
	}
	r.header["Content-Type"] = "application/json"
	r.body = d.Raw
	if acceptsGzip(c.r.Header) {
		r.header["Content-Encoding"] = "gzip"
		r.body = d.packed
	}
	return r
}

func acceptsGzip(h http.Header) bool {
	for part := range strings.SplitSeq(h.Get("Accept-Encoding"), ",") {
		name, quality, _ := strings.Cut(part, ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			return strings.TrimSpace(quality) != "q=0"
		}
	}
	return false
}

// PointODP returns a datafile whose ODP integration has another host, such as an
// emulator's URL; clients find ODP only there. One without an integration is
// returned as it is. Source: odp.md OD-1.
func PointODP(raw []byte, host string) ([]byte, error) {
	var root map[string]json.RawMessage
	if err := json.Unmarshal(raw, &root); err != nil {
		return nil, fmt.Errorf("point a datafile at another ODP host: %w", err)
	}
	var integrations []map[string]any
	if list, ok := root["integrations"]; !ok {
		return raw, nil
	} else if err := json.Unmarshal(list, &integrations); err != nil {
		return nil, fmt.Errorf("point a datafile at another ODP host: %w", err)
	}
	i := slices.IndexFunc(integrations, func(m map[string]any) bool { return m["key"] == "odp" })
	if i < 0 {
		return raw, nil
	}
	integrations[i]["host"] = host
	list, err := json.Marshal(integrations)
	if err != nil {
		return nil, fmt.Errorf("point a datafile at another ODP host: %w", err)
	}
	root["integrations"] = list
	return json.Marshal(root)
}
