package alerts

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/tasks/alerts"
)

const (
	// sendWithin bounds one try: it ends before a Scheduler that leaves does.
	sendWithin = 8 * time.Second
	// mostRead is how much of an answer is read.
	mostRead = 64 << 10
	// mostAfter is the longest wait that a receiver may ask for.
	mostAfter = time.Hour
)

// Sender sends messages to channels. It may be used by any number of goroutines.
type Sender struct {
	client *http.Client
	// now is the clock of signatures; tests have their own.
	now func() time.Time
	// roots sign the certificates of mail servers; nil for those of the system.
	roots *x509.CertPool
}

// NewSender returns a Sender. Redirects are not followed: what is posted is signed, and not for somebody else.
func NewSender() *Sender {
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one
	transport.MaxIdleConnsPerHost, transport.IdleConnTimeout = 1, 10*time.Second
	return &Sender{now: time.Now, client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close gives up the connections that are idle.
func (s *Sender) Close() { s.client.CloseIdleConnections() }

// Send sends a message to a channel, once. The error says what to do, and holds no secret: neither of the signature nor
// of the URL.
func (s *Sender) Send(ctx context.Context, channel alerts.Channel, message alerts.Message) error {
	ctx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	if channel.Type == alerts.Email {
		return s.mail(ctx, channel.Mail, message)
	}
	format, known := formats[channel.Type]
	if !known {
		return fmt.Errorf("there are no channels of the type %q", channel.Type)
	}
	address, err := channel.Address()
	if err != nil {
		return err
	}
	secret := ""
	if channel.Secret.Set() {
		if secret, err = channel.Secret.Read(); err != nil {
			return err
		}
	}
	made, err := format.post(address, secret, message, s.now())
	if err != nil {
		return err
	}
	body, err := s.post(ctx, made, channel)
	if err != nil {
		return err
	}
	return format.read(body)
}

func (s *Sender) post(ctx context.Context, made post, channel alerts.Channel) ([]byte, error) {
	encoded := made.body
	if encoded == nil {
		var err error
		if encoded, err = json.Marshal(made.Body); err != nil {
			return nil, fmt.Errorf("write it as JSON: %w", err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, made.URL, bytes.NewReader(encoded))
	if err != nil {
		return nil, fmt.Errorf("%s holds no URL that can be posted to", channel.URL)
	}
	for name, values := range made.Header {
		request.Header[name] = values
	}
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	request.Header.Set("User-Agent", "forebay")
	answer, err := s.client.Do(request)
	if err != nil {
		return nil, unreached(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, mostRead))
	switch {
	case answer.StatusCode < 200 || answer.StatusCode > 299:
		return nil, refused(answer, body, channel.Type, s.now())
	case err != nil && channel.Type != alerts.Webhook && channel.Type != alerts.Slack:
		return nil, unreached(err) // the answer's body says whether it was taken
	}
	return body, nil
}

// unreached says why there was no answer, without the URL that the client's errors name.
func unreached(err error) error {
	var ofURL *url.Error
	if errors.As(err, &ofURL) {
		err = ofURL.Err
	}
	var network *net.OpError
	var name *net.DNSError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("it has not answered within %s", sendWithin)
	case errors.As(err, &name):
		return errors.New("its host is not found")
	case errors.As(err, &network):
		return fmt.Errorf("it cannot be reached: %s: %w", network.Op, network.Err)
	}
	return errors.New("it cannot be reached, or breaks off")
}

// refused says what an answer's status means.
func refused(answer *http.Response, body []byte, of alerts.Type, now time.Time) error {
	text := fmt.Sprintf("it answered with %d", answer.StatusCode)
	if said := strings.TrimSpace(string(body)); of == alerts.Slack && word.MatchString(said) {
		text += " " + said
	}
	switch {
	case answer.StatusCode >= 300 && answer.StatusCode <= 399:
		text += "; redirects are not followed, give the address that it leads to"
	case answer.StatusCode == http.StatusUnauthorized, answer.StatusCode == http.StatusForbidden, answer.StatusCode == http.StatusNotFound, answer.StatusCode == http.StatusGone:
		text += "; look whether its URL still holds"
	}
	return &RefusedError{Text: text, After: retryAfter(answer.Header.Get("Retry-After"), now)}
}

// retryAfter reads seconds or a date; 0 is none.
func retryAfter(text string, now time.Time) time.Duration {
	wait := time.Duration(0)
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && seconds > 0 && seconds < 1e6 {
		wait = time.Duration(seconds * float64(time.Second))
	} else if at, err := http.ParseTime(text); err == nil {
		wait = at.Sub(now)
	}
	return min(max(0, wait), mostAfter)
}
