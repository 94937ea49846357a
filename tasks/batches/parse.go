package batches

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/tasks"
)

// The fields that are sealed where Config.Sealer has keys. No script looks into them.
const (
	fieldMetadata = "metadata"
	fieldProblems = "problems"
	fieldWebhooks = "webhooks"
)

// CodeUnreadable is the code of a Problem that stands for what is sealed and cannot be opened here.
const CodeUnreadable = "unreadable"

// open opens the sealed fields. One that cannot be opened is left out, and a Problem says so: nothing that is done with a
// batch needs them.
func (s *Store) open(id string, fields map[string]string) (unread []Problem) {
	for _, name := range []string{fieldMetadata, fieldProblems, fieldWebhooks} {
		text, err := s.sealer.Open(s.keys.Batch(id), name, fields[name])
		if err != nil {
			unread = append(unread, Problem{Code: CodeUnreadable, Param: name, Message: "The batch's " + name + " cannot be read: " + err.Error()})
			delete(fields, name)
		} else if text != "" {
			fields[name] = text
		}
	}
	return unread
}

// parse reads the fields of a batch.
func (s *Store) parse(id string, fields map[string]string) (Batch, error) {
	unread := s.open(id, fields)
	p := parser{id: id, fields: fields}
	b := Batch{
		ID: id, Tenant: fields["tenant"], Name: fields["name"], Kind: Kind(fields["kind"]), Status: Status(fields["status"]),
		Endpoint: fields["endpoint"], CompletionWindow: fields["completion_window"],
		InputFileID: fields["input_file_id"], OutputFileID: fields["output_file_id"], ErrorFileID: fields["error_file_id"],
		OutputExpiresAfter: p.duration("output_expires_after"), Retention: p.duration("retention"),
		Total:   int(p.number("total")),
		Counts:  Counts{int(p.number("succeeded")), int(p.number("failed")), int(p.number("cancelled")), int(p.number("expired"))},
		CostUSD: float64(p.number("cost_nano")) / 1e9,
		Usage:   Usage{PromptTokens: p.number("prompt_tokens"), CompletionTokens: p.number("completion_tokens")},

		CreatedAt: p.time("created_at"), InProgressAt: p.time("in_progress_at"), Deadline: p.time("deadline"),
		FinalizingAt: p.time("finalizing_at"), CompletedAt: p.time("completed_at"), FailedAt: p.time("failed_at"),
		ExpiredAt: p.time("expired_at"), CancellingAt: p.time("cancelling_at"), CancelledAt: p.time("cancelled_at"),
	}
	b.Trace = tasks.TraceContext{Parent: fields[tasks.TraceParentField], State: fields[tasks.TraceStateField]}
	b.Usage.TotalTokens = b.Usage.PromptTokens + b.Usage.CompletionTokens
	p.json(fieldMetadata, &b.Metadata)
	p.json(fieldWebhooks, &b.Webhooks)
	p.json(fieldProblems, &b.Problems)
	b.Problems = append(b.Problems, unread...)
	for name, value := range fields {
		if note, found := strings.CutPrefix(name, notePrefix); found {
			if b.Notes == nil {
				b.Notes = map[string]string{}
			}
			b.Notes[note] = value
		}
	}
	return b, p.err
}

// parser reads fields one after the other and keeps the first error.
type parser struct {
	id     string
	fields map[string]string
	err    error
}

func (p *parser) failed(name string, err error) {
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("read batch %s: field %s: %w", p.id, name, err)
	}
}

func (p *parser) number(name string) int64 {
	text := p.fields[name]
	if text == "" {
		return 0
	}
	value, err := strconv.ParseInt(text, 10, 64)
	p.failed(name, err)
	return value
}

func (p *parser) time(name string) time.Time {
	at := p.number(name)
	if at == 0 {
		return time.Time{}
	}
	return time.UnixMilli(at).UTC()
}

func (p *parser) duration(name string) time.Duration {
	return time.Duration(p.number(name)) * time.Millisecond
}

func (p *parser) json(name string, into any) {
	if text := p.fields[name]; text != "" {
		p.failed(name, json.Unmarshal([]byte(text), into))
	}
}
