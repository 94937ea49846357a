package inbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/tracing"
)

// field is the field of an entry that holds the job.
const field = "job"

// entry is one of the stream's.
type entry struct {
	id string
	// job is the text of the field job.
	job string
	// trace is that of the fields traceparent and tracestate, as they were written.
	trace tasks.TraceContext
	// gone tells that the entry was deleted while it was pending.
	gone bool
	// problem says what is wrong with the entry's fields.
	problem error
}

// newEntry reads the fields of an entry: names and values in turn, as Redis has them. What stands beside the job is
// refused: somebody means something by it.
func newEntry(id string, fields []string) entry {
	e := entry{id: id, gone: len(fields) == 0}
	found := 0
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i] == field {
			found++
			if found == 1 {
				e.job = fields[i+1]
			}
			continue
		}
		// It concerns nobody but those who follow the job: one that cannot be read is left out.
		switch fields[i] {
		case tasks.TraceParentField:
			e.trace.Parent = fields[i+1]
			continue
		case tasks.TraceStateField:
			e.trace.State = fields[i+1]
			continue
		}
		if e.problem == nil {
			e.problem = &tasks.FieldError{Problem: fmt.Sprintf(
				"the entry has a field %.64q beside job; an entry has the field job, and may have traceparent and tracestate: all else belongs into the job", fields[i])}
		}
	}
	switch {
	case found == 0 && !e.gone:
		e.problem = &tasks.FieldError{Problem: "the entry has no field job; send XADD ... * job '{...}'"}
	case found > 1:
		e.problem = &tasks.FieldError{Problem: fmt.Sprintf("the entry has %d fields job; send one job in each entry", found)}
	}
	return e
}

// jobID is the id of a job that names none: the entry's, so that the entry read again is the same job.
func (e entry) jobID() string { return "inbox-" + e.id }

// decode reads the job.
func (e entry) decode() (tasks.Job, error) {
	if e.problem != nil {
		return tasks.Job{}, e.problem
	}
	job, err := tasks.DecodeJob([]byte(e.job))
	if err != nil {
		return tasks.Job{}, err
	}
	if job.ID == "" {
		job.ID = e.jobID()
	}
	job.Trace = tracing.Read(e.trace.Parent, e.trace.State)
	return job, nil
}

// The codes of refusals.
const (
	codeEntry    = "invalid_entry"
	codeJob      = "invalid_job"
	codeConflict = "id_conflict"
)

// refusal is an entry that is refused, and why.
type refusal struct {
	entry entry
	code  string
	err   error
	// id is the job's own, where it has a valid one.
	id string
	// job is what the refused job says of itself.
	job tasks.Job
	// refusedID is the id under which the refusal is found, empty for none.
	refusedID string
}

func newRefusal(e entry, err error) refusal {
	r := refusal{entry: e, code: codeJob, err: err, job: glance(e.job[:glanceAt(e.job)])}
	switch {
	case errors.Is(err, producer.ErrIDConflict):
		r.code = codeConflict
	case e.problem != nil:
		r.code = codeEntry
	}
	r.id = r.job.ID
	return r
}

// fields are those of the refusal's entry in the stream of refusals. Where what is kept is sealed, the job itself is no
// part of them: its sender has it.
func (r refusal) fields(sealed bool) []any {
	fields := []any{"entry", r.entry.id, "code", r.code, "reason", r.err.Error()}
	if r.refusedID != "" {
		fields = append(fields, "id", r.refusedID)
	}
	var place *tasks.FieldError
	if errors.As(r.err, &place) {
		if place.Field != "" {
			fields = append(fields, "field", place.Field)
		}
		if place.Byte > 0 {
			fields = append(fields, "byte", place.Byte)
		}
	}
	text := r.entry.job
	if sealed {
		return append(fields, "job_bytes", len(text))
	}
	if len(text) > tasks.MaxJobBytes {
		fields = append(fields, "job_bytes", len(text))
		text = text[:cutTo]
	}
	return append(fields, field, text)
}

// cutTo is how much is kept of a job that is larger than any that is accepted.
const cutTo = 64 << 10

// failure is what the sender reads under the job's id.
func (r refusal) failure() tasks.Failure {
	return tasks.Failure{
		Class: tasks.ClassInvalid, Code: r.code, Message: "refused at the inbox: " + r.err.Error(),
		Hint: "correct the job and send it again, under the same id if you like; docs/jobs.md lists the fields of a job",
	}
}

// glanceAt is how much of a job is looked at when it is refused: all of one that could have been accepted.
func glanceAt(text string) int {
	if len(text) > tasks.MaxJobBytes {
		return cutTo
	}
	return len(text)
}

// glance reads what a job says of itself as far as it can be read, though the job may be no JSON any more behind it.
func glance(text string) tasks.Job {
	job := tasks.Job{Tenant: catalog.DefaultTenant}
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	if brace, err := decoder.Token(); err != nil || brace != json.Delim('{') {
		return job
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			break
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			break
		}
		var word string
		if json.Unmarshal(value, &word) != nil {
			continue
		}
		switch {
		case name == "id" && tasks.ValidID(word):
			job.ID = word
		case name == "tenant" && tasks.ValidName(word):
			job.Tenant = word
		case name == "task_type" && tasks.ValidName(word):
			job.TaskType = word
		}
	}
	return job
}
