package jobstore

import (
	"strings"
	"testing"
	"time"

	"github.com/forebay-queue/forebay/tasks"
)

var zzAttempt = tasks.Attempt{Seq: 1, Run: 1, Delivery: "6f1b8b1c-29ee-4f4e-9f05-000000000000", Worker: "6f1b8b1c-29ee-4f4e-9f05-000000000000",
	Model: "m", Endpoint: "sim", Account: "a", Region: "r", StartedAt: time.Now(), CallDeadline: time.Now().Add(time.Minute),
	Ended: true, LatencyMS: 12, HTTPStatus: 200, Usage: &tasks.Usage{PromptTokens: 100, CompletionTokens: 200, TotalTokens: 300}, CostUSD: 0.000123}

func BenchmarkZAttempt(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_, _ = encodeAttempt("x", "y", zzAttempt)
	}
}

func BenchmarkZResult(b *testing.B) {
	b.ReportAllocs()
	at := time.Now()
	r := tasks.Result{ID: "job-1", TaskType: "t", Tenant: "default", Run: 1, Model: "m", Tier: "low", Endpoint: "sim", Region: "r", Text: strings.Repeat("water in the pool ", 50),
		Usage: zzAttempt.Usage, CostUSD: .000123, CreatedAt: &at, StartedAt: &at, FinishedAt: &at}
	for b.Loop() {
		_, _ = resultText("x", "y", 1, tasks.StatusSucceeded, r, at)
	}
}

func BenchmarkZParse(b *testing.B) {
	b.ReportAllocs()
	at := time.Now()
	retries := 4
	job, _ := tasks.Encode(tasks.Job{V: 1, ID: "job-1", TaskType: "t", Request: []byte(`{"messages":[{"role":"user","content":"` + strings.Repeat("x", 900) + `"}],"max_tokens":1024,"temperature":0.7}`),
		Kind: tasks.KindChat, Priority: tasks.PriorityDefault, Deadline: &at, MaxRetries: &retries, Retention: tasks.Duration(24 * time.Hour), Tenant: "default", CreatedAt: &at})
	f := map[string]string{"status": "running", "job": string(job), "fingerprint": strings.Repeat("a", 64), "tenant": "default", "task_type": "t", "priority": "default",
		"run": "1", "created_at": formatTime(at), "started_at": formatTime(at), "deliveries": "1", "delivery": zzAttempt.Delivery, "worker": zzAttempt.Worker}
	for b.Loop() {
		if _, err := parseRecord("job-1", f); err != nil {
			b.Fatal(err)
		}
	}
}
