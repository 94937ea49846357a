package httpapi_test

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer/httpapi/dashboard"
	"github.com/forebay-queue/forebay/tasks"
)

var dashboardPages = []string{"/", "/jobs", "/jobs/a-1", "/batches", "/batches/batch_1", "/failures", "/new"}

// Every page is the shell, and all that it names is there, and nothing else of anybody's.
func TestDashboardIsWhole(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	for _, page := range dashboardPages {
		answer := b.ask("GET", page, "")
		require.Equal(t, 200, answer.Code, page)
		require.Equal(t, "text/html; charset=utf-8", answer.Header().Get("Content-Type"))
		policy := answer.Header().Get("Content-Security-Policy")
		require.Equal(t, dashboard.Policy, policy)
		require.NotContains(t, policy, "unsafe")
		require.True(t, dashboard.IsPage(page), page)
	}
	for _, none := range []string{"/job", "/jobs/a/b", "/assets/", "/assets/dashboard.go", "/assets/index.html", "/assets/js/none.js"} {
		require.Equal(t, 404, b.ask("GET", none, "").Code, none)
		require.False(t, dashboard.IsPage(none), none)
	}
	shell := b.ask("GET", "/", "").Body.String()
	require.NotRegexp(t, `<script>|<style|style=|\son[a-z]+=`, shell, "nothing stands inside the page")
	named := regexp.MustCompile(`(?:src|href)="(/assets/[^"]+)"`)
	imported := regexp.MustCompile(`(?m)^import .*from "([^"]+)";$`)
	seen, open := map[string]bool{}, []string{}
	for _, found := range named.FindAllStringSubmatch(shell, -1) {
		open = append(open, found[1])
	}
	for len(open) > 0 {
		at := open[0]
		if open = open[1:]; seen[at] {
			continue
		}
		seen[at] = true
		answer := b.ask("GET", at, "")
		require.Equal(t, 200, answer.Code, at)
		require.NotContains(t, answer.Body.String(), "innerHTML", "%s: texts are set as texts", at)
		for _, found := range imported.FindAllStringSubmatch(answer.Body.String(), -1) {
			if strings.HasPrefix(found[1], "/") {
				open = append(open, found[1])
			} else {
				open = append(open, path.Join(path.Dir(at), found[1]))
			}
		}
		again := b.ask("GET", at, "", "If-None-Match", answer.Header().Get("Etag"))
		require.Equal(t, http.StatusNotModified, again.Code, at)
		require.Empty(t, again.Body.String())
	}
	require.NoError(t, fs.WalkDir(os.DirFS("dashboard"), ".", func(name string, entry fs.DirEntry, err error) error {
		if ext := path.Ext(name); !entry.IsDir() && (ext == ".js" || ext == ".css") {
			assert.True(t, seen["/assets/"+name], "%s is used by no page", name)
		}
		return err
	}))
}

// What a job asks for is shown to whoever may see the job.
func TestRequestOfAJob(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	require.Equal(t, 201, b.ask("POST", "/v1/jobs", `{"id":"asked","task_type":"fast_summary","tenant":"acme","input":"a secret text"}`).Code)
	answer := b.ask("GET", "/v1/jobs/asked/request", "")
	require.Equal(t, 200, answer.Code, answer.Body)
	var job tasks.Job
	require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &job))
	require.Equal(t, "asked", job.ID)
	require.Contains(t, string(job.Request), "a secret text")
	require.Equal(t, 200, b.ask("GET", "/v1/jobs/asked/request", "", "X-Tenant", "acme").Code)
	assertError(t, "another tenant", b.ask("GET", "/v1/jobs/asked/request", "", "X-Tenant", "other"), "job_not_found")
	assertError(t, "no job", b.ask("GET", "/v1/jobs/none/request", ""), "job_not_found")
	assertError(t, "no id", b.ask("GET", "/v1/jobs/a.b/request", ""), "invalid_job_id")
}
