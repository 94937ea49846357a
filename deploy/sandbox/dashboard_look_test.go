package sandbox_test

import (
	"bytes"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/sandbox"
	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/keyspace"
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
			{Name: "simulated-apac", Region: "ap-northeast-1", Latency: latency, FailureRate: 0.04},
			{Name: "simulated-eu", Region: "eu-west-1", Latency: latency},
			{Name: "simulated-us", Region: "us-east-1", Latency: latency},
		}
	})
	story := d.furnish()
	for _, one := range []struct{ name, at, shows string }{
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
			if one.name == "login" {
				d.do("open", chromedp.Navigate(d.url+one.at))
			} else {
				d.visit(one.at)
			}
			d.shows(one.shows)
			if one.name == "overview" {
				d.becomes(`document.querySelectorAll(".chart canvas").length === 4 && document.querySelector(".feed li")`)
			}
			d.becomes(`document.fonts.status === "loaded"`)
			require.LessOrEqual(t, js[int64](d, "document.documentElement.scrollWidth"), look.width, "%s is wider than the window: %s", one.name, look.name)
			name := one.name + "-" + look.name
			d.picture(name)
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
	d.pastMinutes()
	story = "minutes-of-may"
	soon := time.Now().Add(2 * time.Second)
	d.outage("simulated-apac", "503")
	d.send(tasks.Job{ID: story, TaskType: "fast_summary", Input: text, RunAt: &soon, Webhook: &tasks.Webhook{URL: told.URL}, Metadata: map[string]string{"author": "M. Weir"}})
	d.ends(story, tasks.StatusSucceeded)
	d.outage("simulated-apac")
	d.batch(40)
	for i := range 48 {
		kind := []string{"fast_summary", "simple_response", "detailed_analysis", "code_generation"}[i%4]
		d.send(tasks.Job{ID: fmt.Sprintf("report-%03d", i), TaskType: kind, Input: text})
		if i%16 == 0 {
			d.send(tooDear(fmt.Sprintf("draft-%03d", i)))
		}
	}
	for i := range 48 {
		d.ends(fmt.Sprintf("report-%03d", i), tasks.StatusSucceeded)
	}
	d.outage("simulated-apac", "503")
	for i := range 6 {
		d.send(tasks.Job{ID: fmt.Sprintf("letter-%03d", i), TaskType: "fast_summary", Input: text})
	}
	later := time.Now().Add(26 * time.Hour)
	d.send(tasks.Job{ID: "weekly-digest", TaskType: "fast_summary", Input: text, RunAt: &later})
	require.Eventually(d.t, func() bool {
		result, err := d.sandbox.Client.Get(d.t.Context(), story)
		return err == nil && len(result.Webhooks) == 1 && result.Webhooks[0].State == "delivered"
	}, 30*time.Second, 50*time.Millisecond)
	return story
}

// pastMinutes writes what would have been counted in the last quarter of an hour, so that the charts have lines.
func (d *dashboard) pastMinutes() {
	d.t.Helper()
	now := time.Now().Unix() / 10 * 10
	_, err := d.redis.Pipelined(d.t.Context(), func(pipe redis.Pipeliner) error {
		for i := range int64(90) {
			many := 40 + 12*math.Sin(float64(i)/9) + 5*math.Sin(float64(i)*1.7)
			failed := max(0, 4*math.Sin(float64(i)/14)-2)
			counted := map[string]float64{
				"accepted|": many + 2*math.Sin(float64(i)), "ended|succeeded|fast_summary|low": many, "ended|failed|fast_summary|low": failed / 4, "retried|unavailable": failed / 2,
				"attempt|simulated-apac|gemini-2.5-flash|ok": many, "attempt|simulated-apac|gemini-2.5-flash|unavailable": failed, "call|simulated-apac|31": many, "call|simulated-apac|35": many / 8,
				"job|36": many, "job|40": many / 12, "cost|fast_summary|low|gemini-2.5-flash": many * 140_000, "dearest|": many * 2_100_000,
			}
			for name, count := range counted {
				pipe.HSet(d.t.Context(), keyspace.New("").Activity("10s", now-(90-i)*10), name, int64(count))
			}
		}
		return nil
	})
	require.NoError(d.t, err)
}

// shownInREADME are the pictures that are kept, small.
var shownInREADME = map[string]bool{
	"overview-light": true, "overview-phone-dark": true, "job-dark": true, "failures-phone": true,
}

// picture takes one of the window, and writes it where that is asked for.
func (d *dashboard) picture(name string) {
	d.t.Helper()
	taken, err := chromedp.Call(d.ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{Format: "png"})
	require.NoError(d.t, err)
	decoded, err := png.Decode(bytes.NewReader(taken.Data))
	require.NoError(d.t, err)
	small := fewColours(decoded)
	require.Greater(d.t, len(small.Palette), 20, "%s is empty", name)
	if *writeScreenshots && shownInREADME[name] {
		var written bytes.Buffer
		require.NoError(d.t, (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&written, small))
		require.NoError(d.t, os.MkdirAll(imagesDir, 0o750))
		require.NoError(d.t, os.WriteFile(filepath.Join(imagesDir, "dashboard-"+name+".png"), written.Bytes(), 0o600))
	}
}

// fewColours is a picture in its 256 most frequent colours, of those that differ enough to be told apart.
func fewColours(from image.Image) *image.Paletted {
	counts, bounds := map[color.RGBA]int{}, from.Bounds()
	at := func(x, y int) color.RGBA { return color.RGBAModel.Convert(from.At(x, y)).(color.RGBA) } //nolint:forcetypeassert // the model's own
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			counts[at(x, y)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(counts), func(a, b color.RGBA) int { return counts[b] - counts[a] })
	to := image.NewPaletted(bounds, nil)
	for _, c := range colours {
		if len(to.Palette) < 256 && (len(to.Palette) == 0 || apart(c, to.Palette[to.Palette.Index(c)]) > 8) {
			to.Palette = append(to.Palette, c)
		}
	}
	index := map[color.RGBA]uint8{}
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			c := at(x, y)
			i, found := index[c]
			if !found {
				i = uint8(to.Palette.Index(c))
				index[c] = i
			}
			to.SetColorIndex(x, y, i)
		}
	}
	return to
}

// apart is how much two colours differ in the channel in which they differ most, of 255.
func apart(a color.RGBA, other color.Color) int {
	b := color.RGBAModel.Convert(other).(color.RGBA) //nolint:forcetypeassert // the model's own
	most := 0
	for _, pair := range [][2]uint8{{a.R, b.R}, {a.G, b.G}, {a.B, b.B}} {
		most = max(most, int(pair[0])-int(pair[1]), int(pair[1])-int(pair[0]))
	}
	return most
}
