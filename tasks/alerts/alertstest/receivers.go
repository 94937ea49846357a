// Package alertstest is the receivers of alerts for tests: servers on loopback that take what Slack, Lark, DingTalk, a
// webhook and a mail server take, and check of each what the real one would refuse.
package alertstest

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// What the receivers know. All of it begins alike, so that a test finds it wherever it stands.
const (
	Planted        = "planted-alert-secret"
	LarkSecret     = Planted + "-lark"
	DingTalkSecret = Planted + "-ding"
	Password       = Planted + "-password"
	// token stands in the path of every URL.
	token = Planted + "-token"
)

// WebhookSecret is that of the generic webhook.
var WebhookSecret = "whsec_" + base64.StdEncoding.EncodeToString([]byte(Planted+"-webhook"))

// Types are the receivers, by the names of their channels, which are those of their types.
var Types = []string{"slack", "lark", "dingtalk", "email", "webhook"}

// Taken is a message that a receiver took.
type Taken struct {
	At time.Time
	// Text is all of it, as its receiver got it; a mail's with its quoted-printable undone.
	Text string
	// ID is that of a webhook or a mail.
	ID string
}

// Receivers are one of each type.
type Receivers struct {
	t      testing.TB
	server *httptest.Server
	mail   *mailServer
	roots  *x509.CertPool

	mutex  sync.Mutex
	taken  map[string][]Taken
	answer map[string]http.HandlerFunc
	asked  map[string]int
}

// Start starts them, until the test ends.
func Start(t testing.TB) *Receivers {
	t.Helper()
	r := &Receivers{t: t, taken: map[string][]Taken{}, answer: map[string]http.HandlerFunc{}, asked: map[string]int{}}
	r.server = httptest.NewServer(r)
	t.Cleanup(r.server.Close)
	secure := httptest.NewTLSServer(nil)
	t.Cleanup(secure.Close)
	r.roots = x509.NewCertPool()
	r.roots.AddCert(secure.Certificate())
	r.mail = startMail(t, secure.TLS.Certificates[0], func(id, text string) { r.take("email", Taken{Text: text, ID: id}) })
	return r
}

// URL is where a channel posts to.
func (r *Receivers) URL(channel string) string {
	url := r.server.URL + "/" + channel + "/" + token
	if channel == "dingtalk" {
		url += "?access_token=" + token
	}
	return url
}

// Roots are what the mail server's certificate is signed with.
func (r *Receivers) Roots() *x509.CertPool { return r.roots }

// MailServer is the host and port of the mail server, which after STARTTLS knows the user "forebay" and his Password.
func (r *Receivers) MailServer() string { return r.mail.addr }

// Config is the channels in YAML, two spaces deep. Their secrets stand in files of the folder.
func (r *Receivers) Config(dir string) string {
	r.t.Helper()
	file := func(name, secret string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
			r.t.Fatal(err)
		}
		return path
	}
	return fmt.Sprintf(`  channels:
  - {name: slack, type: slack, url_file: %q}
  - {name: lark, type: lark, url_file: %q, secret_file: %q}
  - {name: dingtalk, type: dingtalk, url_file: %q, secret_file: %q}
  - {name: webhook, type: webhook, url_file: %q, secret_file: %q}
  - name: email
    type: email
    mail: {server: %q, tls: "off", from: forebay@example.com, to: [ops@example.com]}
`, file("slack", r.URL("slack")), file("lark", r.URL("lark")), file("lark-secret", LarkSecret), file("dingtalk", r.URL("dingtalk")),
		file("dingtalk-secret", DingTalkSecret), file("webhook", r.URL("webhook")), file("webhook-secret", WebhookSecret),
		r.MailServer())
}

// Answer has a receiver of HTTP answer otherwise than by taking what is right; nil for that again.
func (r *Receivers) Answer(channel string, answer http.HandlerFunc) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.answer[channel] = answer
}

// Taken is what a receiver has taken, in order.
func (r *Receivers) Taken(channel string) []Taken {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return slices.Clone(r.taken[channel])
}

// Asked is how often a receiver of HTTP was asked.
func (r *Receivers) Asked(channel string) int {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.asked[channel]
}

func (r *Receivers) take(channel string, taken Taken) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	taken.At = time.Now()
	r.taken[channel] = append(r.taken[channel], taken)
}

// ServeHTTP implements http.Handler.
func (r *Receivers) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	channel, rest, _ := strings.Cut(strings.TrimPrefix(request.URL.Path, "/"), "/")
	body, err := io.ReadAll(request.Body)
	r.mutex.Lock()
	answer := r.answer[channel]
	r.asked[channel]++
	r.mutex.Unlock()
	switch {
	case err != nil:
		return
	case answer != nil:
		answer(w, request)
		return
	case rest != token || request.Method != http.MethodPost || !strings.HasPrefix(request.Header.Get("Content-Type"), "application/json"):
		w.WriteHeader(http.StatusNotFound)
		return
	}
	good, id := "ok", ""
	switch channel {
	case "slack":
		err = checkSlack(body)
	case "lark":
		if err = checkLark(body, time.Now()); err != nil {
			fmt.Fprint(w, `{"code":19021,"msg":"sign match fail or timestamp is not within one hour from current time"}`)
		}
		good = `{"StatusCode":0,"StatusMessage":"success","code":0,"data":{},"msg":"success"}`
	case "dingtalk":
		if err = checkDingTalk(request, body, time.Now()); err != nil {
			fmt.Fprint(w, `{"errcode":310000,"errmsg":"sign not match"}`)
		}
		good = `{"errcode":0,"errmsg":"ok"}`
	case "webhook":
		id = request.Header.Get(standardwebhooks.HeaderWebhookID)
		err = checkWebhook(request.Header, body)
	default:
		err = fmt.Errorf("there is no receiver %q", channel)
	}
	if err != nil {
		r.t.Errorf("the receiver %s: %v", channel, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.take(channel, Taken{Text: string(body), ID: id})
	fmt.Fprint(w, good)
}

func checkSlack(body []byte) error {
	var message struct {
		Text   string
		Blocks []struct {
			Type string
			Text struct{ Type, Text string }
		}
	}
	if err := json.Unmarshal(body, &message); err != nil {
		return err
	}
	if message.Text == "" || len(message.Blocks) < 2 || len(message.Blocks) > 50 {
		return fmt.Errorf("%d blocks beside the text %q", len(message.Blocks), message.Text)
	}
	for i, block := range message.Blocks {
		kind, form, most := "section", "mrkdwn", 3000
		if i == 0 {
			kind, form, most = "header", "plain_text", 150
		}
		if block.Type != kind || block.Text.Type != form || block.Text.Text == "" || len([]rune(block.Text.Text)) > most {
			return fmt.Errorf("block %d is %+v", i, block)
		}
	}
	return nil
}

// checkLark checks what Lark does: the time is in the last hour, and signed.
func checkLark(body []byte, now time.Time) error {
	var message struct {
		Timestamp, Sign string
		Type            string `json:"msg_type"`
		Card            struct {
			Header struct {
				Template string
				Title    struct{ Tag, Content string }
			}
			Elements []struct{ Tag, Content string }
		}
	}
	if err := json.Unmarshal(body, &message); err != nil {
		return err
	}
	seconds, err := strconv.ParseInt(message.Timestamp, 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > time.Hour {
		return fmt.Errorf("its time is %q", message.Timestamp)
	}
	mac := hmac.New(sha256.New, []byte(message.Timestamp+"\n"+LarkSecret))
	if want := base64.StdEncoding.EncodeToString(mac.Sum(nil)); message.Sign != want {
		return fmt.Errorf("it is signed with %q", message.Sign)
	}
	card := message.Card
	if message.Type != "interactive" || card.Header.Title.Tag != "plain_text" || card.Header.Title.Content == "" || len(card.Elements) == 0 ||
		!slices.Contains([]string{"red", "orange", "green"}, card.Header.Template) || len(body) > 20<<10 {
		return fmt.Errorf("it is no card: %s", body)
	}
	return nil
}

// checkDingTalk checks what DingTalk does.
func checkDingTalk(request *http.Request, body []byte, now time.Time) error {
	query := request.URL.Query()
	ms, err := strconv.ParseInt(query.Get("timestamp"), 10, 64)
	if err != nil || now.Sub(time.UnixMilli(ms)).Abs() > time.Hour {
		return fmt.Errorf("its time is %q", query.Get("timestamp"))
	}
	mac := hmac.New(sha256.New, []byte(DingTalkSecret))
	fmt.Fprintf(mac, "%d\n%s", ms, DingTalkSecret)
	if want := base64.StdEncoding.EncodeToString(mac.Sum(nil)); query.Get("sign") != want || query.Get("access_token") != token {
		return fmt.Errorf("it is signed with %q", query.Get("sign"))
	}
	var message struct {
		Type     string `json:"msgtype"`
		Markdown struct{ Title, Text string }
	}
	if err := json.Unmarshal(body, &message); err != nil {
		return err
	}
	if message.Type != "markdown" || message.Markdown.Title == "" || message.Markdown.Text == "" || len(body) > 20_000 {
		return fmt.Errorf("it is no Markdown: %s", body)
	}
	return nil
}

func checkWebhook(header http.Header, body []byte) error {
	verifier, err := standardwebhooks.NewWebhook(WebhookSecret)
	if err != nil {
		return err
	}
	return verifier.Verify(body, header)
}
