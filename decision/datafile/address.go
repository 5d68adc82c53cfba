package datafile

import (
	"errors"
	"net/url"
	"regexp"
	"strings"
)

// The addresses of the CDN. Source: config.md section 2.
const (
	PublicURLTemplate        = "https://cdn.optimizely.com/datafiles/{sdk_key}.json"
	AuthenticatedURLTemplate = "https://config.optimizely.com/datafiles/auth/{sdk_key}.json"
)

var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

// address returns where to fetch. A complete URL wins over a template, an own
// template over the CDN's. Its errors don't name the address, since that may hold
// the SDK key. Source: config.md CF-3.
func (c *PollConfig) address() (string, error) {
	address := c.URL
	if address == "" {
		template := c.URLTemplate
		switch {
		case template != "":
		case c.isAuthenticated():
			template = AuthenticatedURLTemplate
		default:
			template = PublicURLTemplate
		}
		if c.SDKKey == "" {
			return "", errors.New("datafile polling: neither an SDK key nor a URL is given")
		}
		// The other SDKs write the placeholder as %s.
		template = strings.ReplaceAll(template, "%s", "{sdk_key}")
		for _, name := range placeholder.FindAllString(template, -1) {
			if name != "{sdk_key}" {
				return "", errors.New("datafile polling: the URL template has the unknown placeholder " + name)
			}
		}
		address = strings.ReplaceAll(template, "{sdk_key}", url.PathEscape(c.SDKKey))
	}
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return "", errors.New("datafile polling: the URL is not an absolute http or https address")
	}
	return address, nil
}
