package odp

import (
	"slices"
)

// An Integration is what a datafile says of ODP. Source: odp.md OD-1, OD-2.
type Integration struct {
	Host      string   // URL of the API without a trailing slash; paths are appended as they are
	PublicKey string   // sent as x-api-key
	Segments  []string // those that audiences ask for, without repeats
}

// IsIntegrated tells whether there is a host and a key. Source: odp.md section 1.
func (i *Integration) IsIntegrated() bool { return i.Host != "" && i.PublicKey != "" }

// same compares, the segments as sets. Source: odp.md OD-38, OD-P12.
func (i *Integration) same(o *Integration) bool {
	return i.Host == o.Host && i.PublicKey == o.PublicKey && slices.Equal(sortedSet(i.Segments), sortedSet(o.Segments))
}

func (i *Integration) clone() Integration {
	c := Integration{Host: i.Host, PublicKey: i.PublicKey}
	for _, s := range i.Segments { // first-seen order; odp.md OD-P1
		if !slices.Contains(c.Segments, s) {
			c.Segments = append(c.Segments, s)
		}
	}
	return c
}

func sortedSet(list []string) []string {
	sorted := slices.Clone(list)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}
