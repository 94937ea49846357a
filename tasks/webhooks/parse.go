package webhooks

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// The fields that are sealed where Config.Sealer has keys, and the name under which an attempt's answer is. No script looks
// into them.
const (
	fieldURL     = "url"
	fieldHeaders = "headers"
	fieldAnswer  = "answer"
)

// open opens a sealed text. One that cannot be opened is left out.
func (s *Store) open(id, field, text string) (string, error) {
	opened, err := s.sealer.Open(s.keys.Webhook(id), field, text)
	if err != nil {
		return "", fmt.Errorf("read webhook %s: %s: %w", id, field, err)
	}
	return opened, nil
}

// parse reads the fields of a webhook's record. It returns what can be read beside an error that wraps seal.ErrUnreadable.
func (s *Store) parse(id string, fields map[string]string) (*Record, error) {
	var unread [2]error
	for i, name := range []string{fieldURL, fieldHeaders} {
		fields[name], unread[i] = s.open(id, name, fields[name])
	}
	p := parser{id: id, fields: fields}
	r := &Record{
		Webhook: Webhook{
			ID: id, Event: fields["event"], Tenant: fields["tenant"],
			To:  tasks.Webhook{URL: fields[fieldURL], Secret: fields["secret"]},
			Job: fields["job"], Run: int(p.number("run")), Batch: fields["batch"], At: p.time("at"),
			Keep:  time.Duration(p.number("keep")) * time.Millisecond,
			Trace: tasks.TraceContext{Parent: fields[tasks.TraceParentField], State: fields[tasks.TraceStateField]},
		},
		State: State(fields["state"]), Reason: fields["reason"], Cycle: int(p.number("cycle")), Since: p.time("since"),
		Attempts: int(p.number("attempts")), Tries: int(p.number("tries")), Waiting: fields["waiting"],
		NextAt: p.time("next_at"), EndedAt: p.time("ended_at"),
		OpenUntil: p.time("open_until"), Shard: keyspace.Shard(fields["shard"]),
	}
	if headers := fields[fieldHeaders]; headers != "" {
		p.failed("headers", json.Unmarshal([]byte(headers), &r.To.Headers))
	}
	for name, value := range fields {
		if !strings.HasPrefix(name, "a:") {
			continue
		}
		var a wireAttempt
		p.failed(name, json.Unmarshal([]byte(value), &a))
		if a.Error == ErrorOpen && fields["open"] != strconv.Itoa(a.Number) {
			a.Error = ErrorUnknown // another one was begun since
		}
		a.Answer, _ = s.open(id, fieldAnswer, a.Answer) // it is only shown
		r.History = append(r.History, a.attempt())
	}
	slices.SortFunc(r.History, func(a, b Attempt) int { return a.Number - b.Number })
	if p.err != nil {
		return nil, p.err
	}
	return r, errors.Join(unread[:]...)
}

// parser reads fields one after the other and keeps the first error.
type parser struct {
	id     string
	fields map[string]string
	err    error
}

func (p *parser) failed(name string, err error) {
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("read webhook %s: field %s: %w", p.id, name, err)
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
	ms := p.number(name)
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
