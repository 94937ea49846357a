package reconciler

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/webhooks"
)

// messages writes and reads asynq's own messages. Their package is internal, but registers its type.
type messages struct{ kind protoreflect.MessageType }

func newMessages() (messages, error) {
	kind, err := protoregistry.GlobalTypes.FindMessageByName("asynq.TaskMessage")
	if err != nil {
		return messages{}, fmt.Errorf("reconciler: this build of asynq has no asynq.TaskMessage: %w", err)
	}
	return messages{kind}, nil
}

// task is a task as asynq would enqueue it.
type task struct {
	id, queue string
	lane      string // in the queue, or ""
	msg       []byte
	due       time.Time // the zero time is now
}

// of makes the task of a job's current run anew. A job that waits for a time gets it back at that time.
func (m messages) of(keys keyspace.Keyspace, record *jobstore.Record) (task, error) {
	job := record.Job
	job.ID, job.TaskType, job.Priority = record.ID, record.TaskType, record.Priority
	made, options, err := envelope.New(keys, job, record.Shard, record.Run)
	if err != nil {
		return task{}, err
	}
	answer, err := m.write(made, options)
	if record.Waiting != nil && record.Waiting.Until.After(answer.due) {
		answer.due = record.Waiting.Until
	}
	return answer, err
}

// ofWebhook makes the task of a webhook's current cycle anew, for when it is due.
func (m messages) ofWebhook(keys keyspace.Keyspace, record *webhooks.Record) (task, error) {
	made, options, err := envelope.NewWebhook(keys, record.Shard, record.ID, record.Event, record.Cycle, record.NextAt)
	if err != nil {
		return task{}, err
	}
	return m.write(made, options)
}

// write writes a task with its options as asynq's client does.
func (m messages) write(made *asynq.Task, options []asynq.Option) (answer task, err error) {
	message := m.kind.New()
	fields := message.Descriptor().Fields()
	set := func(name protoreflect.Name, value any) {
		message.Set(fields.ByName(name), protoreflect.ValueOf(value))
	}
	set("type", made.Type())
	set("payload", made.Payload())
	for _, option := range options {
		switch value := option.Value(); option.Type() {
		case asynq.TaskIDOpt:
			answer.id, _ = value.(string)
			set("id", answer.id)
		case asynq.QueueOpt:
			answer.queue, _ = value.(string)
			set("queue", answer.queue)
		case asynq.MaxRetryOpt:
			retries, _ := value.(int)
			set("retry", int32(retries))
		case asynq.TimeoutOpt:
			set("timeout", wholeSeconds(value))
		case asynq.RetentionOpt:
			set("retention", wholeSeconds(value))
		case asynq.ProcessAtOpt:
			answer.due, _ = value.(time.Time)
		case asynq.GroupOpt:
			answer.lane, _ = value.(string)
			set("group_key", answer.lane)
		case asynq.DeadlineOpt, asynq.UniqueOpt, asynq.ProcessInOpt:
			return task{}, fmt.Errorf("reconciler: envelopes have an option %s that cannot be written anew", option)
		}
	}
	answer.msg, err = proto.Marshal(message.Interface())
	return answer, err
}

func wholeSeconds(value any) int64 {
	span, _ := value.(time.Duration)
	return int64(span / time.Second)
}

// unreadable tells that asynq cannot decode a message.
func (m messages) unreadable(msg string) bool {
	return proto.Unmarshal([]byte(msg), m.kind.New().Interface()) != nil
}

var errForeignID = errors.New("no job has such a task")

// jobOf reads the id of a task: the job and the run that it was made for.
func jobOf(taskID string) (id string, run int, err error) {
	id, rest, dotted := strings.Cut(taskID, ".")
	run = 1
	if dotted {
		if run, err = strconv.Atoi(rest); err != nil {
			return "", 0, errForeignID
		}
	}
	if !tasks.ValidID(id) || run < 1 || envelope.TaskID(id, run) != taskID {
		return "", 0, errForeignID
	}
	return id, run, nil
}
