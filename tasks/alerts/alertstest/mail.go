package alertstest

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"
)

// mailServer is an SMTP server that keeps what it is given. It takes it from anybody on a plain connection, as a relay on
// the same machine does, and from one user after STARTTLS.
type mailServer struct {
	addr  string
	cert  tls.Certificate
	taken func(id, text string)
}

func startMail(t testing.TB, cert tls.Certificate, taken func(id, text string)) *mailServer {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &mailServer{addr: listener.Addr().String(), cert: cert, taken: taken}
	var sessions sync.WaitGroup
	sessions.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			sessions.Go(func() {
				defer conn.Close()
				s.serve(conn)
			})
		}
	})
	t.Cleanup(func() { _ = listener.Close() })
	return s
}

// serve speaks with one client.
func (s *mailServer) serve(conn net.Conn) {
	lines := bufio.NewReader(conn)
	say := func(text string) { fmt.Fprintf(conn, "%s\r\n", text) }
	say("220 mail.test ESMTP")
	known, secure := true, false
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			say("250-mail.test")
			if secure {
				say("250 AUTH PLAIN")
			} else {
				say("250 STARTTLS")
			}
		case "STARTTLS":
			say("220 2.0.0 go on")
			secured := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{s.cert}, MinVersion: tls.VersionTLS12})
			if secured.HandshakeContext(context.Background()) != nil {
				return
			}
			conn, lines, known, secure = secured, bufio.NewReader(secured), false, true
		case "AUTH":
			_, encoded, _ := strings.Cut(rest, " ")
			decoded, _ := base64.StdEncoding.DecodeString(encoded)
			if known = string(decoded) == "\x00forebay\x00"+Password; !known {
				say("535 5.7.8 " + Planted + " is what this server knows of you")
				continue
			}
			say("235 2.7.0 welcome")
		case "MAIL", "RCPT", "RSET", "NOOP":
			if !known {
				say("530 5.7.0 log in first")
				continue
			}
			say("250 2.0.0 ok")
		case "DATA":
			say("354 go on")
			if s.read(lines) {
				say("250 2.0.0 taken")
			} else {
				say("554 5.6.0 no letter")
			}
		case "QUIT":
			say("221 2.0.0 bye")
			return
		default:
			say("502 5.5.1 what")
		}
	}
}

// read takes a letter.
func (s *mailServer) read(lines *bufio.Reader) bool {
	var data strings.Builder
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return false
		}
		if line == ".\r\n" {
			break
		}
		data.WriteString(strings.TrimPrefix(line, "."))
	}
	letter, err := mail.ReadMessage(strings.NewReader(data.String()))
	if err != nil {
		return false
	}
	body := letter.Body
	if letter.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
		body = quotedprintable.NewReader(body)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return false
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(letter.Header.Get("Subject"))
	if err != nil || letter.Header.Get("To") == "" || letter.Header.Get("From") == "" || letter.Header.Get("Date") == "" {
		return false
	}
	s.taken(letter.Header.Get("Message-ID"), subject+"\n\n"+strings.ReplaceAll(string(text), "\r\n", "\n"))
	return true
}
