package catalog

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/tokens"
)

// inputMark is what a prompt template has where the job's input belongs.
const inputMark = "{{input}}"

// field is one field of a request, encoded.
type field struct {
	name  string
	value json.RawMessage
}

// encodeFields encodes the defaults of a task type, in the order of their names. A null is a default left out.
func encodeFields(values map[string]any) []field {
	var fields []field
	for _, name := range sortedNames(values) {
		if values[name] == nil {
			continue
		}
		if value, err := tasks.Encode(values[name]); err == nil { // Validate has encoded it before
			fields = append(fields, field{name: name, value: value})
		}
	}
	return fields
}

// render writes the job's input into its request, and the defaults into the request where it has no such field. The
// bytes of a request that the user wrote stay as they are. It answers how many tokens the request has.
func (c *Catalog) render(job *tasks.Job) (int, error) {
	taskType := c.TaskTypes[job.TaskType]
	body := job.Request
	var messages []tokens.Message
	var asked map[string]json.RawMessage
	if job.Input != "" {
		messages = messagesOf(job.Input, taskType)
		var err error
		if body, err = renderInput(messages, job.Kind); err != nil {
			return 0, refuse("input", "cannot be written as JSON: %s", err)
		}
	} else {
		if err := json.Unmarshal(body, &asked); err != nil {
			return 0, refuse("request", "must be a JSON object")
		}
		content := map[tasks.Kind]string{tasks.KindChat: "messages", tasks.KindEmbedding: "input"}[job.Kind]
		if _, found := asked[content]; !found {
			return 0, refuse("request."+content, "is missing; a job of kind %s needs it", job.Kind)
		}
	}
	bounded, err := c.bounded(asked)
	if err != nil {
		return 0, err
	}
	var missing []field
	if taskType != nil || job.Kind == tasks.KindChat {
		for _, field := range c.index.defaults[job.TaskType] {
			_, given := asked[field.name]
			if !given && (!bounded || !slices.Contains(c.index.bounds, field.name)) {
				missing = append(missing, field)
			}
		}
	}
	body = appendFields(body, missing, len(asked) == 0 && job.Input == "")
	if len(body) > tasks.MaxJobBytes {
		return 0, refuse("request", "has %d bytes with its prompt and defaults; at most %d are accepted", len(body), tasks.MaxJobBytes)
	}
	job.Input, job.Request = "", body
	if job.Kind == tasks.KindChat && messages != nil {
		// The texts are at hand: they need not be read out of the JSON that was made of them.
		return tokens.Messages(messages) + tokens.Prompt(job.Kind, appendFields(json.RawMessage("{}"), missing, true)), nil
	}
	return tokens.Prompt(job.Kind, body), nil
}

// messagesOf puts the input into the prompt of its task type. It is put there as it is: nothing in it is replaced.
func messagesOf(input string, taskType *TaskType) []tokens.Message {
	if taskType == nil {
		return []tokens.Message{{Role: "user", Content: input}}
	}
	user := tokens.Message{Role: "user", Content: strings.ReplaceAll(taskType.Prompt, inputMark, input)}
	if taskType.System == "" {
		return []tokens.Message{user}
	}
	return []tokens.Message{{Role: "system", Content: taskType.System}, user}
}

// renderInput writes messages as a request of the kind; an embedding is of the last one's text.
func renderInput(messages []tokens.Message, kind tasks.Kind) (json.RawMessage, error) {
	if kind == tasks.KindEmbedding {
		return tasks.Encode(struct {
			Input string `json:"input"`
		}{messages[len(messages)-1].Content})
	}
	return tasks.Encode(struct {
		Messages []tokens.Message `json:"messages"`
	}{messages})
}

// bounded reports whether the request bounds its answer, under any of the names that models have for it, and refuses
// a bound that is none.
func (c *Catalog) bounded(asked map[string]json.RawMessage) (bool, error) {
	found := false
	for _, name := range c.index.bounds {
		value, given := asked[name]
		if given && !validBound(value) {
			return false, refuse("request."+name, "must be a whole number of at least 1; leave it out for the default")
		}
		found = found || given
	}
	return found, nil
}

// appendFields adds fields at the end of a JSON object without touching what stands in it.
func appendFields(object json.RawMessage, fields []field, empty bool) json.RawMessage {
	if len(fields) == 0 {
		return object
	}
	inside := bytes.TrimSpace(object)
	inside = bytes.TrimRight(inside[:len(inside)-1], " \t\r\n")
	extended := slices.Clone(inside)
	for i, field := range fields {
		if i > 0 || !empty {
			extended = append(extended, ',')
		}
		name, _ := json.Marshal(field.name) // a string always encodes
		extended = append(extended, name...)
		extended = append(extended, ':')
		extended = append(extended, field.value...)
	}
	return append(extended, '}')
}
