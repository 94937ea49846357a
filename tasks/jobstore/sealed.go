package jobstore

import (
	"errors"
	"fmt"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/seal"
)

// The fields of a record in which something of the request, the answer or the metadata may stand: those that are sealed
// where Config.Sealer has keys. No script looks into them.
const (
	fieldJob       = "job"
	fieldResult    = "result"
	fieldResponse  = "response"
	fieldPrevious  = "previous"
	fieldMetadata  = "metadata"
	fieldLastError = "last_error"
)

var sealedFields = []string{fieldJob, fieldResult, fieldResponse, fieldPrevious, fieldMetadata, fieldLastError}

// ErrUnreadable says that a field of the record is sealed, and none of this process's keys opens it. Get and Start return it
// beside a record that lacks those fields; status, run, times and the ledger are there.
var ErrUnreadable = seal.ErrUnreadable

// CodeUnreadable is the code of an error in a list that stands for one that cannot be read.
const CodeUnreadable = "unreadable"

// encodeSealed writes a value of the contract as a field of the record keeps it.
func encodeSealed[T any](s *Store, verb, id, field string, value T) (string, error) {
	text, err := encode(verb, id, value)
	if err != nil {
		return "", err
	}
	return s.sealField(verb, id, field, text)
}

// sealField is a text as a field of the record keeps it.
func (s *Store) sealField(verb, id, field, text string) (string, error) {
	text, err := s.sealer.Seal(s.keys.Job(id), field, text)
	if err != nil {
		return "", fmt.Errorf("%s job %s: %w", verb, id, err)
	}
	return text, nil
}

// openField is what sealField was given.
func (s *Store) openField(id, field, text string) (string, error) {
	return s.sealer.Open(s.keys.Job(id), field, text)
}

// readRecord reads a record's fields. Where some of them cannot be opened it returns what can be read, with the errors.
func (s *Store) readRecord(id string, fields map[string]string) (*Record, error) {
	var unread []error
	for _, name := range sealedFields {
		text, err := s.openField(id, name, fields[name])
		switch {
		case err != nil:
			unread = append(unread, fmt.Errorf("read job %s: field %s: %w", id, name, err))
			delete(fields, name)
		case text != "":
			fields[name] = text
		}
	}
	if len(unread) == 0 {
		return parseRecord(id, fields)
	}
	if fields[fieldJob] == "" {
		fields[fieldJob] = "{}"
	}
	record, err := parseRecord(id, fields)
	if err != nil {
		return nil, err
	}
	record.unread = true
	if record.Job.ID == "" { // what its task is made of
		record.Job.ID, record.Job.TaskType, record.Job.Tenant, record.Job.Priority = id, record.TaskType, record.Tenant, record.Priority
		record.Job.RunAt = timeOrNil(record.RunAt)
	}
	return record, errors.Join(unread...)
}

// unreadable stands in a list for an error that cannot be read.
func unreadable(field string, err error) *tasks.Failure {
	return &tasks.Failure{
		Class: tasks.ClassInternal, Code: CodeUnreadable, Message: "the field " + field + " of the job's record cannot be read: " + err.Error(),
	}
}
