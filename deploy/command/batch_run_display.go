package command

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/forebay-queue/forebay/deploy/filerun"
)

const (
	// batchPlainEvery is how often a line is written where there is no terminal.
	batchPlainEvery = 5 * time.Second
	// batchRateWindow is how far back the rate looks.
	batchRateWindow = 20 * time.Second
	// The least columns of a terminal that a bar fits into.
	batchFewestColumns = 40
)

// batchDisplay shows how a run stands: a bar on a terminal, else a line now and then.
type batchDisplay struct {
	out   io.Writer
	notes func() string
	bars  *mpb.Progress
	bar   *mpb.Bar

	mu      sync.Mutex
	now     filerun.Progress
	began   time.Time
	recent  []batchMark
	next    time.Time
	written string
}

// batchMark is how many lines had ended at a time.
type batchMark struct {
	at    time.Time
	ended int
}

func newBatchDisplay(out io.Writer, notes func() string) *batchDisplay {
	d := &batchDisplay{out: out, notes: notes, began: time.Now()}
	file, isFile := out.(*os.File)
	if !isFile || !term.IsTerminal(int(file.Fd())) || os.Getenv("TERM") == "dumb" {
		return d
	}
	if width, _, err := term.GetSize(int(file.Fd())); err != nil || width < batchFewestColumns {
		return d
	}
	d.bars = mpb.New(mpb.WithOutput(file), mpb.WithRefreshRate(200*time.Millisecond))
	d.bar = d.bars.New(0, mpb.BarStyle().Lbound(" ").Filler("█").Tip("█").Padding("░").Rbound(" "), mpb.BarFillerTrim(),
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string {
			now := d.last()
			return fmt.Sprintf("%d/%d", now.Ended(), now.Lines-now.Refused)
		})),
		mpb.BarExtender(mpb.BarFillerFunc(func(w io.Writer, stat decor.Statistics) error {
			var err error
			for _, line := range d.lines() {
				_, err = io.WriteString(w, runewidth.Truncate("  "+line, max(stat.AvailableWidth-1, 1), "…")+"\n")
			}
			return err
		}), false))
	return d
}

// show takes in how the run stands.
func (d *batchDisplay) show(now filerun.Progress) {
	d.mu.Lock()
	at := time.Now()
	d.now = now
	d.recent = append(d.recent, batchMark{at, now.Ended()})
	for len(d.recent) > 2 && at.Sub(d.recent[1].at) >= batchRateWindow {
		d.recent = d.recent[1:]
	}
	due := d.bar == nil && !at.Before(d.next)
	if due {
		d.next = at.Add(batchPlainEvery)
	}
	d.mu.Unlock()
	if d.bar != nil {
		d.bar.SetTotal(int64(max(now.Lines-now.Refused, 1)), false)
		d.bar.SetCurrent(int64(now.Ended()))
	}
	if due {
		d.line()
	}
}

// line writes a line, unless it says what the last one said.
func (d *batchDisplay) line() {
	now := d.last()
	text := fmt.Sprintf("%d/%d  %s", now.Ended(), now.Lines-now.Refused, strings.Join(d.lines(), "; "))
	if text != d.written {
		d.written = text
		fmt.Fprintln(d.out, text)
	}
}

// lines say how the run stands.
func (d *batchDisplay) lines() []string {
	d.mu.Lock()
	now, rate := d.now, d.rate()
	d.mu.Unlock()
	text := fmt.Sprintf("%d done, %d failed", now.Succeeded, now.Failed)
	if now.Refused > 0 {
		text += fmt.Sprintf(", %d no jobs", now.Refused)
	}
	if now.Kept > 0 {
		text += fmt.Sprintf(", %d of them earlier", now.Kept)
	}
	text += fmt.Sprintf(", %s spent", dollars(now.SpentUSD))
	if left := now.Lines - now.Refused - now.Ended(); rate > 0 && left > 0 {
		text += fmt.Sprintf(", %.1f/s, %s left", rate, brief(time.Duration(float64(left)/rate*float64(time.Second))))
	}
	lines := []string{text}
	if now.Away != nil {
		lines = append(lines, "Redis is away, and asked again: "+printable(withoutScripts(now.Away)))
	} else if now.Ended() < now.Lines-now.Refused {
		if note := d.notes(); note != "" {
			lines = append(lines, note)
		}
	}
	if now.Held {
		lines = append(lines, "no further line is begun before others have ended: --max-cost")
	}
	return lines
}

// rate is how many lines a second have ended lately.
func (d *batchDisplay) rate() float64 {
	if len(d.recent) < 2 {
		return 0
	}
	first, last := d.recent[0], d.recent[len(d.recent)-1]
	return float64(last.ended-first.ended) / max(last.at.Sub(first.at).Seconds(), 0.001)
}

func (d *batchDisplay) last() filerun.Progress {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

// close shows how the run stands for the last time.
func (d *batchDisplay) close() {
	if d.bar == nil {
		if d.last().Lines > 0 {
			d.line()
		}
		return
	}
	if now := d.last(); now.Lines > 0 && now.Ended() == now.Lines-now.Refused {
		d.bar.SetTotal(-1, true) // a bar whose total came later is told that it is full
	} else {
		d.bar.Abort(false)
	}
	d.bars.Wait()
}
