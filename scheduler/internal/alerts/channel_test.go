package alerts

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/alerts"
	"github.com/forebay-queue/forebay/tasks/alerts/alertstest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// sample is a message with an alert of each kind of words: grave, of the whole deployment, with what could be a tag, over.
func sample() alerts.Message {
	return alerts.Message{ID: "alert_0123456789abcdef", Channel: "ops", At: noon, Alerts: []alerts.Alert{
		{Name: alerts.NoWorker, Severity: alerts.Critical, Since: noon.Add(-time.Minute), Summary: "No worker is alive."},
		{Name: alerts.BreakerOpen, Subject: "first", Severity: alerts.Warning, Since: noon.Add(-time.Minute), Summary: "Its calls end as <!channel> & more."},
		{Name: alerts.TierDown, Subject: "low", Severity: alerts.Critical, Since: noon.Add(-time.Hour), Until: noon, Summary: "All endpoints of the tier low are down."},
	}}
}

// given has secrets in an environment of the test's own.
func given(values map[string]string, name string) alerts.Secret {
	return alerts.Secret{Env: name, Lookup: func(name string) (string, bool) { value, found := values[name]; return value, found }}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	secrets := map[alerts.Type]string{alerts.Slack: "", alerts.Email: "", alerts.Lark: "lark-secret", alerts.DingTalk: "ding-secret", alerts.Webhook: alertstest.WebhookSecret}
	for kind, format := range formats {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			made, err := format.post("https://example.com/hook?access_token=t", secrets[kind], sample(), noon)
			require.NoError(t, err)
			body := made.body
			if body == nil {
				body, err = json.Marshal(made.Body)
				require.NoError(t, err)
			}
			var indented strings.Builder
			fmt.Fprintf(&indented, "POST %s\n", made.URL)
			require.NoError(t, made.Header.Write(&indented))
			var value any
			require.NoError(t, json.Unmarshal(body, &value))
			text, err := json.MarshalIndent(value, "", "  ")
			require.NoError(t, err)
			golden(t, string(kind)+".txt", indented.String()+"\n"+string(text)+"\n")
		})
	}
	t.Run("email", func(t *testing.T) {
		t.Parallel()
		letter, err := letterOf(alerts.Mail{From: "forebay@example.com", To: []string{"ops@example.com", "b@example.com"}}, sample())
		require.NoError(t, err)
		letter.SetDateWithValue(noon)
		var text strings.Builder
		_, err = letter.WriteTo(&text)
		require.NoError(t, err)
		golden(t, "email.txt", strings.ReplaceAll(text.String(), "\r\n", "\n"))
	})
}

func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), text, "go test ./scheduler/internal/alerts -update writes it anew")
}

// The signatures that others have computed, with openssl, of the same secrets and times.
func TestSignatures(t *testing.T) {
	t.Parallel()
	// printf '' | openssl dgst -sha256 -hmac $'1599360473\ndemo' -binary | base64
	assert.Equal(t, "l1N0gAcBjdwBvGm1xMjOF0XSyaLRpR7tuO5dHfhAYc8=", sign("1599360473\ndemo", ""))
	// printf '1577262236757\nthis is secret' | openssl dgst -sha256 -hmac 'this is secret' -binary | base64
	assert.Equal(t, "hmPWwU+7lVdm3ZZz0r9tSfx0L4Q26jWOZr9+Gs6EZQM=", sign("this is secret", "1577262236757\nthis is secret"))
}

// channelsOf are the five channels of receivers.
func channelsOf(r *alertstest.Receivers) []alerts.Channel {
	values := map[string]string{
		"LARK": alertstest.LarkSecret, "DINGTALK": alertstest.DingTalkSecret, "WEBHOOK": alertstest.WebhookSecret, "PASSWORD": alertstest.Password,
	}
	var list []alerts.Channel
	for _, kind := range alerts.Types {
		channel := alerts.Channel{Name: string(kind), Type: kind}
		values["URL_"+string(kind)] = r.URL(string(kind))
		channel.URL = given(values, "URL_"+string(kind))
		if name := strings.ToUpper(string(kind)); values[name] != "" {
			channel.Secret = given(values, name)
		}
		if kind == alerts.Email {
			channel.Mail = alerts.Mail{
				Server: r.MailServer(), TLS: "starttls", Username: "forebay", Password: given(values, "PASSWORD"),
				From: "forebay@example.com", To: []string{"ops@example.com"},
			}
		}
		list = append(list, channel)
	}
	return list
}

func TestAllTypesAreTaken(t *testing.T) {
	t.Parallel()
	receivers, sender := alertstest.Start(t), NewSender()
	defer sender.Close()
	sender.roots = receivers.Roots()
	many := sample()
	for i := range 60 {
		many.Alerts = append(many.Alerts, alerts.Alert{Name: alerts.BreakerOpen, Subject: fmt.Sprintf("endpoint-%d", i), Severity: alerts.Warning, Since: noon, Summary: strings.Repeat("x", 200)})
	}
	for _, channel := range channelsOf(receivers) {
		require.NoError(t, sender.Send(t.Context(), channel, sample()), channel.Name)
		require.NoError(t, sender.Send(t.Context(), channel, many), channel.Name)
		taken := receivers.Taken(channel.Name)
		require.Len(t, taken, 2, channel.Name)
		for _, word := range []string{"first", "ForebayBreakerOpen.md", "low"} {
			assert.Contains(t, taken[0].Text, word, channel.Name)
		}
		if channel.Type != alerts.Webhook { // which has all of them
			assert.Contains(t, taken[1].Text, "and 43 more", channel.Name)
		}
	}
}

// What receivers answer that they do not take, and what is said of it: never the URL, a secret or what they answered.
func TestRefusals(t *testing.T) {
	t.Parallel()
	planted := alertstest.Planted
	for name, test := range map[string]struct {
		kind   alerts.Type
		status int
		after  string
		body   string
		want   string
		rest   time.Duration
	}{
		"slack's word":        {kind: alerts.Slack, status: 404, body: "no_service", want: "it answered with 404 no_service; look whether its URL still holds"},
		"slack's page":        {kind: alerts.Slack, status: 500, body: "<p>" + planted, want: "it answered with 500"},
		"slack asks for less": {kind: alerts.Slack, status: 429, after: "30", want: "it answered with 429", rest: 30 * time.Second},
		"a redirect":          {kind: alerts.Slack, status: 302, want: "redirects are not followed"},
		"lark's signature":    {kind: alerts.Lark, status: 200, body: `{"code":19021,"msg":"` + planted + `"}`, want: "code 19021"},
		"lark asks for less":  {kind: alerts.Lark, status: 200, body: `{"code":11232,"msg":"frequency limited"}`, want: "fewer messages", rest: time.Minute},
		"lark's other codes":  {kind: alerts.Lark, status: 200, body: `{"code":1,"msg":"` + planted + `"}`, want: "Lark refuses the message (code 1)"},
		"no answer of lark":   {kind: alerts.Lark, status: 200, body: planted, want: "is it the address of a custom bot?"},
		"lark's old answer":   {kind: alerts.Lark, status: 200, body: `{"StatusCode":0,"StatusMessage":"success"}`},
		"dingtalk's security": {kind: alerts.DingTalk, status: 200, body: `{"errcode":310000,"errmsg":"sign not match ` + planted + `"}`, want: "errcode 310000"},
		"dingtalk's token":    {kind: alerts.DingTalk, status: 200, body: `{"errcode":300001,"errmsg":"token is not exist"}`, want: "does not know the bot"},
		"dingtalk's rate":     {kind: alerts.DingTalk, status: 200, body: `{"errcode":130101,"errmsg":"send too fast"}`, want: "fewer messages", rest: 10 * time.Minute},
		"a webhook's body":    {kind: alerts.Webhook, status: 403, body: planted, want: "it answered with 403"},
		"a webhook's 204":     {kind: alerts.Webhook, status: 204},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			receivers, sender := alertstest.Start(t), NewSender()
			defer sender.Close()
			receivers.Answer(string(test.kind), func(w http.ResponseWriter, _ *http.Request) {
				if test.after != "" {
					w.Header().Set("Retry-After", test.after)
				}
				w.Header().Set("Location", "https://example.com/"+planted)
				w.WriteHeader(test.status)
				fmt.Fprint(w, test.body)
			})
			err := sender.Send(t.Context(), channelOf(receivers, test.kind), sample())
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), planted)
			var refused *RefusedError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, test.rest, refused.After)
		})
	}
}

func channelOf(r *alertstest.Receivers, kind alerts.Type) alerts.Channel {
	for _, channel := range channelsOf(r) {
		if channel.Type == kind {
			return channel
		}
	}
	return alerts.Channel{}
}

// Whatever goes wrong, no error holds a secret.
func TestNoErrorHoldsASecret(t *testing.T) {
	t.Parallel()
	planted := alertstest.Planted
	receivers, sender := alertstest.Start(t), NewSender()
	defer sender.Close()
	values := map[string]string{
		"GONE": "http://127.0.0.1:1/" + planted, "NOBODY": "https://nobody.invalid/" + planted, "NO_URL": planted, "SPACES": "http://127.0.0.1:1/ \x7f" + planted,
		"COLON": "http://127.0.0.1:" + planted, "WORD": planted, "LINES": planted + "\n" + planted,
	}
	for _, kind := range []alerts.Type{alerts.Slack, alerts.Lark, alerts.DingTalk, alerts.Webhook} {
		for name := range values {
			channel := channelOf(receivers, kind)
			channel.URL = given(values, name)
			err := sender.Send(t.Context(), channel, sample())
			require.Error(t, err, name)
			require.NotContains(t, err.Error(), planted, name)
		}
	}
	hook := channelOf(receivers, alerts.Webhook)
	for _, name := range []string{"WORD", "LINES", "MISSING"} {
		hook.Secret = given(values, name)
		err := sender.Send(t.Context(), hook, sample())
		require.Error(t, err)
		require.NotContains(t, err.Error(), planted, name)
	}
	sender.roots = receivers.Roots()
	letter := channelOf(receivers, alerts.Email)
	letter.Mail.Password = given(values, "WORD")
	err := sender.Send(t.Context(), letter, sample())
	require.Error(t, err, "the server says what it knows")
	require.NotContains(t, err.Error(), planted)
	letter.Mail.TLS = "tls"
	require.Error(t, sender.Send(t.Context(), letter, sample()), "the server begins in plain")
	letter.Mail.TLS, sender.roots = "starttls", nil
	require.Error(t, sender.Send(t.Context(), letter, sample()), "nobody knows its certificate")

	hang, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	receivers.Answer("slack", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	err = sender.Send(hang, channelOf(receivers, alerts.Slack), sample())
	require.ErrorContains(t, err, "has not answered")
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	require.NotContains(t, err.Error(), planted)
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"": 0, "soon": 0, "-3": 0, "0.5": 500 * time.Millisecond, "30": 30 * time.Second, "999999": mostAfter,
		noon.Add(90 * time.Second).Format(http.TimeFormat): 90 * time.Second, noon.Add(-time.Hour).Format(http.TimeFormat): 0,
	} {
		assert.Equal(t, want, retryAfter(text, noon), text)
	}
}
