package hooks

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/targets"
	"github.com/forebay-queue/forebay/tasks/webhooks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	other  = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDx3xLoh3HXAtE"
)

// The vector of the specification: https://github.com/standard-webhooks/standard-webhooks.
func TestTheVectorOfTheSpecification(t *testing.T) {
	t.Parallel()
	m := Message{ID: "msg_p5jXN8AQM9LWM0D4loKWxJek", Body: []byte(`{"test": 2432232314}`), Keys: []string{secret}}
	signature, err := Sign(m, time.Unix(1614265330, 0))
	require.NoError(t, err)
	require.Equal(t, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", signature)
	m.Keys = []string{other, secret}
	signature, err = Sign(m, time.Unix(1614265330, 0))
	require.NoError(t, err)
	require.Regexp(t, `^v1,\S+ v1,g0hM9SsE\+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=$`, signature)
	m.Keys = []string{"whsec_not base64!"}
	_, err = Sign(m, time.Unix(1614265330, 0))
	require.ErrorContains(t, err, "key 1 of the secret is no base64")
	require.NotContains(t, err.Error(), "not base64!")
}

// What the specification's own library makes of what was sent: it verifies with either key while the secret is changed,
// and not when anything about it is another.
func TestWhatIsSentVerifies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sender := NewSender(&http.Client{}, "1.2.3")
		m := Message{
			ID: "msg_1", URL: "https://example.com/hook", Body: []byte(`{"type":"job.succeeded"}`), Keys: []string{secret, other},
			Headers: map[string]string{"X-Team": "7"},
		}
		request, err := sender.request(t.Context(), m, time.Now())
		require.NoError(t, err)
		body, err := io.ReadAll(request.Body)
		require.NoError(t, err)
		require.Equal(t, "forebay/1.2.3", request.Header.Get("User-Agent"))
		for _, key := range m.Keys {
			receiver, err := standardwebhooks.NewWebhook(key)
			require.NoError(t, err)
			require.NoError(t, receiver.Verify(body, request.Header))
			require.Error(t, receiver.Verify([]byte(`{"type":"job.succeeded" }`), request.Header), "a tampered body")
			changed := request.Header.Clone()
			changed.Set("Webhook-Id", "msg_2")
			require.Error(t, receiver.Verify(body, changed), "another id")
			changed = request.Header.Clone()
			changed.Set("Webhook-Timestamp", "1614265330")
			require.Error(t, receiver.Verify(body, changed), "another time")
		}
		wrong, err := standardwebhooks.NewWebhook("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
		require.NoError(t, err)
		require.Error(t, wrong.Verify(body, request.Header), "a wrong secret")
		receiver, err := standardwebhooks.NewWebhook(secret)
		require.NoError(t, err)
		time.Sleep(5*time.Minute + time.Second)
		require.Error(t, receiver.Verify(body, request.Header), "an old timestamp")
	})
}

// Every status has a class, and every class a verdict; only 200 to 299 is a success, and only 410 switches off.
func TestEveryStatus(t *testing.T) {
	t.Parallel()
	for status := 100; status < 1000; status++ {
		class := Classify(t.Context(), Answer{Status: status})
		want := map[int]Class{1: Unavailable, 2: Delivered, 3: Redirected, 4: Rejected}[status/100]
		switch status {
		case 410:
			want = Gone
		case 429:
			want = Throttled
		case 502, 503, 504:
			want = Unavailable
		default:
			if status/100 == 5 {
				want = Faulty
			}
		}
		if want == "" {
			want = Unavailable
		}
		require.Equal(t, want, class, status)
		v, known := verdicts[class]
		require.True(t, known, class)
		require.Equal(t, status/100 == 2, v.state == webhooks.Delivered)
		require.Equal(t, status == 410, v.off)
		require.Equal(t, want == Unavailable, v.effect == webhooks.TargetIll)
	}
	require.Len(t, verdicts, 14)
}

func TestWhatKeepsAnAnswerFromComing(t *testing.T) {
	t.Parallel()
	guard := targets.New(targets.Config{AllowHTTP: true, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
	sender, hasty := NewSender(guard.Client(30*time.Second), ""), NewSender(guard.Client(300*time.Millisecond), "")
	t.Cleanup(sender.Close)
	t.Cleanup(hasty.Close)
	serve := func(handler http.HandlerFunc, secure bool) string {
		server := httptest.NewUnstartedServer(handler)
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		if secure {
			server.StartTLS()
		} else {
			server.Start()
		}
		t.Cleanup(server.Close)
		return server.URL
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	hang := serve(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}, false)
	good := serve(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("ü", 1000))
	}, false)
	for name, test := range map[string]struct {
		url   string
		class Class
	}{
		"good":              {good, Delivered},
		"hangs":             {hang, TimedOut},
		"nobody listens":    {"http://" + closed.Addr().String(), Unreachable},
		"not public":        {"http://127.0.0.2:8080/", Refused},
		"no such name":      {"http://nobody.invalid/", Unresolved},
		"no trusted issuer": {serve(func(http.ResponseWriter, *http.Request) {}, true), Untrusted},
		"no TLS":            {strings.Replace(good, "http:", "https:", 1), Untrusted},
		"a large answer": {serve(func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat("x", 32<<10)); err != nil {
					return
				}
			}
		}, false), Delivered},
		"breaks off": {serve(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half")
		}, false), Broken},
		"drips": {serve(func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, ".")
				_ = http.NewResponseController(w).Flush()
				time.Sleep(20 * time.Millisecond)
			}
		}, false), TimedOut},
		"speaks something else": {serve(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, _ := http.NewResponseController(w).Hijack()
			_, _ = io.WriteString(conn, "220 mail.example ESMTP\r\n")
			_ = conn.Close()
		}, false), Broken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			by := sender
			if test.class == TimedOut {
				by = hasty
			}
			answer, err := by.Send(t.Context(), Message{ID: "msg_1", URL: test.url, Body: []byte("{}"), Keys: []string{secret}})
			require.NoError(t, err)
			require.Equal(t, test.class, Classify(t.Context(), answer), "%v", answer.Err)
			require.LessOrEqual(t, len(answer.Text), mostKept)
			if name == "good" {
				require.Equal(t, strings.Repeat("ü", 256), answer.Text)
			}
		})
	}
	t.Run("given up", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		answer, err := sender.Send(ctx, Message{ID: "msg_1", URL: hang, Keys: []string{secret}})
		require.NoError(t, err)
		require.Equal(t, Abandoned, Classify(ctx, answer))
	})
	t.Run("no URL", func(t *testing.T) {
		t.Parallel()
		_, err := sender.Send(t.Context(), Message{ID: "msg_1", URL: "http://[::1/secret", Keys: []string{secret}})
		require.EqualError(t, err, "the URL of the webhook cannot be read")
	})
}

func TestNextInTheSchedule(t *testing.T) {
	t.Parallel()
	minute, hour := time.Minute, time.Hour
	for name, test := range map[string]struct {
		class Class
		last  bool
		rest  time.Duration
		want  webhooks.Next
	}{
		"delivered":           {Delivered, true, 0, webhooks.Next{State: webhooks.Delivered, Effect: webhooks.TargetWell}},
		"again":               {Unavailable, false, 0, webhooks.Next{State: webhooks.Pending, Reason: "backoff", Wait: minute, Effect: webhooks.TargetIll}},
		"the last":            {Rejected, true, 0, webhooks.Next{State: webhooks.Dead, Reason: "attempts_exhausted", Effect: webhooks.TargetUnknown}},
		"longer than planned": {Throttled, false, hour, webhooks.Next{State: webhooks.Pending, Reason: "retry_after", Wait: hour, Effect: webhooks.TargetUnknown, Rest: hour}},
		"sooner than planned": {Throttled, false, time.Second, webhooks.Next{State: webhooks.Pending, Reason: "backoff", Wait: minute, Effect: webhooks.TargetUnknown, Rest: time.Second}},
		"gone":                {Gone, false, hour, webhooks.Next{State: webhooks.Dead, Reason: "gone", Effect: webhooks.TargetUnknown, Off: true}},
		"refused":             {Refused, false, 0, webhooks.Next{State: webhooks.Dead, Reason: "refused", Effect: webhooks.TargetUnknown}},
		"given up at the end": {Abandoned, true, 0, webhooks.Next{State: webhooks.Pending, Reason: "given_back", Effect: webhooks.TargetUnknown, Free: true}},
	} {
		require.Equal(t, test.want, Next(test.class, minute, test.last, test.rest), name)
	}
}

func TestRetryAfterOfAnAnswer(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	header := func(value string) http.Header { return http.Header{"Retry-After": {value}} }
	require.Equal(t, 2*time.Minute, RetryAfter(Answer{Status: 503, Header: header("120")}, now))
	require.Equal(t, time.Minute, RetryAfter(Answer{Status: 404, Header: header(now.Add(time.Minute).Format(http.TimeFormat))}, now))
	require.Equal(t, 24*time.Hour, RetryAfter(Answer{Status: 429, Header: header("900000")}, now))
	require.Zero(t, RetryAfter(Answer{Status: 200, Header: header("120")}, now))
	require.Zero(t, RetryAfter(Answer{Status: 503, Header: header("-5")}, now))
	require.Zero(t, RetryAfter(Answer{Status: 503, Header: header("soon")}, now))
	require.Zero(t, RetryAfter(Answer{}, now))
}

func TestBodies(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	r := &webhooks.Record{Webhook: webhooks.Webhook{ID: "msg_7", Event: "job.succeeded", Job: "j", Run: 1, At: at}}
	result := tasks.Result{
		ID: "j", Status: tasks.StatusSucceeded, Text: "<b>&</b>", Response: json.RawMessage(`{"a":1.0}`), Attempts: []tasks.Attempt{{Seq: 1}},
	}
	link := func() (string, error) { return "https://forebay.example/r", nil }
	body, err := JobBody(r, result, 1<<20, link)
	require.NoError(t, err)
	require.Contains(t, string(body), `{"type":"job.succeeded","timestamp":"2030-01-02T03:04:05Z","data":{"id":"j"`)
	require.Contains(t, string(body), `"text":"<b>&</b>","response":{"a":1.0}`, "as the HTTP interface shows it")
	require.NotContains(t, string(body), "truncated")
	short, err := JobBody(r, result, len(body)-1, link)
	require.NoError(t, err)
	require.NotContains(t, string(short), "<b>")
	require.Contains(t, string(short), `"truncated":true,"result_url":"https://forebay.example/r"`)
	_, err = JobBody(r, result, 10, func() (string, error) { return "", errors.New("no secret") })
	require.ErrorContains(t, err, "no secret")
	r.Event, r.Batch = "batch.completed", "batch_1"
	body, err = BatchBody(r)
	require.NoError(t, err)
	assert.JSONEq(t, `{"id":"evt_7","object":"event","created_at":1893553445,"type":"batch.completed","data":{"id":"batch_1"}}`, string(body))
}
