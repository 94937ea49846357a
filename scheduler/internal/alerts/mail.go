package alerts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/wneessen/go-mail"

	"github.com/forebay-queue/forebay/tasks/alerts"
)

// mail sends a message by SMTP. Its id is the message's, so that one which is sent twice is shown once by many programs.
func (s *Sender) mail(ctx context.Context, settings alerts.Mail, message alerts.Message) error {
	letter, err := letterOf(settings, message)
	if err != nil {
		return err
	}
	letter.SetDateWithValue(s.now())
	client, err := mailClient(settings, s.roots)
	if err != nil {
		return err
	}
	if err := client.DialAndSendWithContext(ctx, letter); err != nil {
		return mailProblem(ctx, err)
	}
	return nil
}

func letterOf(settings alerts.Mail, message alerts.Message) (*mail.Msg, error) {
	letter := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := letter.From(settings.From); err != nil {
		return nil, errors.New("the address it is from cannot be read")
	}
	if err := letter.To(settings.To...); err != nil {
		return nil, errors.New("an address it goes to cannot be read")
	}
	w := wordsOf(message)
	letter.Subject(w.Title)
	letter.SetMessageIDWithValue(message.ID + "@forebay")
	letter.SetGenHeader("Auto-Submitted", "auto-generated")
	letter.SetBodyString(mail.TypeTextPlain, w.plain())
	return letter, nil
}

func mailClient(settings alerts.Mail, roots *x509.CertPool) (*mail.Client, error) {
	host, portText, err := net.SplitHostPort(settings.Server)
	if err != nil {
		return nil, errors.New("its server must be a host and a port")
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, errors.New("the port of its server is no number")
	}
	secure := &tls.Config{ServerName: host, RootCAs: roots, MinVersion: tls.VersionTLS12}
	options := []mail.Option{mail.WithTLSConfig(secure), mail.WithPort(port), mail.WithTimeout(sendWithin), mail.WithoutNoop()}
	switch settings.TLS {
	case "tls":
		options = append(options, mail.WithSSL())
	case "off":
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if settings.Username != "" {
		password, err := settings.Password.Read()
		if err != nil {
			return nil, err
		}
		options = append(options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(settings.Username), mail.WithPassword(password))
	}
	client, err := mail.NewClient(host, options...)
	if err != nil {
		return nil, fmt.Errorf("its server cannot be used: %w", err)
	}
	return client, nil
}

// mailProblem says what went wrong without what the server has said, which may hold anything.
func mailProblem(ctx context.Context, err error) error {
	var sending *mail.SendError
	var network *net.OpError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("the mail server has not answered within %s", sendWithin)
	case errors.As(err, &sending):
		return &RefusedError{Text: fmt.Sprintf("the mail server refuses the message with %d", sending.ErrorCode())}
	case errors.As(err, &network):
		return fmt.Errorf("the mail server cannot be reached: %s: %w", network.Op, network.Err)
	case errors.Is(err, mail.ErrPlainAuthNotSupported), errors.Is(err, mail.ErrNoSupportedAuthDiscovered):
		return errors.New("the mail server offers no way to log in over this connection")
	}
	return errors.New("the mail server refuses the connection, the TLS or the login")
}
