package command

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/redistest"
	"github.com/forebay-queue/forebay/tasks/webhooks"
)

// onWebhooks is a Redis that has dead webhooks of a tenant, and a function that runs command lines on it.
func onWebhooks(t *testing.T, count int, config string) (run func(args ...string) outcomeOf, store *webhooks.Store, ids []string) {
	t.Helper()
	client, server := redistest.Embedded(t)
	store, err := webhooks.New(webhooks.Config{Redis: client})
	require.NoError(t, err)
	for i := range count {
		host := "a.example.com"
		if i%2 == 1 {
			host = "b.example.com"
		}
		id := webhooks.ID(fmt.Sprint(i))
		require.NoError(t, store.Create(t.Context(), webhooks.Webhook{
			ID: id, Event: "job.failed", Tenant: "default", To: tasks.Webhook{URL: "https://" + host + "/hooks?token=s3cret"},
			Job: fmt.Sprintf("job-%d", i), Run: 1, At: time.Now().Add(-time.Duration(i) * time.Minute),
		}))
		record, err := store.Get(t.Context(), id, "")
		require.NoError(t, err)
		require.NoError(t, store.Die(t.Context(), record, webhooks.ReasonExhausted))
		ids = append(ids, id)
	}
	return func(args ...string) outcomeOf {
		t.Helper()
		return inProcess(t, "", append(append([]string{"webhooks"}, args...), "--redis", "redis://"+server.Addr(), "--config", config)...)
	}, store, ids
}

func TestWebhooksOnTheCommandLine(t *testing.T) {
	t.Parallel()
	run, store, ids := onWebhooks(t, 4, simulatedFile(t))
	state := func(i int) webhooks.State {
		record, err := store.Get(t.Context(), ids[i], "")
		require.NoError(t, err)
		return record.State
	}
	got := run("list", "--state", "dead", "--target", "b.example.com")
	require.Equal(t, exitOK, got.status, got.stderr)
	require.Equal(t, 3, strings.Count(got.stdout, "\n"), got.stdout)
	require.Contains(t, got.stdout, "dead: attempts_exhausted")
	require.Contains(t, got.stdout, "https://b.example.com/hooks?token=s3cret", "operators see the whole target")
	var listed struct {
		Webhooks []tasks.WebhookStatus `json:"webhooks"`
		More     bool                  `json:"more"`
	}
	require.NoError(t, json.Unmarshal([]byte(run("list", "--limit", "3", "--json").stdout), &listed))
	require.Len(t, listed.Webhooks, 3)
	require.True(t, listed.More)
	require.Equal(t, ids[0], listed.Webhooks[0].ID, "the newest first")
	require.Contains(t, run("list", "--older-than", "90s").stdout, ids[2], run("list", "--older-than", "90s").stderr)
	require.NotContains(t, run("list", "--newer-than", "90s").stdout, ids[2])
	require.JSONEq(t, `{"webhooks":[],"more":false}`, run("list", "--job", "none", "--json").stdout)
	require.Contains(t, run("show", ids[0]).stdout, "job.failed")

	got = run("redeliver", "--state", "dead")
	require.Equal(t, exitFailed, got.status)
	require.Contains(t, got.stderr, "all webhooks that are dead would be sent again; look at them with `forebay webhooks list --state dead` and repeat it with --yes")
	got = run("redeliver", "--target", "a.example.com", "--older-than", "1m", "--dry-run")
	require.Contains(t, got.stderr, "1 webhook; nothing was changed")
	require.Contains(t, got.stdout, ids[2])
	require.Equal(t, webhooks.Dead, state(2))
	require.JSONEq(t, `{"webhooks":1,"left_alone":0,"failed":0}`, run("redeliver", "--target", "a.example.com", "--older-than", "1m", "--json").stdout)
	require.Equal(t, webhooks.Pending, state(2))
	require.Equal(t, webhooks.Dead, state(0))
	require.Equal(t, "webhook "+ids[0]+" is sent again\n", run("redeliver", ids[0]).stdout)
	require.Equal(t, webhooks.Pending, state(0))
	require.Equal(t, "2 webhooks discarded\n", run("discard", "--reason", "attempts_exhausted").stdout)
	require.Equal(t, webhooks.Discarded, state(3))
	require.Equal(t, exitOK, run("discard", ids[3]).status, "it may be repeated")

	for args, want := range map[string]string{
		"discard --state delivered":                 "cannot be discarded",
		"redeliver":                                 "give the ids of webhooks, or which are meant",
		"redeliver " + ids[0] + " --state dead":     "not both",
		"list --state ded":                          `did you mean "dead"`,
		"list --event job.faild":                    `did you mean "job.failed"`,
		"show a/b":                                  "takes the id of one webhook",
		"switch-on none":                            "takes a URL",
		"test --url https://x.example --timeout 0s": "--timeout must be positive",
		"test": "give --url",
	} {
		got := run(strings.Fields(args)...)
		assert.Equal(t, exitUsage, got.status, args)
		assert.Contains(t, got.stderr, want, args)
	}
	require.Contains(t, run("show", "msg_none").stderr, "there is no such webhook")
	require.Contains(t, run("switch-on", "https://x.example/hooks").stderr, "there is no such target")
	require.Contains(t, run("targets").stderr, "no webhook of this tenant has been sent")
}

// More than a hundred need a yes, as jobs do.
func TestManyWebhooksNeedAYes(t *testing.T) {
	t.Parallel()
	run, _, _ := onWebhooks(t, unasked+1, simulatedFile(t))
	got := run("redeliver", "--newer-than", "24h")
	require.Equal(t, exitFailed, got.status)
	require.Contains(t, got.stderr, "more than 100 webhooks would be sent again; look at them with `forebay webhooks list --state dead --newer-than 24h0m0s`")
	require.Equal(t, "50 webhooks sent again\n", run("redeliver", "--newer-than", "24h", "--limit", "50").stdout)
	require.Equal(t, "51 webhooks sent again\n", run("redeliver", "--newer-than", "24h", "--yes").stdout)
	require.Equal(t, "0 webhooks sent again\n", run("redeliver", "--newer-than", "24h").stdout)
}

func TestSecretsOfWebhooks(t *testing.T) {
	t.Parallel()
	older := catalog.NewWebhookSecret()
	file := writeFile(t, "old.secret", older+"\n")
	const text = `
accounts: {sim: {}}
endpoints:
  here: {account: sim, url: "http://127.0.0.1:9/v1", priority: 1, auth: none, simulated: true}
models:
  small: {output: 2.50}
tiers:
  - {name: low, models: [small]}
fallback_tier: low
`
	config := writeFile(t, "forebay.yaml", text+"\nwebhooks:\n  secrets:\n    - name: default\n      keys:\n        - file: "+file+"\n        - env: FOREBAY_TEST_NO_SUCH_SECRET\n")
	run, _, _ := onWebhooks(t, 0, config)
	for _, args := range [][]string{{"secrets"}, {"secrets", "--json"}} {
		got := run(args...)
		require.Equal(t, exitOK, got.status, got.stderr)
		require.Contains(t, got.stdout, producer.WebhookFingerprint(older))
		require.Contains(t, got.stdout, file)
		require.Contains(t, got.stdout, "FOREBAY_TEST_NO_SUCH_SECRET is not set or empty")
		require.NotContains(t, got.stdout+got.stderr, older[len("whsec_"):])
	}
	got := run("secrets", "new")
	require.Equal(t, exitOK, got.status, got.stderr)
	value := strings.TrimSuffix(got.stdout, "\n")
	require.Regexp(t, `^whsec_[A-Za-z0-9+/]{43}=$`, value)
	require.NotEqual(t, got.stdout, run("secrets", "new").stdout)
	require.NotContains(t, got.stderr, value[len("whsec_"):])

	// The advice is a configuration whose newest value is the new one.
	_, advice, found := strings.Cut(got.stderr, "\nwebhooks:\n")
	require.True(t, found, got.stderr)
	advice, _, _ = strings.Cut(advice, "\nWhen all")
	rotated := writeFile(t, "rotated.yaml", text+"\nwebhooks:\n"+advice)
	require.Contains(t, advice, "- env: WEBHOOK_DEFAULT_DEFAULT\n        - file: ")
	run, _, _ = onWebhooks(t, 0, rotated)
	require.Contains(t, run("secrets").stdout, producer.WebhookFingerprint(older))
	require.Equal(t, exitUsage, run("secrets", "list").status)
	require.Equal(t, exitUsage, run("secrets", "new", "--name", "a b").status)
}

func TestStatusShowsDeadLetters(t *testing.T) {
	t.Parallel()
	client, server := redistest.Embedded(t)
	run := func(args ...string) outcomeOf {
		return inProcess(t, "", append(args, "--redis", "redis://"+server.Addr())...)
	}
	require.NotContains(t, run("status").stdout, "DEAD LETTERS")
	store, err := jobstore.New(jobstore.Config{Redis: client})
	require.NoError(t, err)
	defer store.Close()
	_, err = store.Create(t.Context(), jobstore.NewJob{Fingerprint: "f", Job: tasks.Job{V: 1, ID: "a", Tenant: "default", Priority: tasks.PriorityDefault}})
	require.NoError(t, err)
	record, err := store.Start(t.Context(), "a", jobstore.Delivery{ID: "d", Worker: "w", Run: 1})
	require.NoError(t, err)
	result := record.Outcome(tasks.StatusFailed, time.Now())
	result.Error = &tasks.Failure{Class: tasks.ClassUnavailable, Code: "no_route", Message: "all are down"}
	_, err = store.Commit(t.Context(), jobstore.Commit{ID: "a", Run: 1, Delivery: "d", Status: tasks.StatusFailed, Result: result})
	require.NoError(t, err)
	require.NoError(t, store.Webhooks().Create(t.Context(), webhooks.Webhook{
		ID: "msg_a", Event: "job.failed", Tenant: "default", To: tasks.Webhook{URL: "https://a.example.com/"}, At: time.Now(),
	}))
	hook, err := store.Webhooks().Get(t.Context(), "msg_a", "")
	require.NoError(t, err)
	require.NoError(t, store.Webhooks().Die(t.Context(), hook, webhooks.ReasonGone))

	var status statusReply
	require.NoError(t, json.Unmarshal([]byte(run("status", "--json").stdout), &status))
	require.Equal(t, 1, status.DeadLetters.Jobs.Count)
	require.Equal(t, "a", status.DeadLetters.Jobs.Oldest)
	require.Equal(t, 1, status.DeadLetters.Webhooks.Count)
	require.NotNil(t, status.DeadLetters.Webhooks.OldestAt)
	text := run("status").stdout
	require.Contains(t, text, "forebay jobs list --status failed")
	require.Contains(t, text, "forebay webhooks list --state dead")

	require.Contains(t, run("jobs", "list", "--class", "unavailable").stdout, "no_route")
	require.Contains(t, run("jobs", "list", "--class", "auth").stderr, "no such jobs")
	require.Contains(t, run("jobs", "list", "--class", "unavailabel").stderr, `did you mean "unavailable"`)
	require.Equal(t, "1 job reopened\n", run("jobs", "retry", "--class", "unavailable", "--newer-than", "1h").stdout)
}
