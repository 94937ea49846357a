package jobstore

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/forebay-queue/forebay/tasks"
)

// encoder writes values of the contract as tasks.Encode does. It is used again and again: growing a new buffer for
// each of the three values that a job writes was a tenth of all memory that a worker allocated.
type encoder struct {
	buffer bytes.Buffer
	json   *json.Encoder
}

var encoders = sync.Pool{New: func() any {
	e := &encoder{}
	e.json = json.NewEncoder(&e.buffer)
	e.json.SetEscapeHTML(false)
	return e
}}

// maxEncoder is the size of the largest buffer that is kept.
const maxEncoder = 64 << 10

// encode is tasks.Encode for values of the contract that always encode, such as a Waiting.
func encode(verb, id string, value any) (string, error) {
	e, _ := encoders.Get().(*encoder)
	e.buffer.Reset()
	if err := e.json.Encode(value); err != nil {
		return "", fmt.Errorf("%s job %s: encode %T: %w", verb, id, value, err)
	}
	text := string(bytes.TrimSuffix(e.buffer.Bytes(), []byte("\n")))
	if e.buffer.Cap() <= maxEncoder {
		encoders.Put(e)
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
