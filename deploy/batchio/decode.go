package batchio

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/forebay-queue/forebay/tasks"
)

// mostNames is how many fields or columns an error lists.
const mostNames = 12

// decodeCall reads a line of OpenAI's Batch API.
func decodeCall(config Config, text []byte) (Item, error) {
	fields, err := objectOf(text)
	if err != nil {
		return Item{}, err
	}
	var item Item
	var method, url string
	for _, field := range []struct {
		name string
		into *string
	}{{"custom_id", &item.Key}, {"method", &method}, {"url", &url}} {
		if json.Unmarshal(fields[field.name], field.into) != nil || *field.into == "" {
			return item, fmt.Errorf("%s is missing, or no string; a line is {\"custom_id\", \"method\", \"url\", \"body\"}", field.name)
		}
	}
	body := bytes.TrimSpace(fields["body"])
	switch {
	case method != "POST":
		return item, fmt.Errorf("method must be POST, got %.20q", method)
	case len(body) == 0 || body[0] != '{':
		return item, errors.New("body is missing, or no object: it is what the call sends")
	}
	item.Job, err = config.JobOfCall(url, body)
	return item, err
}

// decodeJob reads a job of Forebay. Its id names the answer; the job has one of its batch.
func decodeJob(_ Config, text []byte) (Item, error) {
	job, err := tasks.DecodeJob(text)
	if err != nil {
		return Item{}, err
	}
	if err = job.Validate(); err != nil {
		err = oneLine(err)
	}
	item := Item{Key: job.ID, Job: job}
	item.Job.ID = ""
	return item, err
}

// decodeObject reads an object with a text in it.
func decodeObject(config Config, text []byte) (Item, error) {
	fields, err := objectOf(text)
	if err != nil {
		return Item{}, err
	}
	var item Item
	if item.Key, err = idIn(config, fields); err != nil {
		return item, err
	}
	value, found := fields[config.TextField]
	var content string
	switch {
	case !found:
		return item, fmt.Errorf("has no field %q; name the one of its text with --text-field: %s", config.TextField, listed(slices.Sorted(maps.Keys(fields))))
	case len(value) == 0 || value[0] != '"' || json.Unmarshal(value, &content) != nil:
		return item, fmt.Errorf("%s is no string; name the field of its text with --text-field", config.TextField)
	}
	return item.asking(config, content)
}

// idIn is the value of the id field: a string, or a number as it stands.
func idIn(config Config, fields map[string]json.RawMessage) (string, error) {
	name, required := config.idField()
	value := bytes.TrimSpace(fields[name])
	var id string
	switch {
	case len(value) > 0 && value[0] == '"' && json.Unmarshal(value, &id) == nil && id != "":
		return id, nil
	case len(value) > 0 && (value[0] == '-' || value[0] >= '0' && value[0] <= '9'):
		return string(value), nil
	case required:
		return "", fmt.Errorf("%s is missing, or neither a string nor a number; name the field of its id with --id-field", name)
	}
	return "", nil
}

// asking gives the item the job of a text.
func (i Item) asking(config Config, text string) (Item, error) {
	if strings.TrimSpace(text) == "" {
		return i, errEmptyText
	}
	i.Job = config.JobOfText(text)
	if err := i.Job.Validate(); err != nil {
		return i, oneLine(err)
	}
	return i, nil
}

// objectOf reads the fields of an object. Of a name that is given twice the last counts, as with most readers.
func objectOf(text []byte) (map[string]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	err := json.Unmarshal(text, &fields)
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return nil, fmt.Errorf("not JSON at byte %d: %w", syntax.Offset, syntax)
	case err != nil, fields == nil:
		return nil, errors.New("not a JSON object")
	}
	return fields, nil
}

// oneLine joins what several lines of an error say.
func oneLine(err error) error {
	return errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
}

func listed(names []string) string {
	for i, name := range names {
		if runes := []rune(name); len(runes) > 40 {
			names[i] = string(runes[:40]) + "..."
		}
	}
	if len(names) == 0 {
		return "it has none"
	}
	if len(names) > mostNames {
		return strings.Join(names[:mostNames], ", ") + ", ..."
	}
	return strings.Join(names, ", ")
}
