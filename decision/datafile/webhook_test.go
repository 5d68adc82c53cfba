package datafile

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func webhookMessage(project, revision string) []byte {
	return fmt.Appendf(nil, `{"project_id":%s,"timestamp":1767225600,"event":"project.datafile_updated",`+
		`"data":{"revision":%s,"origin_url":"https://o/K.json","cdn_url":"https://c/K.json","environment":"Production"}}`, project, revision)
}

func sign(body []byte, secret string) string {
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write(body)
	return "sha1=" + hex.EncodeToString(mac.Sum(nil))
}

func post(h http.Handler, body []byte, signature string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, WebhookPath, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	if signature != "" {
		r.Header.Set("X-Hub-Signature", signature)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// told notes the revisions it is asked to refresh to.
type told []string

func (t *told) Refresh(revision string) { *t = append(*t, revision) }

func TestWebhook(t *testing.T) {
	var one, longer, open told
	hook, err := NewWebhook(WebhookConfig{
		Projects: []WebhookProject{
			{ID: "1", SDKKeys: []string{"KEY"}, Secret: "first"},
			{ID: "2", SDKKeys: []string{"KEYLONGER"}, Secret: "second"},
			{ID: "3", SDKKeys: []string{"OPEN"}, SkipSignatureCheck: true},
		},
		Refreshers: map[string]Refresher{"KEY": &one, "KEYLONGER": &longer, "OPEN": &open},
	})
	require.NoError(t, err)
	for _, c := range []struct {
		name      string
		body      []byte
		signature func([]byte) string
		status    int
	}{
		{"unsigned", webhookMessage("1", "8"), func([]byte) string { return "" }, 400},
		{"signed by another project", webhookMessage("1", "8"), func(b []byte) string { return sign(b, "second") }, 400},
		{"no prefix", webhookMessage("1", "8"), func(b []byte) string { return strings.TrimPrefix(sign(b, "first"), "sha1=") }, 400},
		{"signature of another body", webhookMessage("1", "8"), func(b []byte) string { return sign(append(b, ' '), "first") }, 400},
		{"half a signature", webhookMessage("1", "8"), func(b []byte) string { return sign(b, "first")[:20] }, 400},
		{"unknown project, signed by a known one", webhookMessage("9", "8"), func(b []byte) string { return sign(b, "first") }, 204},
		{"not JSON", []byte(`nonsense`), func(b []byte) string { return sign(b, "first") }, 400},
		{"not an object", []byte(`[]`), func(b []byte) string { return sign(b, "first") }, 400},
		{"no project", []byte(`{}`), func(b []byte) string { return sign(b, "first") }, 400},
		{"another event", bytes.Replace(webhookMessage("1", "8"), []byte("datafile_updated"), []byte("deleted"), 1),
			func(b []byte) string { return sign(b, "first") }, 204},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, c.status, post(hook, c.body, c.signature(c.body)).Code)
			assert.Empty(t, one)
			assert.Empty(t, longer)
			assert.Empty(t, open)
		})
	}
	body := webhookMessage(`"1"`, `"8"`) // numbers as texts
	require.Equal(t, 204, post(hook, body, sign(body, "first")).Code)
	assert.Equal(t, told{"8"}, one)
	assert.Empty(t, longer, "keys are compared whole")
	require.Equal(t, 204, post(hook, webhookMessage("3", "null"), "").Code)
	assert.Equal(t, told{""}, open)
}

func TestWebhookRefusesOtherRequests(t *testing.T) {
	hook, err := NewWebhook(WebhookConfig{})
	require.NoError(t, err)
	send := func(method, contentType, body string) int {
		r := httptest.NewRequest(method, WebhookPath, strings.NewReader(body))
		r.Header.Set("Content-Type", contentType)
		w := httptest.NewRecorder()
		hook.ServeHTTP(w, r)
		return w.Code
	}
	assert.Equal(t, 405, send(http.MethodGet, "application/json", ""))
	assert.Equal(t, 415, send(http.MethodPost, "text/plain", "{}"))
	assert.Equal(t, 415, send(http.MethodPost, "", "{}"))
	assert.Equal(t, 413, send(http.MethodPost, "application/json", strings.Repeat(" ", maxWebhookMessage+1)))
	assert.Equal(t, 204, send(http.MethodPost, "application/json", `{"project_id":1}`))
}

func TestWebhookConfiguration(t *testing.T) {
	_, err := NewWebhook(WebhookConfig{Projects: []WebhookProject{{ID: "1"}, {Secret: "x"}, {ID: "1", Secret: "x"}}})
	require.ErrorContains(t, err, "project 1 has no secret")
	require.ErrorContains(t, err, "project 1 has no id")
	require.ErrorContains(t, err, "configured twice")
}
