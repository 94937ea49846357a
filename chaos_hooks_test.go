package main_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
)

// receiver takes the webhooks of the jobs, at several addresses, and refuses some of them.
type receiver struct {
	secretFile string
	verifier   *standardwebhooks.Webhook
	urls       []string

	mu       sync.Mutex
	dice     *mathrand.Rand
	messages map[string][]message // by job
	bad      []string             // what was no message of Forebay's
}

// message is one attempt of a webhook, as it arrived.
type message struct {
	id       string
	finished time.Time
	status   tasks.Status
	at       time.Time
	answered int       // 0 for one whose connection was cut, by either side
	cut      time.Time // by its sender
}

// receiverTargets is at how many addresses webhooks arrive: each is a target of its own.
const receiverTargets = 3

func newReceiver(t *testing.T, seed uint64) *receiver {
	t.Helper()
	key := make([]byte, 32)
	_, err := rand.Read(key)
	require.NoError(t, err)
	secret := "whsec_" + base64.StdEncoding.EncodeToString(key)
	r := &receiver{
		secretFile: filepath.Join(t.TempDir(), "secret"), messages: map[string][]message{},
		dice: mathrand.New(mathrand.NewPCG(seed, 2)),
	}
	require.NoError(t, os.WriteFile(r.secretFile, []byte(secret), 0o600))
	r.verifier, err = standardwebhooks.NewWebhook(secret)
	require.NoError(t, err)
	for range receiverTargets {
		server := httptest.NewServer(r)
		t.Cleanup(server.Close)
		r.urls = append(r.urls, server.URL+"/ended")
	}
	return r
}

// config is what the configuration says of webhooks.
func (r *receiver) config() string {
	return fmt.Sprintf(`
webhooks:
  allow_http: true
  allow_networks: [127.0.0.0/8]
  schedule: [1s, 1s, 2s, 2s, 4s, 4s, 8s, 8s, 8s, 8s, 8s, 8s]
  timeout: 5s
  secrets:
    - keys: [{file: %q}]
`, r.secretFile)
}

// listen has the job's end told to one of the receiver's addresses.
func (r *receiver) listen(job *tasks.Job, dice *mathrand.Rand) {
	job.Webhook = &tasks.Webhook{URL: r.urls[dice.IntN(len(r.urls))]}
}

// ServeHTTP takes a message after a while, or does as receivers do that are unwell: of ten one answers 500, hangs up or
// is slow.
func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return // its sender has died
	}
	m, job, problem := r.understand(request.Header, body)
	m.answered = http.StatusNoContent
	r.mu.Lock()
	if problem != "" {
		r.bad = append(r.bad, problem)
	}
	wait := 50*time.Millisecond + time.Duration(r.dice.IntN(350))*time.Millisecond
	switch r.dice.IntN(30) {
	case 0:
		m.answered = http.StatusInternalServerError
	case 1:
		m.answered = 0
	case 2:
		wait = 2 * time.Second
	}
	r.mu.Unlock()
	select {
	case <-time.After(wait):
	case <-request.Context().Done():
		m.answered, m.cut = 0, time.Now()
	}
	r.mu.Lock()
	r.messages[job] = append(r.messages[job], m)
	r.mu.Unlock()
	if m.answered == 0 {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(m.answered)
}

func (r *receiver) understand(header http.Header, body []byte) (m message, job, problem string) {
	if err := r.verifier.Verify(body, header); err != nil {
		return m, "", "the signature: " + err.Error()
	}
	var told struct {
		Type string       `json:"type"`
		Data tasks.Result `json:"data"`
	}
	if err := json.Unmarshal(body, &told); err != nil {
		return m, "", "the body: " + err.Error()
	}
	m = message{id: header.Get("Webhook-Id"), status: told.Data.Status, at: time.Now()}
	if told.Type != "job."+string(told.Data.Status) || told.Data.FinishedAt == nil || told.Data.Text == "" {
		return m, told.Data.ID, fmt.Sprintf("the body of %s, type %s, status %s, lacks something", told.Data.ID, told.Type, told.Data.Status)
	}
	m.finished = *told.Data.FinishedAt
	return m, told.Data.ID, ""
}

// delivered tells whether a message of the job was taken.
func (r *receiver) delivered(job string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.messages[job] {
		if m.answered == http.StatusNoContent {
			return true
		}
	}
	return false
}

// awaitDeliveries waits until the end of every job was told, or none is told any more.
func (r *receiver) awaitDeliveries(results map[string]tasks.Result) {
	for last, before := time.Now(), -1; time.Since(last) < chaosPatience; time.Sleep(100 * time.Millisecond) {
		open := 0
		for id := range results {
			if !r.delivered(id) {
				open++
			}
		}
		if open == 0 {
			break
		}
		if open != before {
			last, before = time.Now(), open
		}
	}
}

// checkDeliveries: what a job's end was is told at least once, under one id, as it is.
func (c *chaos) checkDeliveries(f *findings, l *load, results map[string]tasks.Result, lost map[string]bool) {
	r := c.receiver
	r.awaitDeliveries(results)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, problem := range r.bad {
		f.breaks("every message is signed and whole", "%s", problem)
	}
	told, attempts, refused, twice, slowest := 0, 0, 0, 0, time.Duration(0)
	again := c.newRepetitions()
	for id := range l.accepted {
		slices.SortFunc(r.messages[id], func(a, b message) int { return a.at.Compare(b.at) })
		taken := 0
		for i, m := range r.messages[id] {
			attempts++
			if !m.cut.IsZero() && i+1 < len(r.messages[id]) {
				again.addCut(m.cut, r.messages[id][i+1].at)
			}
			if m.id != r.messages[id][0].id {
				f.breaks("a webhook has one id", "%s was told under %s and %s", id, r.messages[id][0].id, m.id)
			}
			if result, ended := results[id]; ended && !c.undoneAt(m.finished) && (result.FinishedAt == nil || !m.finished.Equal(*result.FinishedAt) || m.status != result.Status) {
				f.breaks("every accepted job has exactly one result", "%s was told to have ended at %s, %s, and has %+v", id, m.finished, m.status, result.FinishedAt)
			}
			if m.answered != http.StatusNoContent {
				refused++
				continue
			}
			if taken++; taken == 1 {
				slowest = max(slowest, m.at.Sub(m.finished))
			}
		}
		switch {
		case taken > 0:
			told++
			twice += taken - 1
		case !lost[id]:
			f.breaks("every accepted job has at least one delivery", "%s has %d attempts, none of which was taken", id, len(r.messages[id]))
		}
	}
	f.figures.add("jobs whose end was delivered", told)
	f.figures.add("attempts: all, refused by the receiver, taken again", fmt.Sprintf("%d, %d, %d", attempts, refused, twice))
	again.tell(f, "webhooks that were out at a worker's kill, tried again")
	f.figures.add("the longest time from result to delivery", slowest.Round(100*time.Millisecond))
}
