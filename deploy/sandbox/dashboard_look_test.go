package sandbox_test

import (
	"bytes"
	"flag"
	"fmt"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/sandbox"
	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
)

// With -write-screenshots the pictures are written to docs/images, from where the README shows some of them.
var writeScreenshots = flag.Bool("write-screenshots", false, "write the dashboard's pictures to docs/images")

const imagesDir = "../../docs/images"

// axe is a checker of accessibility, for tests only: no part of it is in the program.
var axe = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(builtOnce, "axe")
	output, err := exec.Command("npm", "install", "--no-audit", "--no-fund", "--prefix", dir, "axe-core@4.14.1").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("install axe-core: %w: %s", err, output)
	}
	text, err := os.ReadFile(filepath.Join(dir, "node_modules", "axe-core", "axe.min.js"))
	return string(text), err
})

// look is one way to look at a page.
type look struct {
	name          string
	width, height int64
	theme         string
}

var looks = []look{{"light", 1440, 900, "light"}, {"dark", 1440, 900, "dark"}, {"phone", 360, 740, "light"}, {"phone-dark", 360, 740, "dark"}}

// TestDashboardLooks opens every page in every theme and width: it is drawn, nothing of it is cut off, and those who see
// or hear it otherwise can use it.
func TestDashboardLooks(t *testing.T) {
	t.Parallel()
	checker, checkable := axe()
	d := openDashboard(t, func(c *sandbox.Config) {
		latency := simulator.Distribution{Min: 60 * time.Millisecond, Max: 400 * time.Millisecond, Shape: simulator.ShapeLogNormal}
		c.Regions = []sandbox.Region{
			{Name: "simulated-apac", Region: "ap-northeast-1", Latency: latency, FailureRate: 0.04}, {Name: "simulated-eu", Region: "eu-west-1", Latency: latency},
			{Name: "simulated-us", Region: "us-east-1", Latency: latency},
		}
	})
	story := d.furnish()
	for _, page := range []struct{ name, at, shows string }{
		{"overview", "/?window=15m", "simulated-apac"},
		{"jobs", "/jobs", "fast_summary"},
		{"job", "/jobs/" + story, "Call 1"},
		{"batches", "/batches", "completed"},
		{"failures", "/failures", "over_max_cost"},
		{"new", "/new", "Send the job"},
		{"empty", "/jobs?text=nothing-is-called-so", "No job is meant"},
		{"nothing", "/jobs/there-is-none", "there is no job"},
		{"login", "/login", "Dashboard"},
	} {
		for _, look := range looks {
			d.looks(look.width, look.height, look.theme)
			if page.name == "login" {
				d.do("open", chromedp.Navigate(d.url+page.at))
			} else {
				d.visit(page.at)
			}
			d.shows(page.shows)
			if page.name == "overview" {
				d.becomes(`document.querySelectorAll(".chart canvas").length === 4`)
			}
			d.becomes(`document.fonts.status === "loaded"`)
			require.LessOrEqual(t, js[int64](d, "document.documentElement.scrollWidth"), look.width, "%s is wider than the window: %s", page.name, look.name)
			name := page.name + "-" + look.name
			d.picture(name, page.name == "overview" && look.name == "light")
			if checkable != nil {
				t.Log("SKIPPED: accessibility is not checked:", checkable)
				continue
			}
			js[bool](d, checker+"; true")
			found, err := chromedp.Run(d.ctx, chromedp.Evaluate[[]string](`axe.run().then((r) => r.violations.filter((v) => ["serious", "critical"].includes(v.impact))
				.map((v) => v.impact + " " + v.id + ": " + v.nodes.map((n) => n.target.join(" ") + " " + (n.any[0]?.message ?? "")).join("; ")))`, chromedp.EvalAwaitPromise))
			require.NoError(t, err)
			assert.Empty(t, found, name)
		}
	}
}

// furnish has something of everything happen, and returns a job that has a story.
func (d *dashboard) furnish() (story string) {
	d.t.Helper()
	told := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	d.t.Cleanup(told.Close)
	for i := range 24 {
		kind := []string{"fast_summary", "simple_response", "detailed_analysis", "code_generation"}[i%4]
		d.send(tasks.Job{ID: fmt.Sprintf("report-%03d", i), TaskType: kind, Input: text})
	}
	for i := range 3 {
		d.send(tooDear(fmt.Sprintf("draft-%03d", i)))
	}
	d.batch(40)
	d.outage("simulated-apac", "503")
	d.send(tasks.Job{ID: "minutes-of-may", TaskType: "fast_summary", Input: text, Webhook: &tasks.Webhook{URL: told.URL}, Metadata: map[string]string{"author": "M. Weir"}})
	d.ends("minutes-of-may", tasks.StatusSucceeded)
	for i := range 24 {
		d.ends(fmt.Sprintf("report-%03d", i), tasks.StatusSucceeded)
	}
	later := time.Now().Add(26 * time.Hour)
	d.send(tasks.Job{ID: "weekly-digest", TaskType: "fast_summary", Input: text, RunAt: &later})
	require.Eventually(d.t, func() bool {
		result, err := d.sandbox.Client.Get(d.t.Context(), "minutes-of-may")
		return err == nil && len(result.Webhooks) == 1 && result.Webhooks[0].State == "delivered"
	}, 30*time.Second, 50*time.Millisecond)
	return "minutes-of-may"
}

// picture takes one of the window, or of the whole page, and writes it where that is asked for.
func (d *dashboard) picture(name string, _ bool) {
	d.t.Helper()
	taken, err := chromedp.Run(d.ctx, chromedp.Screenshot(chromedp.CSS("body"), chromedp.NodeVisible))
	require.NoError(d.t, err)
	decoded, err := png.Decode(bytes.NewReader(taken))
	require.NoError(d.t, err)
	colours := map[uint32]bool{}
	for y := decoded.Bounds().Min.Y; y < decoded.Bounds().Max.Y; y += 3 {
		for x := decoded.Bounds().Min.X; x < decoded.Bounds().Max.X; x += 3 {
			r, g, b, _ := decoded.At(x, y).RGBA()
			colours[r>>8<<16|g>>8<<8|b>>8] = true
		}
	}
	require.Greater(d.t, len(colours), 20, "%s is empty", name)
	if *writeScreenshots && !strings.HasPrefix(name, "nothing") && !strings.HasPrefix(name, "empty") {
		require.NoError(d.t, os.MkdirAll(imagesDir, 0o750))
		require.NoError(d.t, os.WriteFile(filepath.Join(imagesDir, "dashboard-"+name+".png"), taken, 0o600))
	}
}
