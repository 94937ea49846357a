package alerts

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/forebay-queue/forebay/tasks/alerts"
)

// post is a request as one format has it.
type post struct {
	URL    string
	Header http.Header
	Body   any
	// body is what is sent where it is not nil: what is signed is not to be written a second time.
	body []byte
}

// format makes the request of a message, and reads what was answered with 200.
type format struct {
	post func(url, secret string, message alerts.Message, now time.Time) (post, error)
	read func(body []byte) error
	// gap is the least time from one message to the next.
	gap time.Duration
}

// formats are those of the channels that are posted to. The gaps are those of the bots: Slack takes one message a
// second, Lark five a second and 100 a minute, DingTalk 20 a minute.
var formats = map[alerts.Type]format{ //nolint:exhaustive // an e-mail is not posted
	alerts.Slack:    {post: slackPost, read: readNothing, gap: time.Second},
	alerts.Lark:     {post: larkPost, read: readLark, gap: time.Second},
	alerts.DingTalk: {post: dingTalkPost, read: readDingTalk, gap: 3 * time.Second},
	alerts.Webhook:  {post: webhookPost, read: readNothing},
}

// RefusedError says that the receiver has answered and has not taken the message. It holds nothing of the answer but numbers
// and words that are known.
type RefusedError struct {
	Text string
	// After is how long it asks to be left alone; 0 is not.
	After time.Duration
}

// Error implements error.
func (e *RefusedError) Error() string { return e.Text }

func readNothing([]byte) error { return nil }

// slackPost is an incoming webhook of Slack with blocks; https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks.
func slackPost(address, _ string, message alerts.Message, _ time.Time) (post, error) {
	type text struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	type block struct {
		Type string `json:"type"`
		Text text   `json:"text"`
	}
	w := wordsOf(message)
	blocks := []block{{"header", text{"plain_text", w.Title}}}
	for _, said := range w.Items {
		lines := []string{"*" + angles(said.Head) + "*", angles(said.Summary), angles(said.Times)}
		if said.Do != "" {
			lines = append(lines, "What to do: "+angles(said.Do))
		}
		if said.Runbook != "" {
			lines = append(lines, "<"+said.Runbook+"|Runbook>")
		}
		blocks = append(blocks, block{"section", text{"mrkdwn", strings.Join(lines, "\n")}})
	}
	if w.More > 0 {
		blocks = append(blocks, block{"section", text{"mrkdwn", w.more()}})
	}
	return post{URL: address, Body: struct {
		Text   string  `json:"text"`
		Blocks []block `json:"blocks"`
	}{angles(w.Title), blocks}}, nil
}

// larkPost is an interactive card of a custom bot of Feishu or Lark. Its signature is the HMAC of nothing, with the time and
// the secret as the key; https://open.larksuite.com/document/client-docs/bot-v3/add-custom-bot.
func larkPost(address, secret string, message alerts.Message, now time.Time) (post, error) {
	type text struct {
		Tag     string `json:"tag"`
		Content string `json:"content"`
	}
	type card struct {
		Header struct {
			Template string `json:"template"`
			Title    text   `json:"title"`
		} `json:"header"`
		Elements []any `json:"elements"`
	}
	w := wordsOf(message)
	var made card
	made.Header.Template, made.Header.Title = w.Color, text{"plain_text", w.Title}
	for i, part := range w.markdown() {
		if i > 0 {
			made.Elements = append(made.Elements, map[string]string{"tag": "hr"})
		}
		made.Elements = append(made.Elements, text{"markdown", part})
	}
	body := struct {
		Timestamp string `json:"timestamp,omitempty"`
		Sign      string `json:"sign,omitempty"`
		Type      string `json:"msg_type"`
		Card      card   `json:"card"`
	}{Type: "interactive", Card: made}
	if secret != "" {
		body.Timestamp = strconv.FormatInt(now.Unix(), 10)
		body.Sign = sign(body.Timestamp+"\n"+secret, "")
	}
	return post{URL: address, Body: body}, nil
}

// readLark reads the answer of Lark, which is 200 for many a refusal.
func readLark(body []byte) error {
	var answer struct {
		Code   *int `json:"code"`
		Status *int `json:"StatusCode"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Code == nil && answer.Status == nil {
		return &RefusedError{Text: "Lark has answered what it does not answer; is it the address of a custom bot?"}
	}
	code := answer.Code
	if code == nil {
		code = answer.Status
	}
	switch *code {
	case 0:
		return nil
	case 19021:
		return &RefusedError{Text: "Lark refuses the signature (code 19021): the secret is another one, or this machine's clock is more than an hour off"}
	case 19022:
		return &RefusedError{Text: "Lark refuses this machine's address (code 19022): add it to the bot's list"}
	case 19024:
		return &RefusedError{Text: `Lark refuses the message for its bot's keywords (code 19024): add "Forebay" to them`}
	case 11232, 9499:
		return &RefusedError{Text: fmt.Sprintf("Lark asks for fewer messages (code %d)", *code), After: time.Minute}
	}
	return &RefusedError{Text: fmt.Sprintf("Lark refuses the message (code %d)", *code)}
}

// dingTalkPost is a message in Markdown of a custom bot of DingTalk. Its signature is the HMAC of the time and the secret,
// with the secret as the key; https://open.dingtalk.com/document/robots/custom-robot-access.
func dingTalkPost(address, secret string, message alerts.Message, now time.Time) (post, error) {
	w := wordsOf(message)
	type markdown struct {
		Title string `json:"title"`
		Text  string `json:"text"`
	}
	body := struct {
		Type     string   `json:"msgtype"`
		Markdown markdown `json:"markdown"`
	}{"markdown", markdown{w.Title, "### " + angles(w.Title) + "\n\n" + strings.Join(w.markdown(), "\n\n---\n\n")}}
	if secret == "" {
		return post{URL: address, Body: body}, nil
	}
	parsed, err := url.Parse(address)
	if err != nil {
		return post{}, errors.New("the URL cannot be read")
	}
	stamp := strconv.FormatInt(now.UnixMilli(), 10)
	query := parsed.Query()
	query.Set("timestamp", stamp)
	query.Set("sign", sign(secret, stamp+"\n"+secret))
	parsed.RawQuery = query.Encode()
	return post{URL: parsed.String(), Body: body}, nil
}

// readDingTalk reads the answer of DingTalk, which is 200 for every refusal.
func readDingTalk(body []byte) error {
	var answer struct {
		Code *int `json:"errcode"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Code == nil {
		return &RefusedError{Text: "DingTalk has answered what it does not answer; is it the address of a custom bot?"}
	}
	switch *answer.Code {
	case 0:
		return nil
	case 130101: // it takes none for ten minutes then
		return &RefusedError{Text: "DingTalk asks for fewer messages (errcode 130101)", After: 10 * time.Minute}
	case 300001, 300005:
		return &RefusedError{Text: fmt.Sprintf("DingTalk does not know the bot (errcode %d): the token of its address is another one", *answer.Code)}
	case 310000:
		return &RefusedError{Text: `DingTalk refuses the message for its bot's security settings (errcode 310000): the secret is another one, this machine's clock or address is, or "Forebay" is missing among the keywords`}
	}
	return &RefusedError{Text: fmt.Sprintf("DingTalk refuses the message (errcode %d)", *answer.Code)}
}

// sign is the HMAC-SHA256 of a text in base64.
func sign(key, text string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// Body is what a generic webhook is told.
type Body struct {
	// Type is alert.firing, or alert.resolved where all are over.
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      struct {
		Reminder bool        `json:"reminder"`
		Alerts   []BodyAlert `json:"alerts"`
	} `json:"data"`
}

// BodyAlert is one alert of a Body.
type BodyAlert struct {
	alerts.Alert
	// Status is firing or resolved.
	Status  string `json:"status"`
	Do      string `json:"do"`
	Runbook string `json:"runbook"`
}

// webhookPost is JSON that is signed as jobs' webhooks are, by Standard Webhooks.
func webhookPost(address, secret string, message alerts.Message, now time.Time) (post, error) {
	made := Body{Type: "alert.resolved", Timestamp: message.At.UTC()}
	made.Data.Reminder, made.Data.Alerts = message.Reminder, []BodyAlert{}
	for _, alert := range message.Alerts {
		said := BodyAlert{Alert: alert, Status: alerts.SaysFiring, Do: alerts.Kinds[alert.Name].Do, Runbook: alert.Runbook()}
		if alert.Over() {
			said.Status = alerts.SaysResolved
		} else {
			made.Type = "alert.firing"
		}
		made.Data.Alerts = append(made.Data.Alerts, said)
	}
	body, err := json.Marshal(made)
	if err != nil {
		return post{}, err
	}
	signer, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return post{}, errors.New("its secret is no base64; `forebay webhooks secrets new` makes one")
	}
	signature, err := signer.Sign(message.ID, now, body)
	if err != nil {
		return post{}, fmt.Errorf("sign it: %w", err)
	}
	header := http.Header{}
	header.Set(standardwebhooks.HeaderWebhookID, message.ID)
	header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	return post{URL: address, Header: header, body: body}, nil
}

// word is what Slack answers with: such as invalid_token.
var word = regexp.MustCompile(`^[a-z_]{1,40}$`)
