package worker

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An outage of ten minutes in which asynq complains five times a second is some lines of the log, not thousands.
func TestAsynqsLinesDoNotFloodTheLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := asynqLog{zerolog.New(&out), &repeats{}}
		for port := range 10 * 60 * 5 {
			log.Error("Dequeue error: read tcp 127.0.0.1:", 30_000+port, ": connection refused")
			time.Sleep(time.Second / 5)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		require.Len(t, lines, 20)
		assert.NotContains(t, lines[0], "left_out")
		assert.Contains(t, lines[1], `"level":"error","left_out":149,"message":"asynq: Dequeue error: read tcp`)
		log.Warn("another line")
		assert.Contains(t, out.String(), "another line")

		out.Reset()
		log.Warn("Retry exhausted for task id=a")
		assert.NotContains(t, out.String(), `"level":"warn"`, "the worker tells how a job has ended")
	})
}

func TestTheEndOfAnOutageIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		w := &Worker{log: zerolog.New(&out), writable: t.Context()}
		var lost outageLog
		lost.tell(w, nil)
		assert.Empty(t, out.String())
		for range 10 {
			lost.tell(w, errors.New("refused"))
			time.Sleep(heartbeatInterval)
		}
		lost.tell(w, nil)
		lost.tell(w, nil)
		assert.Equal(t, 2, strings.Count(out.String(), "did not reach Redis"))
		assert.Equal(t, 1, strings.Count(out.String(), `"away":50000,"message":"Redis is back"`))
	})
}
