package sinks

import (
	"encoding/json"
	"fmt"
)

// A Catalog is what the events of one project may refer to. It doesn't change
// after it was made and may be shared.
type Catalog struct {
	AccountID string
	ProjectID string
	Revision  string
	Events    map[string]string // event key to id
}

// CatalogOf reads a datafile's catalog. It reads nothing else, so it also takes a
// datafile that wouldn't compile. Source: datafile.md section 3.
func CatalogOf(datafile []byte) (*Catalog, error) {
	var wire struct {
		AccountID string `json:"accountId"`
		ProjectID string `json:"projectId"`
		Revision  string `json:"revision"`
		Events    []struct {
			ID  string `json:"id"`
			Key string `json:"key"`
		} `json:"events"`
	}
	if err := json.Unmarshal(datafile, &wire); err != nil {
		return nil, fmt.Errorf("read the events of a datafile: %w", err)
	}
	c := &Catalog{AccountID: wire.AccountID, ProjectID: wire.ProjectID, Revision: wire.Revision, Events: make(map[string]string, len(wire.Events))}
	for _, e := range wire.Events {
		c.Events[e.Key] = e.ID
	}
	return c, nil
}
