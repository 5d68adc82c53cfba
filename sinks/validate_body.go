package sinks

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash/maphash"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A checker walks one body.
type checker struct {
	maxProblems int
	latest      int64 // timestamps above are in the future
	seed        maphash.Seed
	catalog     *Catalog
	accountID   string
	projectID   string

	problems    []Problem
	events      []checkedEvent
	impressions int
	repeats     int
}

// A checkedEvent is one element of visitors, for the comparison with others.
type checkedEvent struct {
	path         string // of the event
	visitor      uint64
	content      uint64
	uuid         [16]byte
	hasUUID      bool
	timestamp    int64
	hasTime      bool
	isImpression bool
	isRepeat     bool
}

// activated is the key of impressions. Source: events.md section 2.
const activated = "campaign_activated"

// earliestPlausible is in 1973 read as milliseconds, and in the year 5138 read as seconds.
const earliestPlausible = 100_000_000_000

func (c *checker) reportAt(path string, code Code, severity Severity, message string) {
	switch {
	case len(c.problems) < c.maxProblems:
		c.problems = append(c.problems, Problem{path, code, severity, message})
	case len(c.problems) == c.maxProblems:
		c.problems = append(c.problems, Problem{"", CodeMoreProblems, SeverityError, "there are more problems, not listed"})
	}
}

func (c *checker) fail(path string, code Code, message string) {
	c.reportAt(path, code, SeverityError, message)
}

func (c *checker) body(body []byte, against func(projectID, revision string) *Catalog) {
	if len(body) > MaxEventBody {
		c.fail("", CodeTooLarge, "more than 3.5 MB: the endpoint drops it")
		return
	}
	if !utf8.Valid(body) {
		c.fail("", CodeNotUTF8, "not UTF-8")
		return
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber() // literals as they are: integers stay exact
	var value any
	if err := dec.Decode(&value); err != nil {
		c.fail("", CodeNotJSON, "not JSON")
		return
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		c.fail("", CodeNotJSON, "something follows the JSON value")
		return
	}
	root, ok := value.(map[string]any)
	if !ok {
		c.fail("", CodeWrongType, "must be an object")
		return
	}
	c.accountID = c.id(root, "", "account_id")
	c.projectID = c.id(root, "", "project_id")
	revision, _ := c.text(root, "", "revision")
	c.text(root, "", "client_name")
	c.text(root, "", "client_version")
	c.boolean(root, "", "anonymize_ip")
	if enrich, ok := c.boolean(root, "", "enrich_decisions"); ok && !enrich {
		c.fail("enrich_decisions", CodeWrongValue, "must be true: else conversions are not attributed to decisions")
	}
	if against != nil {
		c.compare(against(c.projectID, revision))
	}
	visitors, ok := c.array(root, "", "visitors", true)
	if ok && len(visitors) == 0 {
		c.fail("visitors", CodeWrongCount, "must have at least one element")
	}
	for i, v := range visitors {
		c.visitor(v, "visitors["+strconv.Itoa(i)+"]")
	}
}

// compare holds the header against the datafile; events of another project are
// not held against it.
func (c *checker) compare(catalog *Catalog) {
	if catalog == nil {
		return
	}
	if c.accountID != "" && c.accountID != catalog.AccountID {
		c.fail("account_id", CodeWrongAccount, "not the account of the datafile")
	}
	if c.projectID != "" && c.projectID != catalog.ProjectID {
		c.fail("project_id", CodeWrongProject, "not the project of the datafile")
		return
	}
	c.catalog = catalog
}

func (c *checker) visitor(value any, path string) {
	visitor, ok := value.(map[string]any)
	if !ok {
		c.fail(path, CodeWrongType, "must be an object")
		return
	}
	id, hasID := c.text(visitor, path, "visitor_id") // "" is somebody: events.md section 2
	attributes, _ := c.array(visitor, path, "attributes", true)
	for i, a := range attributes {
		c.attribute(a, path+".attributes["+strconv.Itoa(i)+"]")
	}
	snapshots, ok := c.array(visitor, path, "snapshots", true)
	if !ok || !c.one(snapshots, path+".snapshots") {
		return
	}
	path += ".snapshots[0]"
	snapshot, ok := snapshots[0].(map[string]any)
	if !ok {
		c.fail(path, CodeWrongType, "must be an object")
		return
	}
	_, hasDecisions := snapshot["decisions"]
	campaign, hasCampaign := c.decisions(snapshot, path)
	events, ok := c.array(snapshot, path, "events", true)
	if !ok || !c.one(events, path+".events") {
		return
	}
	e := checkedEvent{path: path + ".events[0]"}
	event, ok := events[0].(map[string]any)
	if !ok {
		c.fail(e.path, CodeWrongType, "must be an object")
		return
	}
	entity, key := c.event(event, &e)
	switch {
	case key == activated && !hasDecisions:
		c.fail(path, CodeDecisionMissing, "an event campaign_activated needs decisions")
	case key == "":
	case key != activated && hasDecisions:
		c.fail(path+".decisions", CodeDecisionUnexpected, "a conversion carries no decisions")
	}
	if key == activated && hasCampaign && entity.ok && entity.text != campaign {
		c.fail(e.path+".entity_id", CodeEntityMismatch, "must equal decisions[0].campaign_id")
	}
	if key != "" && key != activated && entity.ok {
		c.conversion(entity.text, key, e.path)
	}
	e.isImpression = key == activated
	if e.isImpression {
		c.impressions++
	}
	if hasID {
		e.visitor = c.hash(c.projectID, id)
		e.content = c.contentOf(visitor)
		c.events = append(c.events, e)
	}
}

func (c *checker) attribute(value any, path string) {
	attribute, ok := value.(map[string]any)
	if !ok {
		c.fail(path, CodeWrongType, "must be an object")
		return
	}
	c.text(attribute, path, "entity_id")
	c.text(attribute, path, "key")
	if kind, ok := c.text(attribute, path, "type"); ok && kind != "custom" {
		c.fail(path+".type", CodeWrongValue, `must be "custom"`)
	}
	switch v, ok := attribute["value"]; v := v.(type) {
	case string, bool:
	case json.Number:
		c.finite(v, path+".value")
	default:
		if !ok {
			c.fail(path+".value", CodeMissing, "is required")
			return
		}
		c.fail(path+".value", CodeWrongType, "must be a string, a number or a boolean")
	}
}

// decisions checks the list of an impression and returns its campaign.
func (c *checker) decisions(snapshot map[string]any, path string) (campaign string, ok bool) {
	decisions, ok := c.array(snapshot, path, "decisions", false)
	path += ".decisions"
	if !ok || !c.one(decisions, path) {
		return "", false
	}
	path += "[0]"
	decision, ok := decisions[0].(map[string]any)
	if !ok {
		c.fail(path, CodeWrongType, "must be an object")
		return "", false
	}
	campaign, ok = c.textOrNull(decision, path, "campaign_id")
	c.text(decision, path, "experiment_id")
	switch v, has := decision["variation_id"]; v := v.(type) {
	case nil:
		if !has {
			c.fail(path+".variation_id", CodeMissing, "is required; null if there is none")
		}
	case string:
		if v == "" || strings.Trim(v, "0123456789") != "" {
			c.fail(path+".variation_id", CodeWrongValue, "must be digits, or null")
		}
	default:
		c.fail(path+".variation_id", CodeWrongType, "must be a string or null")
	}
	c.metadata(decision, path)
	return campaign, ok
}

func (c *checker) metadata(decision map[string]any, path string) {
	value, ok := decision["metadata"]
	path += ".metadata"
	if !ok {
		c.fail(path, CodeMissing, "is required")
		return
	}
	metadata, ok := value.(map[string]any)
	if !ok {
		c.fail(path, CodeWrongType, "must be an object")
		return
	}
	c.text(metadata, path, "flag_key")
	c.text(metadata, path, "rule_key")
	if kind, ok := c.text(metadata, path, "rule_type"); ok && !slices.Contains([]string{"experiment", "feature-test", "rollout", "holdout"}, kind) {
		c.fail(path+".rule_type", CodeWrongValue, "must be experiment, feature-test, rollout or holdout")
	}
	c.text(metadata, path, "variation_key")
	c.boolean(metadata, path, "enabled")
	if _, ok := metadata["cmab_uuid"]; ok {
		if uuid, ok := c.text(metadata, path, "cmab_uuid"); ok && uuid == "" {
			c.fail(path+".cmab_uuid", CodeEmptyID, "must not be empty; leave it out")
		}
	}
}

// maybe is a text that may be missing.
type maybe struct {
	text string
	ok   bool
}

// event checks what impressions and conversions share. key is "" if it is no
// usable text.
func (c *checker) event(event map[string]any, e *checkedEvent) (entity maybe, key string) {
	key = c.id(event, e.path, "key")
	if key == activated {
		entity.text, entity.ok = c.textOrNull(event, e.path, "entity_id")
	} else {
		entity.text, entity.ok = c.text(event, e.path, "entity_id")
	}
	if uuid, ok := c.text(event, e.path, "uuid"); ok {
		if e.uuid, e.hasUUID = parseUUID(uuid); !e.hasUUID {
			c.fail(e.path+".uuid", CodeWrongValue, "must be a version 4 UUID in lower case")
		}
	}
	if e.timestamp, e.hasTime = c.integer(event, e.path, "timestamp", true); e.hasTime {
		switch {
		case e.timestamp > c.latest:
			c.fail(e.path+".timestamp", CodeFutureTimestamp, "in the future")
		case e.timestamp < earliestPlausible:
			c.reportAt(e.path+".timestamp", CodeImplausibleTime, SeverityWarning, "before 1974: is it in seconds? It must be milliseconds since 1970")
		}
	}
	c.integer(event, e.path, "revenue", false)
	if value, ok := event["value"]; ok {
		if n, ok := value.(json.Number); ok {
			c.finite(n, e.path+".value")
		} else {
			c.fail(e.path+".value", CodeWrongType, "must be a number")
		}
	}
	if tags, ok := event["tags"]; ok {
		if _, ok := tags.(map[string]any); !ok {
			c.fail(e.path+".tags", CodeWrongType, "must be an object")
		}
	}
	return entity, key
}

// conversion checks what only conversions must have.
func (c *checker) conversion(entity, key, path string) {
	if entity == "" {
		c.fail(path+".entity_id", CodeEmptyID, "a conversion needs the id of its event")
	}
	if c.catalog == nil {
		return
	}
	switch id, ok := c.catalog.Events[key]; {
	case !ok:
		c.fail(path+".key", CodeUnknownEvent, "the datafile has no event of this key")
	case entity != "" && entity != id:
		c.fail(path+".entity_id", CodeEventIDMismatch, "not the id of the datafile's event of this key")
	}
}

// finite reports a number that no double holds.
func (c *checker) finite(n json.Number, path string) {
	if f, err := n.Float64(); err != nil || math.IsInf(f, 0) {
		c.fail(path, CodeWrongValue, "too large a number")
	}
}

func parseUUID(s string) (uuid [16]byte, ok bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' || s[14] != '4' || strings.IndexByte("89ab", s[19]) < 0 {
		return uuid, false
	}
	digits := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	if strings.Trim(digits, "0123456789abcdef") != "" { // hex.Decode takes capitals too
		return uuid, false
	}
	_, err := hex.Decode(uuid[:], []byte(digits))
	return uuid, err == nil
}
