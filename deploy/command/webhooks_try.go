package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/webhooks"
)

func newWebhooksTestCommand() *cobra.Command {
	var tenant, url, secret string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "test [--url URL]",
		Short: "Try a target: send it a webhook.test and wait for the outcome",
		Long: `Try a target: send it a webhook.test as any other webhook is sent, by a worker and through the queue, and wait for the
outcome. It is tried once. Without --url all targets are tried that the tenant has subscribed to its batches.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout <= 0 {
				return refuseUsage(cmd, "--timeout must be positive, such as 30s")
			}
			s, err := requireSettings(cmd)
			if err != nil {
				return err
			}
			targets := testTargets(&s.file.Catalog, tenant, url, secret)
			if len(targets) == 0 {
				return refuseUsage(cmd, "give --url; tenant %s has no webhooks.subscriptions in the configuration", tenant)
			}
			return withJobs(cmd, func(jobs *jobsClient) error { return jobs.tryTargets(cmd, tenant, targets, timeout) })
		},
	}
	addTenant(cmd, &tenant)
	cmd.Flags().StringVar(&url, "url", "", "the target (default: those that the tenant has subscribed)")
	cmd.Flags().StringVar(&secret, "secret", "", "`name` of the secret that signs it (default \"default\", or the subscription's)")
	cmd.Flags().DurationVar(&timeout, "timeout", producer.WebhookTestWithin, "how long to wait for the outcome")
	return cmd
}

// testTargets are those to be tried.
func testTargets(known *catalog.Catalog, tenant, url, secret string) []tasks.Webhook {
	if url != "" {
		return []tasks.Webhook{{URL: url, Secret: secret}}
	}
	targets := known.BatchWebhooks(tenant, nil)
	for i := range targets {
		if targets[i].Events = nil; secret != "" {
			targets[i].Secret = secret
		}
	}
	return targets
}

// tryTargets tries targets one after the other.
func (j *jobsClient) tryTargets(cmd *cobra.Command, tenant string, targets []tasks.Webhook, timeout time.Duration) error {
	var problems []error
	replies := []tasks.WebhookStatus{}
	for _, target := range targets {
		status, err := j.tryTarget(cmd, tenant, target, timeout)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		replies = append(replies, status)
		if status.State != string(webhooks.Delivered) {
			problems = append(problems, untaken(status, timeout))
		}
		if !wantsJSON(cmd) && status.Last != nil {
			problems = append(problems, printTried(cmd.OutOrStdout(), status))
		}
	}
	if wantsJSON(cmd) {
		problems = append(problems, printJSON(cmd, map[string]any{"webhooks": replies}))
	}
	return errors.Join(problems...)
}

func (j *jobsClient) tryTarget(cmd *cobra.Command, tenant string, target tasks.Webhook, timeout time.Duration) (tasks.WebhookStatus, error) {
	ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
	defer cancel()
	noticed := make(chan struct{})
	notice := time.AfterFunc(workerNotice, func() {
		defer close(noticed)
		if workers, err := liveWorkers(ctx, j.redis, j.keys); err == nil && len(workers) == 0 {
			fmt.Fprintln(cmd.ErrOrStderr(), "forebay: no worker is alive on this Redis, and webhooks are sent by one; start it with `forebay worker`")
		}
	})
	status, err := j.TestWebhook(ctx, tenant, target)
	if !notice.Stop() {
		<-noticed // nothing is written after the command has returned
	}
	return status, err
}

// untaken says why a test was not delivered.
func untaken(status tasks.WebhookStatus, timeout time.Duration) error {
	host := webhooks.Host(status.URL)
	switch {
	case status.Last == nil && status.Reason != "" && status.State == string(webhooks.Dead):
		return fmt.Errorf("the test of %s was not sent: %s", host, status.Reason)
	case status.Last == nil && status.Waiting != "":
		return fmt.Errorf("the test of %s was not sent within %s: it waited for %s; `forebay webhooks targets` shows how the target stands", host, timeout, status.Waiting)
	case status.Last == nil:
		return fmt.Errorf("the test of %s was not sent within %s; are workers alive? (`forebay status`)", host, timeout)
	case status.Last.Error == webhooks.ErrorOpen:
		return fmt.Errorf("the test of %s was not answered within %s", host, timeout)
	}
	return fmt.Errorf("%s did not take the test: %s; only a status of 200 to 299 takes it", host, outcomeOfAttempt(*status.Last))
}

func printTried(out io.Writer, status tasks.WebhookStatus) error {
	_, err := fmt.Fprintf(out, "%s  %s  %s\n", status.ID, webhooks.Host(status.URL), outcomeOfAttempt(*status.Last))
	if err == nil && status.Last.Answer != "" {
		_, err = fmt.Fprintf(out, "answered: %s\n", printable(status.Last.Answer))
	}
	return err
}

func newSecretsCommand() *cobra.Command {
	var tenant string
	cmd := &cobra.Command{
		Use:   "secrets",
		Short: "List the secrets that sign webhooks, without their values; `secrets new` makes one",
		Long: `List the secrets that sign webhooks, as the configuration has them: by tenant and name, with the place of each value and
its fingerprint, which is the first 16 digits of the SHA-256 of its text: printf %s "$SECRET" | sha256sum | cut -c1-16
on the receiver's side shows whether both have the same. Values are read as this machine has them.`,
		Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := requireSettings(cmd)
			if err != nil {
				return err
			}
			secrets := producer.WebhookSecrets(&s.file.Catalog, tenant)
			if wantsJSON(cmd) {
				return printJSON(cmd, map[string]any{"secrets": secrets})
			}
			return printSecrets(cmd, secrets)
		},
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "whose they are")
	cmd.AddCommand(newSecretsNewCommand())
	return cmd
}

func printSecrets(cmd *cobra.Command, secrets []producer.WebhookSecret) error {
	if len(secrets) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "forebay: no secrets of webhooks are configured; `forebay webhooks secrets new` makes one")
		return nil
	}
	list := table(cmd.OutOrStdout())
	row(list, "TENANT", "NAME", "KEY", "FINGERPRINT", "FROM")
	for _, secret := range secrets {
		for i, key := range secret.Keys {
			which := "newest"
			if i > 0 {
				which = "older"
			}
			from := key.From
			if key.Problem != "" {
				from = key.Problem
			}
			row(list, secret.Tenant, secret.Name, which, dash(key.Fingerprint), from)
		}
	}
	return list.Flush()
}

func newSecretsNewCommand() *cobra.Command {
	var tenant, name string
	cmd := &cobra.Command{
		Use:   "new",
		Short: "Make a secret, and say how it is put into the configuration",
		Long: `Make a secret of 32 random bytes, and say how it is put into the configuration: as the newest of a secret that has one,
so that every attempt is signed with both until all receivers have the new one. It is kept nowhere.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !tasks.ValidName(tenant) || !tasks.ValidName(name) {
				return refuseUsage(cmd, "--tenant and --name must be 1 to 64 characters of A-Z a-z 0-9 _ . -")
			}
			s, err := loadSettings(cmd)
			if err != nil {
				return err
			}
			value := catalog.NewWebhookSecret()
			var older []catalog.SecretSource
			if s.file != nil {
				older = olderKeys(&s.file.Catalog, tenant, name)
			}
			advice := secretAdvice(tenant, name, older)
			if wantsJSON(cmd) {
				return printJSON(cmd, struct {
					Secret      string `json:"secret"`
					Fingerprint string `json:"fingerprint"`
					Config      string `json:"config"`
				}{value, producer.WebhookFingerprint(value), advice})
			}
			// The secret alone goes to standard output, so that it can be put where it belongs without being seen.
			fmt.Fprintf(cmd.ErrOrStderr(), `The secret is shown this once; its fingerprint is %s. Put it where the processes of Forebay find it, such as
into an environment variable, name that first in the configuration, start them anew, and give it to the receivers:

%s
`, producer.WebhookFingerprint(value), advice)
			if len(older) > 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "When all receivers have the new one, take the older out.")
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), value)
			return err
		},
	}
	addTenant(cmd, &tenant)
	cmd.Flags().StringVar(&name, "name", tasks.DefaultSecret, "what webhooks call it")
	return cmd
}

// olderKeys are the values that a secret has, as far as it may keep them beside a new one.
func olderKeys(known *catalog.Catalog, tenant, name string) []catalog.SecretSource {
	for _, secret := range known.Webhooks.Secrets {
		if secret.Tenant == tenant && secret.Name == name {
			return secret.Keys[:min(len(secret.Keys), 1)] // the receivers have the newest, at most
		}
	}
	return nil
}

// secretAdvice is the part of the configuration that has the new secret as the newest.
func secretAdvice(tenant, name string, older []catalog.SecretSource) string {
	variable := newVariable(tenant, name, older)
	var text strings.Builder
	fmt.Fprintf(&text, "webhooks:\n  secrets:\n    - tenant: %s\n      name: %s\n      keys:\n        - env: %s\n", tenant, name, variable)
	for _, source := range older {
		if source.File != "" {
			fmt.Fprintf(&text, "        - file: %q\n", source.File)
		} else {
			fmt.Fprintf(&text, "        - env: %s\n", source.Env)
		}
	}
	return text.String()
}

// newVariable is a name for the environment variable of a new secret that the older ones do not have.
func newVariable(tenant, name string, older []catalog.SecretSource) string {
	upper := strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper("WEBHOOK_"+tenant+"_"+name))
	for n := 1; ; n++ {
		variable := upper
		if n > 1 {
			variable = fmt.Sprintf("%s_%d", upper, n)
		}
		if !slices.Contains(older, catalog.SecretSource{Env: variable}) {
			return variable
		}
	}
}
