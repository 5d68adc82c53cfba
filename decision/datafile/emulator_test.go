package datafile

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/decision"
	"sortition/internal/emulator"
)

// The recipes of config.md section 10 once more, one after the other, against the
// emulator: what tests, `processor dev` and compose use.
func TestRecipesAgainstTheEmulator(t *testing.T) {
	em := emulator.Start(t, emulator.Options{Datafile: text("1", ""), SDKKey: "KEY", Token: "TOK"})
	serves := func(content []byte, options ...emulator.DatafileOption) {
		t.Helper()
		_, err := em.SetDatafile("KEY", content, options...)
		require.NoError(t, err)
	}
	last := func() emulator.Attempt {
		all := em.Attempts(string(emulator.RouteDatafile))
		return all[len(all)-1]
	}
	noTag := emulator.ETag("")
	serves(text("1", ""), emulator.LastModified(dateA), noTag)
	p := pollAt(t, em.URLs().Datafile, func(c *PollConfig) { c.Timeout = 300 * time.Millisecond })

	p.again() // row 1
	assert.Equal(t, http.StatusNotModified, last().Status)
	assert.Equal(t, dateA, last().Header.Get("If-Modified-Since"))
	assert.Equal(t, []string{"→1"}, p.revisions())

	serves(text("1", "other"), emulator.LastModified(""), noTag) // row 2
	p.again()
	assert.Equal(t, http.StatusOK, last().Status)
	assert.Equal(t, string(text("1", "")), p.installed())
	p.again()
	assert.Empty(t, last().Header.Values("If-Modified-Since"))

	serves([]byte(`{"version":"4",`), emulator.LastModified(dateB), noTag) // row 3
	p.again()
	require.Error(t, p.Status().Err)
	p.again()
	assert.NotEqual(t, dateB, last().Header.Get("If-Modified-Since"))
	assert.Equal(t, string(text("1", "")), p.installed())

	serves(text("2", "")) // row 4, and the emulator's own ETag
	p.again()
	p.again()
	assert.Equal(t, http.StatusNotModified, last().Status)
	assert.NotEmpty(t, last().Header.Get("If-None-Match"))
	serves(text("1", "back"))
	p.again()
	assert.Equal(t, []string{"→1", "1→2", "2→1"}, p.revisions())

	for _, status := range []int{http.StatusForbidden, http.StatusNotFound} { // row 5
		before := em.Requests(emulator.RouteDatafile)
		em.Script(string(emulator.RouteDatafile), status)
		p.again()
		assert.Equal(t, before+1, em.Requests(emulator.RouteDatafile))
		assert.Equal(t, status, p.Status().HTTPStatus)
		assert.Equal(t, "1", p.Current().Revision())
	}

	before, began := em.Requests(emulator.RouteDatafile), time.Now() // row 6
	serves(text("3", ""))
	em.Script(string(emulator.RouteDatafile), 500, 500, 500)
	p.again()
	assert.Equal(t, before+4, em.Requests(emulator.RouteDatafile))
	assert.GreaterOrEqual(t, time.Since(began), 600*time.Millisecond)
	assert.Equal(t, "3", p.Current().Revision())

	for token, status := range map[Secret]int{"TOK": http.StatusOK, "WRONG": http.StatusForbidden} { // row 7
		authenticated := pollAt(t, em.URLs().AuthDatafile, func(c *PollConfig) { c.AccessToken = token })
		assert.Equal(t, status, authenticated.Status().HTTPStatus)
		assert.Equal(t, status == http.StatusOK, authenticated.Current() != nil)
	}

	serves([]byte(`{"version":"5"}`)) // row 8
	p.again()
	require.ErrorIs(t, p.Status().Err, decision.ErrUnsupportedVersion)
	assert.Equal(t, "3", p.Current().Revision())

	id, err := em.AddFault(emulator.Fault{Route: string(emulator.RouteDatafile), Hang: true}) // row 9
	require.NoError(t, err)
	p.again()
	require.ErrorContains(t, p.Status().Err, "deadline exceeded")
	require.True(t, em.RemoveFault(id))
	assert.Equal(t, "3", p.Current().Revision())

	hook, err := NewWebhook(WebhookConfig{ // row 10
		Projects:   []WebhookProject{{ID: "880022", SDKKeys: []string{"KEY"}, Secret: "s3cret"}},
		Refreshers: map[string]Refresher{"KEY": p},
	})
	require.NoError(t, err)
	serves(text("4", ""))
	body := webhookMessage("880022", "4")
	assert.Equal(t, http.StatusBadRequest, post(hook, body, sign(body, "wrong")).Code)
	assert.Equal(t, http.StatusNoContent, post(hook, webhookMessage("1", "4"), "").Code)
	assert.Equal(t, "3", p.Current().Revision())
	assert.Equal(t, http.StatusNoContent, post(hook, body, sign(body, "s3cret")).Code)
	eventually(t, "revision 4", func() bool { return p.Current().Revision() == "4" })
}

// A connection cut amid the datafile is a failure like another, and is retried.
func TestConnectionCutAmidTheDatafile(t *testing.T) {
	em := emulator.Start(t, emulator.Options{Datafile: text("1", ""), SDKKey: "KEY"})
	_, err := em.AddFault(emulator.Fault{Route: string(emulator.RouteDatafile), Cut: emulator.CutReply, Times: 2})
	require.NoError(t, err)
	p := pollAt(t, em.URLs().Datafile, nil)
	assert.Equal(t, "1", p.Current().Revision())
	assert.Equal(t, 3, em.Requests(emulator.RouteDatafile))
}
