package config

import (
	"crypto/sha256"
	"encoding/hex"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// versionDigits is the length of a Version.
const versionDigits = 12

// Version is a digest of all that the file says, with the defaults that it leaves out: how it is written changes nothing.
// Secrets have no part in it.
func (f *File) Version() string {
	text, err := yaml.Marshal(f)
	if err != nil {
		return "" // what was read can be written
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])[:versionDigits]
}

// users are the kinds of processes that a section is for, of which every other one is for all.
var users = map[string][]string{
	"worker":  {"worker", "dev"},
	"http":    {"producer", "dev"},
	"ops":     {"worker", "producer", "scheduler"},
	"inbox":   {"producer", "dev"},
	"files":   {"producer", "dev"},
	"batches": {"producer", "dev"},
	"alerts":  {"scheduler", "dev"},
}

// taken are the sections that a process takes up while it runs, beside those of the catalog.
var taken = []string{"health", "tenants", "schedules", "alerts"}

// Restart lists the fields that differ from another file's and that a process of a kind (worker, producer, scheduler, dev)
// reads only when it is started. A connection to Redis, an address that is listened on, the number of slots and the keys
// of what is sealed cannot change under what is under way; whatever is not known to can, needs a restart.
func (f *File) Restart(other *File, kind string) []string {
	var fields []string
	before, after := reflect.ValueOf(f).Elem(), reflect.ValueOf(other).Elem()
	for i := range before.NumField() {
		field := before.Type().Field(i)
		name := yamlName(field)
		if !field.IsExported() || name == "" || slices.Contains(taken, name) {
			continue
		}
		if of := users[name]; of == nil || slices.Contains(of, kind) {
			fields = append(fields, differing(name, before.Field(i), after.Field(i))...)
		}
	}
	if f.Catalog.Webhooks.Slots != other.Catalog.Webhooks.Slots && slices.Contains(users["worker"], kind) {
		fields = append(fields, "webhooks.slots")
	}
	return fields
}

// differing lists the fields below a path in which two values differ.
func differing(path string, before, after reflect.Value) []string {
	if before.Kind() != reflect.Struct {
		if reflect.DeepEqual(before.Interface(), after.Interface()) {
			return nil
		}
		return []string{path}
	}
	var fields []string
	for i := range before.NumField() {
		if field := before.Type().Field(i); field.IsExported() {
			fields = append(fields, differing(path+"."+yamlName(field), before.Field(i), after.Field(i))...)
		}
	}
	return fields
}

// yamlName is what the file calls a field; empty for one that is no section.
func yamlName(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
	return name
}
