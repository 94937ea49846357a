package alerts

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// Settings are how alerts are judged, and whom they are told. They are those of a configuration, checked and with every
// default filled in; DefaultSettings has no channel.
type Settings struct {
	// Off are the names of alerts that are not judged.
	Off []string
	// For is how long a condition holds before its alert fires, by the names of all alerts.
	For map[string]time.Duration
	// ResolveAfter is how long it holds no more before the alert is over.
	ResolveAfter time.Duration
	// Group is how long a message waits for what else there is to say.
	Group time.Duration
	// Repeat is after how long an alert that fires is told again; 0 is never.
	Repeat time.Duration
	// GiveUpAfter is how long a message is tried.
	GiveUpAfter time.Duration
	// Oldest is how long the oldest job of a queue may wait, by queue; 0 is not judged.
	Oldest map[string]time.Duration
	// Grown is how many dead letters may be new in an hour, by "jobs" and "webhooks".
	Grown map[string]int
	// Channels have different names.
	Channels []Channel
}

// DefaultSettings are what a configuration has that says nothing of alerts.
func DefaultSettings() Settings {
	settings := Settings{
		For: map[string]time.Duration{}, ResolveAfter: time.Minute, Group: 15 * time.Second, GiveUpAfter: 6 * time.Hour,
		Oldest: map[string]time.Duration{"critical": time.Minute, "default": 30 * time.Minute, "bulk": 24 * time.Hour, "webhooks": 10 * time.Minute},
		Grown:  map[string]int{"jobs": 10, "webhooks": 0},
	}
	for name, kind := range Kinds {
		settings.For[name] = kind.For
	}
	return settings
}

// Type is the kind of a channel.
type Type string

// The types of channels.
const (
	Slack    Type = "slack"
	Lark     Type = "lark"
	DingTalk Type = "dingtalk"
	Email    Type = "email"
	Webhook  Type = "webhook"
)

// Types are all types of channels.
var Types = []Type{Slack, Lark, DingTalk, Email, Webhook}

// Channel is somebody who is told.
type Channel struct {
	Name string
	Type Type
	// Severity is the least that it is told. Alerts are the names of those that it is told; empty is all.
	Severity Severity
	Alerts   []string
	// URL is where messages are posted to, which is a secret: whoever knows it can write there. Not for Email.
	URL Secret
	// Secret signs: of a bot of Lark or DingTalk, where it is set, and of a Webhook, always.
	Secret Secret
	// Mail is for Email.
	Mail Mail
}

// Mail is how e-mail is sent.
type Mail struct {
	// Server is a host and a port.
	Server string
	// TLS is starttls, tls (from the first byte) or off.
	TLS string
	// Username is empty where the server asks for none.
	Username string
	Password Secret
	From     string
	To       []string
}

// Wants tells whether the channel is told of an alert.
func (c Channel) Wants(a Alert) bool {
	return (c.Severity != Critical || a.Severity == Critical) && (len(c.Alerts) == 0 || slices.Contains(c.Alerts, a.Name))
}

// Secret is where a secret is. It is read anew each time, so that a file can be replaced while a process runs.
type Secret struct {
	// Env names the environment variable that holds it, File the file. One of them; neither for none.
	Env, File string
	// Lookup reads the environment; nil for the process's.
	Lookup func(string) (string, bool)
}

// Address is the URL that is posted to. The error says where none is; it never holds any part of one.
func (c Channel) Address() (string, error) {
	address, err := c.URL.Read()
	if err != nil {
		return "", err
	}
	parsed, err := url.Parse(address)
	if err != nil || parsed.Host == "" || parsed.Scheme != "https" && parsed.Scheme != "http" {
		return "", fmt.Errorf("%s holds no URL: https:// and the rest of it", c.URL)
	}
	return address, nil
}

// mostSecret bounds a secret, so that a wrong file is not taken for one.
const mostSecret = 8 << 10

// Set tells whether there is one.
func (s Secret) Set() bool { return s.Env != "" || s.File != "" }

// String says where it is.
func (s Secret) String() string {
	if s.File != "" {
		return "the file " + s.File
	}
	return "the environment variable " + s.Env
}

// Read is the secret. The error says where none is; it never holds any part of one.
func (s Secret) Read() (string, error) {
	var value string
	if s.File != "" {
		content, err := os.ReadFile(s.File)
		if err != nil {
			return "", fmt.Errorf("%s cannot be read: %w", s, pathless(err))
		}
		value = string(content)
	} else {
		lookup := s.Lookup
		if lookup == nil {
			lookup = os.LookupEnv
		}
		value, _ = lookup(s.Env)
	}
	value = strings.TrimRight(value, "\r\n")
	switch {
	case value == "":
		return "", fmt.Errorf("%s is not set or empty", s)
	case len(value) > mostSecret:
		return "", fmt.Errorf("%s holds more than %d bytes, which is no secret", s, mostSecret)
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "", fmt.Errorf("%s holds line breaks or other characters that no secret has", s)
	}
	return value, nil
}

// pathless takes the path out of an error that names it: the message has it already.
func pathless(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}
