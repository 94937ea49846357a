package jobstore

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"github.com/forebay-queue/forebay/tasks"
)

// buffers are what values are written into. They are used again and again: growing a new one for each of the three
// values that a job writes was a tenth of all memory that a worker allocated.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// maxBuffer is the size of the largest buffer that is kept.
const maxBuffer = 64 << 10

// encode writes a value of the contract as tasks.Encode does.
func encode[T any](verb, id string, value T) (string, error) {
	buffer, _ := buffers.Get().(*[]byte)
	content := reflect.ValueOf(&value).Elem()
	written, err := writerOf(content.Type())((*buffer)[:0], content)
	if err != nil {
		return "", fmt.Errorf("%s job %s: encode %T: %w", verb, id, value, err)
	}
	text := string(written)
	if cap(written) <= maxBuffer {
		*buffer = written
		buffers.Put(buffer)
	}
	return text, nil
}

// placeholder stands for a request that was cut out of its job.
const placeholder = "0"

// decodeJob is tasks.DecodeRecord, at a third of its price: the request is most of a job and is kept as it stands, so
// that it is cut out instead of being read three times over.
func decodeJob(text string) (tasks.Job, error) {
	if start, end := requestIn(text); end > start {
		job, err := tasks.DecodeRecord([]byte(text[:start] + placeholder + text[end:]))
		// A request that was not the job's own, but of something inside of it, leaves that of the job.
		if err == nil && string(job.Request) == placeholder {
			job.Request = json.RawMessage(text[start:end])
			return job, nil
		}
	}
	return tasks.DecodeRecord([]byte(text))
}

// requestIn finds the first object under the name request; it is empty where there is none.
func requestIn(text string) (start, end int) {
	const name = `"request":`
	at := strings.Index(text, name)
	if at < 0 {
		return 0, 0
	}
	start = at + len(name)
	depth := 0
	for i := start; i < len(text); i++ {
		switch text[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return start, i + 1
			}
		case '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		}
		if depth == 0 {
			break // no object
		}
	}
	return 0, 0
}
