package schemas_test

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"sortition/schemas"
)

func ExampleDecoder_Decode() {
	var d schemas.Decoder
	var a schemas.Activity
	for _, line := range []string{
		`{"user_id":"u-17","attributes":{"plan":"gold","price":1.50},"decide":["checkout"]}`,
		`{"user_id":"u-17","attributes":{"plan":"gold","plan":"silver"}}`,
		`{"user_id":17}`,
	} {
		if err := d.Decode([]byte(line), &a); err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(a.UserID, a.Decide)
		for _, attribute := range a.Attributes {
			fmt.Println(attribute.Key, attribute.Value.Kind, attribute.Value.Text)
		}
	}
	// Output:
	// u-17 [checkout]
	// plan string gold
	// price number 1.50
	// record rejected: duplicate_key: attributes.plan: duplicate key
	// record rejected: wrong_type: user_id: want a string
}

func ExampleCompileMapping() {
	m, err := schemas.CompileMapping(map[string]any{
		"user_id":      "payload.user.id",
		"timestamp":    map[string]any{"from": "ts", "unit": "s"},
		"attributes":   map[string]any{"from": "payload.traits", "rename": map[string]any{"tier": "plan"}},
		"events.0.key": "payload.event",
		"decide":       map[string]any{"const": []any{"checkout"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	var d schemas.Decoder
	var a schemas.Activity
	record := `{"ts":1790000000,"payload":{"user":{"id":17},"traits":{"tier":"gold"},"event":"purchase"}}`
	if err := m.Decode([]byte(record), &d, &a); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(a.UserID, a.Timestamp, a.Attributes[0].Key, a.Events[0].Key, a.Decide)
	// Output: 17 1790000000000 plan purchase [checkout]
}

func ExampleDecisionRecord_AppendJSON() {
	source := schemas.Source{Topic: "activities", Partition: 3, Offset: 1042}
	var ids schemas.IDs
	ids.Start("main", &source, "", false)
	record := schemas.DecisionRecord{
		ID: ids.Text(schemas.IDDecision, "", 0), ActivityID: ids.SourceText(&source), UserID: "u-17", Timestamp: 1790000000000,
		Revision: "42", Datafile: "sha256:9c1e", Source: source,
		Decisions: []schemas.FlagDecision{{FlagKey: "checkout", Variables: `{"limit":3}`}},
	}
	fmt.Printf("%s\n", record.AppendJSON(nil))
	// Output:
	// {"id":"136e90db-5704-48c5-ba9e-d8d0c7dd1904","activity_id":"activities/3/1042","user_id":"u-17","timestamp":1790000000000,"revision":"42","datafile":"sha256:9c1e","source":{"topic":"activities","partition":3,"offset":1042},"segments":null,"decisions":[{"flag_key":"checkout","enabled":false,"variation_key":null,"rule_key":null,"rule_type":null,"experiment_id":null,"variation_id":null,"variables":{"limit":3},"reasons":[]}]}
}

func ExampleRowReader() {
	const text = "user_id,plan,age\nu-1,gold,31\n\"u-2\",,\"\n"
	rows := schemas.NewRowReader(strings.NewReader(text), 16<<20)
	header, _, err := rows.Next()
	if err != nil {
		fmt.Println(err)
		return
	}
	columns, err := schemas.CompileCSV(header, map[string]schemas.CSVType{"age": schemas.CSVNumber})
	if err != nil {
		fmt.Println(err)
		return
	}
	var d schemas.Decoder
	var a schemas.Activity
	for {
		row, line, err := rows.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = columns.Decode(row, &d, &a)
		}
		if reject := (*schemas.Reject)(nil); errors.As(err, &reject) {
			fmt.Printf("line %d: %s: %s\n", line, reject.Code, row)
			continue
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(line, a.UserID, len(a.Attributes))
	}
	// Output:
	// 2 u-1 2
	// line 3: bad_csv: "u-2",,"
}
