package config

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/mail"
	"slices"
	"time"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/alerts"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

// Alerts is what the leading scheduler judges every few seconds, and whom it tells; docs/alerts.md says of each what it means.
type Alerts struct {
	// Enabled is On or Off. Defaults to On: what fires is shown by `forebay alerts list`, also without channels.
	Enabled string `yaml:"enabled"`
	// Without are the names of alerts that are not judged.
	Without []string `yaml:"without"`
	// For is how long a condition holds before its alert fires, by the alert's name, 0s to 24h. Each has a default of its own.
	For map[string]time.Duration `yaml:"for"`
	// ResolveAfter is how long the condition holds no more before the alert is over, 1s to 24h. Defaults to 1m.
	ResolveAfter time.Duration `yaml:"resolve_after"`
	// Group is how long a message waits for what else there is to say, 1s to 10m. Defaults to 15s.
	Group time.Duration `yaml:"group"`
	// Repeat is after how long an alert that still fires is told again, up to 168h; 0s is never.
	Repeat time.Duration `yaml:"repeat"`
	// GiveUpAfter is how long a message is tried that a channel does not take, 1m to 168h. Defaults to 6h.
	GiveUpAfter time.Duration `yaml:"give_up_after"`
	// Oldest is how long the oldest job of a queue may wait, by critical, default, bulk and webhooks, up to 8784h; 0s is not
	// judged. Each has a default of its own: 1m, 30m, 24h and 10m.
	Oldest map[string]time.Duration `yaml:"oldest"`
	// Grown is how many dead letters may be new within an hour, by jobs (by default 10) and webhooks (by default 0), 0 to
	// 1000000.
	Grown map[string]int `yaml:"grown"`
	// Channels are told.
	Channels []AlertChannel `yaml:"channels"`
}

// AlertChannel is somebody who is told.
type AlertChannel struct {
	// Name is unique. 1 to 64 characters of A-Z a-z 0-9 _ . -. Required.
	Name string `yaml:"name"`
	// Type is slack, lark (also Feishu), dingtalk, email or webhook. Required.
	Type string `yaml:"type"`
	// Severity is the least that it is told: warning or critical. Defaults to warning.
	Severity string `yaml:"severity"`
	// Alerts are the names of those that it is told. Defaults to all.
	Alerts []string `yaml:"alerts"`
	// URLEnv names the environment variable that holds the address that is posted to, URLFile the file. It is a secret: who
	// knows it can write there. Not for email.
	URLEnv  string `yaml:"url_env"`
	URLFile string `yaml:"url_file"`
	// SecretEnv names the environment variable that holds what messages are signed with, SecretFile the file. For lark and
	// dingtalk the bot's, if it has one; for webhook required, of the form that webhooks.secrets has.
	SecretEnv  string `yaml:"secret_env"`
	SecretFile string `yaml:"secret_file"`
	// Mail is how an email is sent.
	Mail AlertMail `yaml:"mail"`
}

// AlertMail is how an email is sent.
type AlertMail struct {
	// Server is the host and port of a server that takes mail, such as smtp.example.com:587.
	Server string `yaml:"server"`
	// TLS is starttls, tls (from the first byte, usually port 465) or off. Defaults to starttls.
	TLS string `yaml:"tls"`
	// Username is who logs in; without one nobody does.
	Username string `yaml:"username"`
	// PasswordEnv names the environment variable that holds the password, PasswordFile the file.
	PasswordEnv  string `yaml:"password_env"`
	PasswordFile string `yaml:"password_file"`
	// From is the address that it is from, To those that it goes to.
	From string   `yaml:"from"`
	To   []string `yaml:"to"`
}

const (
	minAlertTime      = time.Second
	maxAlertTime      = 24 * time.Hour
	maxAlertGroup     = 10 * time.Minute
	maxAlertWeek      = 168 * time.Hour
	minAlertGiveUp    = time.Minute
	maxAlertOldest    = 8784 * time.Hour
	maxAlertGrown     = 1_000_000
	mostAlertChannels = 50
)

// AlertSettings are what the file says of alerts; nil where they are off.
func (f *File) AlertSettings() *alerts.Settings {
	if f.Alerts.Enabled == Off {
		return nil
	}
	settings := alerts.DefaultSettings()
	settings.Off, settings.ResolveAfter, settings.Group = f.Alerts.Without, f.Alerts.ResolveAfter, f.Alerts.Group
	settings.Repeat, settings.GiveUpAfter = f.Alerts.Repeat, f.Alerts.GiveUpAfter
	maps.Copy(settings.For, f.Alerts.For)
	maps.Copy(settings.Oldest, f.Alerts.Oldest)
	maps.Copy(settings.Grown, f.Alerts.Grown)
	for _, channel := range f.Alerts.Channels {
		settings.Channels = append(settings.Channels, f.alertChannel(channel))
	}
	return &settings
}

func (f *File) alertChannel(c AlertChannel) alerts.Channel {
	secret := func(env, file string) alerts.Secret {
		return alerts.Secret{Env: env, File: file, Lookup: f.Catalog.LookupEnv}
	}
	return alerts.Channel{
		Name: c.Name, Type: alerts.Type(c.Type), Severity: alerts.Severity(c.Severity), Alerts: c.Alerts,
		URL: secret(c.URLEnv, c.URLFile), Secret: secret(c.SecretEnv, c.SecretFile),
		Mail: alerts.Mail{
			Server: c.Mail.Server, TLS: c.Mail.TLS, Username: c.Mail.Username,
			Password: secret(c.Mail.PasswordEnv, c.Mail.PasswordFile), From: c.Mail.From, To: c.Mail.To,
		},
	}
}

func (a *Alerts) fillDefaults() {
	defaults := alerts.DefaultSettings()
	a.Enabled = cmp.Or(a.Enabled, On)
	a.ResolveAfter = cmp.Or(a.ResolveAfter, defaults.ResolveAfter)
	a.Group = cmp.Or(a.Group, defaults.Group)
	a.GiveUpAfter = cmp.Or(a.GiveUpAfter, defaults.GiveUpAfter)
	for i := range a.Channels {
		c := &a.Channels[i]
		c.Severity = cmp.Or(c.Severity, string(alerts.Warning))
		if c.Type == string(alerts.Email) {
			c.Mail.TLS = cmp.Or(c.Mail.TLS, "starttls")
		}
	}
}

func (a Alerts) validate() []error {
	var problems []error
	told := func(problem string, path ...string) {
		problems = append(problems, refuse(problem, append([]string{"alerts"}, path...)...))
	}
	between := func(value, least, most time.Duration, path ...string) {
		if value < least || value > most {
			told(fmt.Sprintf("must be %s to %s, got %s", catalog.FormatDuration(least), catalog.FormatDuration(most), catalog.FormatDuration(value)), path...)
		}
	}
	if a.Enabled != On && a.Enabled != Off {
		told("must be on or off", "enabled")
	}
	between(a.ResolveAfter, minAlertTime, maxAlertTime, "resolve_after")
	between(a.Group, minAlertTime, maxAlertGroup, "group")
	between(a.Repeat, 0, maxAlertWeek, "repeat")
	if a.Repeat > 0 {
		between(a.Repeat, time.Minute, maxAlertWeek, "repeat")
	}
	between(a.GiveUpAfter, minAlertGiveUp, maxAlertWeek, "give_up_after")
	for i, name := range a.Without {
		if problem := unknownName("alert", name, alerts.Names()); problem != "" {
			told(problem, "without", catalog.ListIndex(i))
		}
	}
	defaults := alerts.DefaultSettings()
	for _, name := range slices.Sorted(maps.Keys(a.For)) {
		if problem := unknownName("alert", name, alerts.Names()); problem != "" {
			told(problem, "for", name)
		}
		between(a.For[name], 0, maxAlertTime, "for", name)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Oldest)) {
		if problem := unknownName("queue", name, slices.Sorted(maps.Keys(defaults.Oldest))); problem != "" {
			told(problem, "oldest", name)
		}
		between(a.Oldest[name], 0, maxAlertOldest, "oldest", name)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Grown)) {
		if problem := unknownName("kind of dead letters", name, slices.Sorted(maps.Keys(defaults.Grown))); problem != "" {
			told(problem, "grown", name)
		}
		if a.Grown[name] < 0 || a.Grown[name] > maxAlertGrown {
			told(fmt.Sprintf("must be 0 to %d, got %d", maxAlertGrown, a.Grown[name]), "grown", name)
		}
	}
	return append(problems, a.validateChannels()...)
}

func unknownName(kind, name string, known []string) string {
	if slices.Contains(known, name) {
		return ""
	}
	if meant, found := catalog.Nearest(name, known); found {
		return fmt.Sprintf("there is no %s of that name, did you mean %s?", kind, meant)
	}
	return fmt.Sprintf("there is no %s of that name; there are %v", kind, known)
}

func (a Alerts) validateChannels() []error {
	var problems []error
	if len(a.Channels) > mostAlertChannels {
		problems = append(problems, refuse(fmt.Sprintf("must be at most %d, got %d", mostAlertChannels, len(a.Channels)), "alerts", "channels"))
	}
	names := map[string]bool{}
	for i, channel := range a.Channels {
		told := func(problem string, path ...string) {
			problems = append(problems, refuse(problem, append([]string{"alerts", "channels", catalog.ListIndex(i)}, path...)...))
		}
		switch {
		case !tasks.ValidName(channel.Name):
			told("must be 1 to 64 characters of A-Z a-z 0-9 _ . -", "name")
		case names[channel.Name]:
			told("is that of a channel before; every one needs a name of its own", "name")
		}
		names[channel.Name] = true
		channel.validate(told)
	}
	return problems
}

// validate tells what is wrong with a channel.
func (c AlertChannel) validate(told func(problem string, path ...string)) {
	if !slices.Contains(alerts.Types, alerts.Type(c.Type)) {
		told(fmt.Sprintf("must be slack, lark, dingtalk, email or webhook, got %q", cut(c.Type)), "type")
		return
	}
	if c.Severity != string(alerts.Warning) && c.Severity != string(alerts.Critical) {
		told(fmt.Sprintf("must be warning or critical, got %q", cut(c.Severity)), "severity")
	}
	for i, name := range c.Alerts {
		if problem := unknownName("alert", name, alerts.Names()); problem != "" {
			told(problem, "alerts", catalog.ListIndex(i))
		}
	}
	mail, hook := c.Type == string(alerts.Email), c.Type == string(alerts.Webhook)
	source := func(env, file, name, what string, needed bool, path ...string) {
		at := func(suffix string) []string { return append(slices.Clone(path), name+suffix) }
		switch {
		case env == "" && file == "" && needed:
			told("is missing: name the environment variable that holds "+what+", or its file in "+name+"_file", at("_env")...)
		case env != "" && file != "":
			told("stands beside "+name+"_env; give one of them", at("_file")...)
		case env != "" && !envPattern.MatchString(env):
			told("must be the name of an environment variable, such as ALERTS_URL; "+what+" itself never stands in the file", at("_env")...)
		}
	}
	if !mail {
		source(c.URLEnv, c.URLFile, "url", "the URL", true)
		source(c.SecretEnv, c.SecretFile, "secret", "the secret", hook)
		if c.Type == string(alerts.Slack) && (c.SecretEnv != "" || c.SecretFile != "") {
			told("is of no use: Slack's messages are not signed", "secret_env")
		}
		if c.Mail.Server+c.Mail.TLS+c.Mail.Username+c.Mail.PasswordEnv+c.Mail.PasswordFile+c.Mail.From != "" || len(c.Mail.To) > 0 {
			told("is for the type email only", "mail")
		}
		return
	}
	if c.URLEnv+c.URLFile+c.SecretEnv+c.SecretFile != "" {
		told("has neither URL nor secret as an email; its server stands in mail", "type")
	}
	source(c.Mail.PasswordEnv, c.Mail.PasswordFile, "password", "the password", c.Mail.Username != "", "mail")
	c.Mail.validate(func(problem, field string) { told(problem, "mail", field) })
}

func (m AlertMail) validate(told func(problem, field string)) {
	if host, _, err := net.SplitHostPort(m.Server); err != nil || host == "" || !validListen(m.Server) {
		told(fmt.Sprintf("must be a host and port such as smtp.example.com:587, got %q", cut(m.Server)), "server")
	}
	if !slices.Contains([]string{"starttls", "tls", "off"}, m.TLS) {
		told(fmt.Sprintf("must be starttls, tls or off, got %q", cut(m.TLS)), "tls")
	}
	if m.Username != "" && m.TLS == "off" {
		told("must be starttls or tls: a password is not sent where everybody can read it", "tls")
	}
	if m.Username == "" && m.PasswordEnv+m.PasswordFile != "" {
		told("is missing beside the password", "username")
	}
	if _, err := mail.ParseAddress(m.From); err != nil {
		told("must be an address such as forebay@example.com", "from")
	}
	if len(m.To) == 0 {
		told("is missing: give the addresses that it goes to", "to")
	}
	for _, address := range m.To {
		if _, err := mail.ParseAddress(address); err != nil {
			told(fmt.Sprintf("%q is no address", cut(address)), "to")
		}
	}
}

// checkAlerts looks for the secrets of the channels.
func (f *File) checkAlerts() []Problem {
	var problems []Problem
	settings := f.AlertSettings()
	if settings == nil {
		return nil
	}
	for i, channel := range settings.Channels {
		for _, secret := range []struct {
			alerts.Secret
			read func() (string, error)
			path []string
			name string
		}{
			{channel.URL, channel.Address, nil, "url"},
			{channel.Secret, channel.Secret.Read, nil, "secret"},
			{channel.Mail.Password, channel.Mail.Password.Read, []string{"mail"}, "password"},
		} {
			if !secret.Set() {
				continue
			}
			if _, err := secret.read(); err != nil {
				suffix := "_env"
				if secret.File != "" {
					suffix = "_file"
				}
				path := append([]string{"alerts", "channels", catalog.ListIndex(i)}, secret.path...)
				problems = append(problems, f.problem(append(path, secret.name+suffix), err.Error()))
			}
		}
	}
	return problems
}
