package worker

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	// repeatsEvery is how often a line that repeats itself is logged: an outage of Redis makes several a second.
	repeatsEvery = 30 * time.Second
	// mostLines bounds the lines that are remembered.
	mostLines = 100
	// longestLine is how much of a line tells it from others.
	longestLine = 300
)

var (
	// varying is what differs between lines that say the same: ids, ports, numbers.
	varying = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}|[0-9]+`)
	// ended is asynq's line for a task that is not repeated. That is how every job ends that has failed, and the Worker
	// tells of those.
	ended = "Retry exhausted"
)

// repeats are the lines that were logged. The zero value is ready.
type repeats struct {
	mutex sync.Mutex
	lines map[string]*repeated
}

type repeated struct {
	logged time.Time
	left   int // out since then
}

// due tells whether a line is to be logged, and how often it was left out before.
func (r *repeats) due(line string) (due bool, left int) {
	line = varying.ReplaceAllString(line[:min(len(line), longestLine)], "#")
	r.mutex.Lock()
	defer r.mutex.Unlock()
	known := r.lines[line]
	switch {
	case known == nil:
		if r.lines == nil || len(r.lines) >= mostLines {
			r.lines = map[string]*repeated{}
		}
		r.lines[line] = &repeated{logged: time.Now()}
		return true, 0
	case time.Since(known.logged) < repeatsEvery:
		known.left++
		return false, 0
	}
	left = known.left
	*known = repeated{logged: time.Now()}
	return true, left
}

// asynqLog writes asynq's lines into the Worker's log, each that repeats itself once in a while.
type asynqLog struct {
	log     zerolog.Logger
	repeats *repeats
}

func (l asynqLog) Debug(args ...any) { l.log.Debug().Msg("asynq: " + fmt.Sprint(args...)) }
func (l asynqLog) Info(args ...any)  { l.log.Debug().Msg("asynq: " + fmt.Sprint(args...)) }
func (l asynqLog) Warn(args ...any)  { l.write(zerolog.WarnLevel, args) }
func (l asynqLog) Error(args ...any) { l.write(zerolog.ErrorLevel, args) }
func (l asynqLog) Fatal(args ...any) { l.write(zerolog.ErrorLevel, args) }

func (l asynqLog) write(level zerolog.Level, args []any) {
	line := fmt.Sprint(args...)
	if strings.HasPrefix(line, ended) {
		l.log.Debug().Msg("asynq: " + line)
		return
	}
	due, left := l.repeats.due(line)
	if !due {
		return
	}
	event := l.log.WithLevel(level)
	if left > 0 {
		event = event.Int("left_out", left)
	}
	event.Msg("asynq: " + line)
}
