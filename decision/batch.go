package decision

import (
	"strconv"
	"strings"
)

// A Client names who sends events. Source: events.md EV-P8.
type Client struct {
	Name    string
	Version string
}

// AppendBatchHead appends an event batch up to its visitors, which follow as
// comma-separated visitor objects; [AppendBatchTail] closes it. Batches with
// equal heads and endpoints may be joined (EB-P1). Source: events.md section 2.
func (p *Project) AppendBatchHead(dst []byte, client Client) []byte {
	dst = append(dst, `{"account_id":`...)
	dst = appendString(dst, p.meta.accountID)
	dst = append(dst, `,"project_id":`...)
	dst = appendString(dst, p.meta.projectID)
	dst = append(dst, `,"revision":`...)
	dst = appendString(dst, p.meta.revision)
	dst = append(dst, `,"client_name":`...)
	dst = appendString(dst, client.Name)
	dst = append(dst, `,"client_version":`...)
	dst = appendString(dst, client.Version)
	dst = append(dst, `,"anonymize_ip":`...)
	dst = strconv.AppendBool(dst, p.meta.anonymizeIP)
	return append(dst, `,"enrich_decisions":true,"visitors":[`...)
}

// AppendBatchTail closes an event batch.
func AppendBatchTail(dst []byte) []byte { return append(dst, `]}`...) }

// EventEndpoint is the address that the project's region sends events to.
// Source: events.md section 1, EV-1.
func (p *Project) EventEndpoint() string {
	if strings.EqualFold(p.meta.region, "EU") {
		return "https://eu.logx.optimizely.com/v1/events"
	}
	return "https://logx.optimizely.com/v1/events"
}
