package main

import (
	"net/url"
	"regexp"
	"strings"
)

// shownAddress is what may be shown of an address: scheme, host and path. User name,
// password, query and fragment hold secrets, or may. Of an address that isn't one,
// nobody knows which part is which, so that little more than its scheme is shown.
// host:port is an address too.
func shownAddress(address string) string {
	scheme, _, hasScheme := strings.Cut(address, "://")
	if !hasScheme {
		rest := address[strings.LastIndexByte(address, '@')+1:]
		if i := strings.IndexAny(rest, "?#"); i >= 0 {
			rest = rest[:i]
		}
		return rest
	}
	hidden := scheme + "://…"
	u, err := url.Parse(strings.ReplaceAll(address, "%s", "{}")) // both stand for a part to be filled in
	if err != nil {
		return hidden
	}
	path := u.RawPath // as it was written
	if path == "" {
		path = u.EscapedPath()
	}
	// A / or ? or # in a password that isn't escaped ends the host too early: then the
	// rest of the password looks like a path.
	isTorn := u.User == nil && strings.Contains(address, "@") || strings.Contains(u.Host+path, "@")
	if isTorn {
		return hidden
	}
	return u.Scheme + "://" + u.Host + path
}

// addressInText is an address with a scheme, or with something before an @; without
// the punctuation that follows it.
var addressInText = regexp.MustCompile("[A-Za-z][A-Za-z0-9+.-]*://[^\\s\"'`<>]*[^\\s\"'`<>:,.;)]|[^\\s\"'`<>(]+@[^\\s\"'`<>]*[^\\s\"'`<>:,.;)]")

// withoutSecrets is a text, of an error mostly, with its addresses as they may be shown.
func withoutSecrets(text string) string {
	return addressInText.ReplaceAllStringFunc(text, shownAddress)
}
