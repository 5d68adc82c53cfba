package odp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"sortition/schemas"
)

func TestAppendActivityEvent(t *testing.T) {
	by := Sender{Name: "sortition", Version: "1"}
	const tail = `"idempotence_id":"i","data_source_type":"sdk","data_source":"sortition","data_source_version":"1"`
	for _, row := range []struct{ activity, want string }{
		{`{"user_id":"u","odp_events":[{"action":"a"}]}`,
			`{"type":"fullstack","action":"a","identifiers":{"fs_user_id":"u"},"data":{` + tail + `}}`},
		{`{"user_id":"u","identifiers":{"vuid":"v","email":"e"},"odp_events":[{"type":"t","action":"a","identifiers":{"email":"f","x":"y"},"data":{}}]}`,
			`{"type":"t","action":"a","identifiers":{"email":"f","fs_user_id":"u","vuid":"v","x":"y"},"data":{` + tail + `}}`},
		{`{"user_id":"u","odp_events":[{"type":"","action":"a","data":{"z":null,"n":1.50,"big":123456789012345678901,"b":true,"s":"<é>","data_source":"mine"}}]}`,
			`{"type":"fullstack","action":"a","identifiers":{"fs_user_id":"u"},"data":{"idempotence_id":"i","data_source_type":"sdk","data_source":"mine",` +
				`"data_source_version":"1","b":true,"big":123456789012345678901,"n":1.50,"s":"<é>","z":null}}`},
		// Who names the user otherwise is heard.
		{`{"user_id":"u","odp_events":[{"action":"a","identifiers":{"fs_user_id":"w"}}]}`,
			`{"type":"fullstack","action":"a","identifiers":{"fs_user_id":"w"},"data":{` + tail + `}}`},
		{`{"user_id":"u","identifiers":{"FS-User-ID":"w"},"odp_events":[{"action":"a"}]}`,
			`{"type":"fullstack","action":"a","identifiers":{"fs_user_id":"w"},"data":{` + tail + `}}`},
		{`{"user_id":"u","identifiers":{"fs_user_id":"w"},"odp_events":[{"action":"a","identifiers":{"FS_USER_ID":"x"}}]}`,
			`{"type":"fullstack","action":"a","identifiers":{"FS_USER_ID":"x","fs_user_id":"w"},"data":{` + tail + `}}`},
		{`{"user_id":"","identifiers":{"vuid":"v"},"odp_events":[{"action":"a"}]}`,
			`{"type":"fullstack","action":"a","identifiers":{"vuid":"v"},"data":{` + tail + `}}`},
		{`{"user_id":"","odp_events":[{"action":"a"}]}`, "invalid ODP event: there must be an identifier"},
		{`{"user_id":"u","odp_events":[{"action":""}]}`, "invalid ODP event: the action must not be empty"},
		{`{"user_id":"u","identifiers":{"vuid":""},"odp_events":[{"action":"a"}]}`, "invalid ODP event: an identifier is empty"},
		{`{"user_id":"u","odp_events":[{"action":"a","identifiers":{"fs_user_id":""}}]}`, "invalid ODP event: an identifier is empty"},
		{`{"user_id":"u","odp_events":[{"action":"a","data":{"list":[1]}}]}`, "invalid ODP event: data values must be strings, finite numbers, booleans or null"},
		{`{"user_id":"u","odp_events":[{"action":"a","data":{"o":{}}}]}`, "invalid ODP event: data values must be strings, finite numbers, booleans or null"},
	} {
		var d schemas.Decoder
		var a schemas.Activity
		require.NoError(t, d.Decode([]byte(row.activity), &a))
		got, err := by.AppendActivityEvent([]byte("x"), &a, &a.ODPEvents[0], "i")
		if err != nil {
			require.ErrorIs(t, err, ErrInvalidEvent)
			require.Equal(t, row.want, err.Error())
			require.Equal(t, "x", string(got))
			continue
		}
		require.Equal(t, "x"+row.want, string(got), row.activity)
	}
}

// An event of an activity is the event a program would have sent with the same content.
func TestActivityEventsAreEvents(t *testing.T) {
	by := Sender{Name: "n", Version: "v"}
	r := rand.New(rand.NewPCG(1, 2))
	text := func() string { return []string{"", "a", "fs_user_id", "FS-USER-ID", "ü\"<", "b"}[r.IntN(6)] }
	var d schemas.Decoder
	numSent := 0
	for range 2000 {
		identifiers, data := map[string]string{}, map[string]any{}
		for range r.IntN(4) {
			identifiers[text()] = text()
			data[text()] = []any{nil, true, 1.5, "s", text(), []any{}, -3}[r.IntN(7)]
		}
		kind, action := text(), text()
		record, err := json.Marshal(map[string]any{"user_id": "u", "odp_events": []any{
			map[string]any{"type": kind, "action": action, "identifiers": identifiers, "data": data},
		}})
		require.NoError(t, err)
		var a schemas.Activity
		require.NoError(t, d.Decode(record, &a))
		got, gotErr := by.AppendActivityEvent(nil, &a, &a.ODPEvents[0], "i")
		hasUser := false
		for name := range identifiers {
			hasUser = hasUser || isUserID(name)
		}
		if !hasUser {
			identifiers[FSUserID] = "u"
		}
		want, wantErr := AppendEvent(nil, &Event{Type: kind, Action: action, Identifiers: identifiers, Data: data, ID: "i"}, by)
		require.Equal(t, fmt.Sprint(wantErr), fmt.Sprint(gotErr))
		require.Equal(t, string(want), string(got))
		if gotErr == nil {
			numSent++
		}
	}
	require.Greater(t, numSent, 100)
}

// What is written without the standard encoder is what that would write.
func TestWriteJSON(t *testing.T) {
	var texts []any
	for c := range rune(0x180) {
		texts = append(texts, string(c), "a"+string(c)+"b")
	}
	for _, value := range append(texts, "", "\u2028", "<&>", nil, true, 3, json.Number("-1.50e+3"), json.Number("0"), 1.5) {
		var got, want bytes.Buffer
		writeJSON(&got, value)
		e := json.NewEncoder(&want)
		e.SetEscapeHTML(false)
		require.NoError(t, e.Encode(value))
		require.Equal(t, strings.TrimSuffix(want.String(), "\n"), got.String())
	}
}
