package catalog

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/targets"
)

// Webhooks is how jobs and batches tell of their ends: where a message may go, how it is signed, and how often it is tried.
type Webhooks struct {
	// AllowHTTP lets targets be reached without TLS, too.
	AllowHTTP bool `yaml:"allow_http"`
	// AllowNetworks are networks, such as 10.1.0.0/16, that may be reached although they are not public, at any port.
	AllowNetworks []string `yaml:"allow_networks"`
	// Ports are those of public targets. Defaults to 443 and 8443, and with AllowHTTP 80 and 8080.
	Ports []int `yaml:"ports"`
	// Schedule are the waits before the second attempt and those after it, each 1s to 168h, up to 50. Defaults to those that
	// Standard Webhooks suggests: 5s, 5m, 30m, 2h, 5h, 10h, 14h, 20h and 24h.
	Schedule []time.Duration `yaml:"schedule"`
	// Timeout bounds an attempt as a whole, 1s to 2m. Defaults to 15s.
	Timeout time.Duration `yaml:"timeout"`
	// Slots is how many attempts one worker makes at once, beside its jobs, 1 to 1000. Defaults to 32.
	Slots int `yaml:"slots"`
	// PerTarget and PerTenant are how many attempts are out at once, of all workers together, to one host and for one
	// tenant, 1 to 1000. They default to 8 and 24.
	PerTarget int `yaml:"per_target"`
	PerTenant int `yaml:"per_tenant"`
	// InlineBytes is the size of the largest message that holds its result; a larger result is linked to, 1024 to 4194304.
	// Defaults to 262144.
	InlineBytes int `yaml:"inline_bytes"`
	// PublicURL is the base of the addresses at which receivers reach the HTTP interface, such as
	// https://forebay.example.com. Without one a large result is not linked to.
	PublicURL string `yaml:"public_url"`
	// LinkExpires is how long such a link works, 1m to 720h. Defaults to 72h.
	LinkExpires time.Duration `yaml:"link_expires"`
	// Secrets are what messages are signed with. A tenant without any can ask for no webhooks.
	Secrets []WebhookSecret `yaml:"secrets"`
	// Subscriptions are told of every batch of their tenant.
	Subscriptions []Subscription `yaml:"subscriptions"`
}

// WebhookSecret is a named secret of a tenant.
type WebhookSecret struct {
	// Tenant is whose it is, DefaultTenant where none is named, and Name what its jobs call it, by default
	// tasks.DefaultSecret.
	Tenant string `yaml:"tenant"`
	Name   string `yaml:"name"`
	// Keys are where its values are, the newest first, 1 to 4. Each message is signed with all of them, so that a receiver
	// may have either while a secret is changed.
	Keys []SecretSource `yaml:"keys"`
}

// SecretSource is where a secret is: an environment variable or a file.
type SecretSource struct {
	// Env names the environment variable that holds it, File the file. One of them.
	Env  string `yaml:"env"`
	File string `yaml:"file"`
}

// String says where it is.
func (s SecretSource) String() string {
	if s.File != "" {
		return "the file " + s.File
	}
	return "the environment variable " + s.Env
}

// ReplyStreams is how long results stay in the streams that jobs name with reply_stream.
type ReplyStreams struct {
	// MaxLen is about how many entries a stream keeps, the newest, 1 to 10000000. Defaults to 100000.
	MaxLen int `yaml:"max_len"`
	// MaxAge is about how long an entry is kept, 1m to 8784h. Defaults to 168h.
	MaxAge time.Duration `yaml:"max_age"`
}

func (v *validation) replyStreams() {
	replies := v.catalog.ReplyStreams
	v.number(at("reply_streams", "max_len"), replies.MaxLen, 1, 10_000_000)
	v.duration(at("reply_streams", "max_age"), replies.MaxAge, time.Minute, maxRetention)
}

// Subscription is a target that is told of every batch of a tenant, unless the batch names a webhook of its own.
type Subscription struct {
	// Tenant is whose batches it is told of. Defaults to DefaultTenant.
	Tenant string `yaml:"tenant"`
	// URL is where the messages go.
	URL string `yaml:"url"`
	// Secret names what they are signed with. Defaults to tasks.DefaultSecret.
	Secret string `yaml:"secret"`
	// Events are some of tasks.BatchEvents. Defaults to all.
	Events []string `yaml:"events"`
}

const (
	maxAttempts      = 50
	maxScheduledWait = 7 * 24 * time.Hour
	maxSecretKeys    = 4
	// secretPrefix begins every secret: without it the SDKs do not agree on what it means.
	secretPrefix   = "whsec_"
	minSecretBytes = 24
	maxSecretBytes = 64
)

func (w *Webhooks) fillDefaults() {
	if len(w.Schedule) == 0 {
		w.Schedule = []time.Duration{
			5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour,
			20 * time.Hour, 24 * time.Hour,
		}
	}
	fill(&w.Timeout, 15*time.Second)
	fill(&w.Slots, 32)
	fill(&w.PerTarget, 8)
	fill(&w.PerTenant, 24)
	fill(&w.InlineBytes, 256<<10)
	fill(&w.LinkExpires, 72*time.Hour)
	for i := range w.Secrets {
		fill(&w.Secrets[i].Tenant, DefaultTenant)
		fill(&w.Secrets[i].Name, tasks.DefaultSecret)
	}
	for i := range w.Subscriptions {
		fill(&w.Subscriptions[i].Tenant, DefaultTenant)
		fill(&w.Subscriptions[i].Secret, tasks.DefaultSecret)
	}
	w.PublicURL = strings.TrimSuffix(w.PublicURL, "/")
}

func (v *validation) webhooks() {
	w, path := &v.catalog.Webhooks, at("webhooks")
	for i, network := range w.AllowNetworks {
		if _, err := netip.ParsePrefix(network); err != nil {
			v.refuse(below(path, "allow_networks", ListIndex(i)), "must be a network such as 10.1.0.0/16 or fd00::/8")
		}
	}
	for i, port := range w.Ports {
		v.number(below(path, "ports", ListIndex(i)), port, 1, 65535)
	}
	if len(w.Schedule) > maxAttempts {
		v.refuse(below(path, "schedule"), "has %d waits; at most %d", len(w.Schedule), maxAttempts)
	}
	for i, wait := range w.Schedule {
		v.duration(below(path, "schedule", ListIndex(i)), wait, time.Second, maxScheduledWait)
	}
	v.duration(below(path, "timeout"), w.Timeout, time.Second, 2*time.Minute)
	v.duration(below(path, "link_expires"), w.LinkExpires, time.Minute, 720*time.Hour)
	v.number(below(path, "slots"), w.Slots, 1, 1000)
	v.number(below(path, "per_target"), w.PerTarget, 1, 1000)
	v.number(below(path, "per_tenant"), w.PerTenant, 1, 1000)
	v.number(below(path, "inline_bytes"), w.InlineBytes, 1<<10, 4<<20)
	if w.PublicURL != "" {
		parsed, err := url.Parse(w.PublicURL)
		if err != nil || parsed.Host == "" || (parsed.Scheme != "https" && parsed.Scheme != "http") || parsed.User != nil || parsed.RawQuery != "" || parsed.Fragment != "" {
			v.refuse(below(path, "public_url"), "must be the base of the HTTP interface as others reach it, such as https://forebay.example.com")
		}
	}
	for i, secret := range w.Secrets {
		v.webhookSecret(below(path, "secrets", ListIndex(i)), i, secret)
	}
	if len(v.problems) == 0 { // the guard needs good networks and ports
		v.catalog.index.guard = targets.New(w.targets())
		for i, subscription := range w.Subscriptions {
			v.subscription(below(path, "subscriptions", ListIndex(i)), subscription)
		}
	}
}

func (v *validation) webhookSecret(path []string, i int, secret WebhookSecret) {
	if !tasks.ValidName(secret.Tenant) {
		v.refuse(below(path, "tenant"), "a name must be 1 to 64 characters of A-Z a-z 0-9 _ . -")
	}
	if !tasks.ValidName(secret.Name) {
		v.refuse(below(path, "name"), "a name must be 1 to 64 characters of A-Z a-z 0-9 _ . -")
	}
	for _, before := range v.catalog.Webhooks.Secrets[:i] {
		if before.Tenant == secret.Tenant && before.Name == secret.Name {
			v.refuse(path, "the secret %q of tenant %q stands here twice; give one secret several keys", secret.Name, secret.Tenant)
		}
	}
	if len(secret.Keys) == 0 || len(secret.Keys) > maxSecretKeys {
		v.refuse(below(path, "keys"), "must be 1 to %d places, the newest first: - env: NAME or - file: PATH", maxSecretKeys)
	}
	for j, key := range secret.Keys {
		place := below(path, "keys", ListIndex(j))
		switch {
		case (key.Env == "") == (key.File == ""):
			v.refuse(place, "must have env or file, and not both")
		case key.Env != "" && !envPattern.MatchString(key.Env):
			v.refuse(below(place, "env"), "must be the name of an environment variable; the secret itself never stands here")
		}
	}
}

func (v *validation) subscription(path []string, subscription Subscription) {
	webhook := subscription.webhook()
	for _, problem := range slices.Concat(webhook.Validate(tasks.BatchEvents()), []error{v.catalog.checkWebhook(subscription.Tenant, webhook)}) {
		if field := (*tasks.FieldError)(nil); errors.As(problem, &field) {
			v.refuse(below(path, strings.TrimPrefix(field.Field, "webhook.")), "%s", field.Problem)
		}
	}
}

func (s Subscription) webhook() *tasks.Webhook {
	return &tasks.Webhook{URL: s.URL, Secret: s.Secret, Events: s.Events}
}

func (w *Webhooks) targets() targets.Config {
	config := targets.Config{AllowHTTP: w.AllowHTTP}
	for _, network := range w.AllowNetworks {
		if prefix, err := netip.ParsePrefix(network); err == nil {
			config.Allow = append(config.Allow, prefix)
		}
	}
	for _, port := range w.Ports {
		config.Ports = append(config.Ports, uint16(port))
	}
	return config
}

// WebhookGuard says where webhooks may go.
func (c *Catalog) WebhookGuard() *targets.Guard { return c.index.guard }

// CheckWebhook refuses a webhook that could not be delivered, as far as it can be known: its form, its target, and that its
// tenant has the secret that it names. The errors are *tasks.FieldError, joined. Events are those that it may name.
func (c *Catalog) CheckWebhook(tenant string, webhook *tasks.Webhook, events []string) error {
	if webhook == nil {
		return nil
	}
	if problems := webhook.Validate(events); len(problems) > 0 {
		return errors.Join(problems...)
	}
	return c.checkWebhook(tenant, webhook)
}

// checkWebhook is CheckWebhook without what is known of the form.
func (c *Catalog) checkWebhook(tenant string, webhook *tasks.Webhook) error {
	if webhook == nil {
		return nil
	}
	if err := c.index.guard.Check(webhook.URL); err != nil {
		return refuse("webhook.url", "%s", err)
	}
	if _, err := c.webhookSecret(tenant, webhook.Secret); err != nil {
		return refuse("webhook.secret", "%s", err)
	}
	return nil
}

// BatchWebhooks are the webhooks of a batch: its own, or those that its tenant has subscribed.
func (c *Catalog) BatchWebhooks(tenant string, own *tasks.Webhook) []tasks.Webhook {
	if own != nil {
		return []tasks.Webhook{*own}
	}
	var webhooks []tasks.Webhook
	for _, subscription := range c.Webhooks.Subscriptions {
		if subscription.Tenant == tenant {
			webhooks = append(webhooks, *subscription.webhook())
		}
	}
	return webhooks
}

func (c *Catalog) webhookSecret(tenant, name string) (WebhookSecret, error) {
	fill(&name, tasks.DefaultSecret)
	known := []string{}
	for _, secret := range c.Webhooks.Secrets {
		if secret.Tenant != tenant {
			continue
		}
		if secret.Name == name {
			return secret, nil
		}
		known = append(known, secret.Name)
	}
	if len(known) == 0 {
		return WebhookSecret{}, fmt.Errorf("tenant %s has no secret to sign webhooks with; the operator adds one under webhooks.secrets (see `forebay webhooks secrets new`)", tenant)
	}
	return WebhookSecret{}, fmt.Errorf("%s", unknown("secret", name, known))
}

// WebhookKeys are the values of a tenant's secret, the newest first, each whsec_ and base64. They are read anew at each
// call. The error says which place holds none; it never holds any part of one.
func (c *Catalog) WebhookKeys(tenant, name string) ([]string, error) {
	secret, err := c.webhookSecret(tenant, name)
	if err != nil {
		return nil, err
	}
	keys := make([]string, len(secret.Keys))
	for i, source := range secret.Keys {
		if keys[i], err = c.WebhookKey(source); err != nil {
			return nil, fmt.Errorf("the secret %s of tenant %s: %w", secret.Name, tenant, err)
		}
	}
	return keys, nil
}

// WebhookKey reads one value of a secret.
func (c *Catalog) WebhookKey(source SecretSource) (string, error) {
	var value string
	if source.Env != "" {
		value = c.env(source.Env)
	} else {
		content, err := os.ReadFile(source.File)
		if err != nil {
			return "", fmt.Errorf("%s cannot be read: %w", source, pathless(err))
		}
		value = string(content)
	}
	value = strings.TrimRight(value, "\r\n")
	encoded, prefixed := strings.CutPrefix(value, secretPrefix)
	decoded, err := base64.StdEncoding.DecodeString(encoded)
	switch {
	case value == "":
		return "", fmt.Errorf("%s is not set or empty", source)
	case !prefixed || err != nil || len(decoded) < minSecretBytes || len(decoded) > maxSecretBytes:
		return "", fmt.Errorf("%s holds no secret of a webhook: %s and the base64 of %d to %d bytes; `forebay webhooks secrets new` makes one",
			source, secretPrefix, minSecretBytes, maxSecretBytes)
	}
	return value, nil
}
