package schemas

// Headers of the records that go out. A decision record carries HeaderID and
// HeaderRevision; an event batch, whose value is exactly the body to post,
// carries all three.
const (
	// HeaderID is the record's derived id, see IDs.
	HeaderID = "sortition-id"
	// HeaderRevision is the revision of the datafile that decided.
	HeaderRevision = "sortition-revision"
	// HeaderEndpoint is the URL to post an event batch to. It is fixed when
	// the batch is made, since the region is the datafile's of that moment.
	//
	// Source: events.md EV-2.
	HeaderEndpoint = "sortition-endpoint"
)
