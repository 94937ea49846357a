package config

import (
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

// withoutRange leaves out what stands in another column already.
func withoutRange(doc, may string) string {
	if may == "" {
		return doc
	}
	return strings.Replace(doc, ", "+may+".", ".", 1)
}

var defaultSentence = regexp.MustCompile(` ?(They default|Defaults?) to [^;]*?\.( |$)`)

func withoutDefault(doc string) string {
	return strings.TrimSpace(defaultSentence.ReplaceAllString(doc, " "))
}

// subject leaves out the name with which a comment begins.
func subject(doc, name string) string {
	for _, verb := range []string{" is ", " are ", " "} {
		if rest, found := strings.CutPrefix(doc, name+verb); found && !strings.HasPrefix(rest, "and ") {
			return capital(rest)
		}
	}
	return doc
}

func capital(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// kindOf is a type in the words of a file's user.
func kindOf(typ reflect.Type) string {
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch {
	case typ == durationType:
		return "duration"
	case typ == servedType:
		return "list of models, or mapping to their names here"
	case typ == limitType:
		return "number, or `off`"
	case typ.Kind() == reflect.Map && elem(typ).Kind() == reflect.Interface:
		return "mapping"
	case typ.Kind() == reflect.Map:
		return "mapping of names to " + plural(kindOf(typ.Elem()))
	case typ.Kind() == reflect.Slice:
		return "list of " + plural(kindOf(typ.Elem()))
	}
	words := map[reflect.Kind]string{ //nolint:exhaustive // the kinds of the configuration
		reflect.String: "text", reflect.Bool: "true or false", reflect.Int: "whole number", reflect.Float64: "number", reflect.Struct: "mapping",
	}
	return words[typ.Kind()]
}

func plural(kind string) string {
	if strings.HasPrefix(kind, "list of") {
		return "lists of" + strings.TrimPrefix(kind, "list of")
	}
	return kind + "s"
}

// words are Go's names for what comments speak of.
var words = map[string]string{
	"On": On, "Off": Off, "Unlimited": catalog.Off, "AuthBearer": catalog.AuthBearer, "AuthAPIKey": catalog.AuthAPIKey, "AuthNone": catalog.AuthNone,
	"Defer": string(catalog.Defer), "Degrade": string(catalog.Degrade), "Fail": string(catalog.Fail), "DefaultTenant": catalog.DefaultTenant,
	"DefaultSecret": tasks.DefaultSecret, "BatchEvents": strings.Join(tasks.BatchEvents(), "`, `"),
}

var (
	qualified = regexp.MustCompile(`\b(?:tasks|catalog)\.([A-Z])`)
	goName    = regexp.MustCompile(`\b(Defaults? to|[A-Z][A-Za-z]*)\b`)
	seeAlso   = regexp.MustCompile(`[;,:] see (?:package )?(?:[a-z/]+|RedisURLForms)\.`)
)

// prose is a comment in which Go's names are the file's. The names are those of the type that the comment stands in, and
// of all others where they could be no word.
func (r *reference) prose(doc string, typ reflect.Type) string {
	doc = seeAlso.ReplaceAllString(doc, ".")
	doc = qualified.ReplaceAllString(doc, "$1")
	names := maps.Clone(words)
	for _, other := range []reflect.Type{reflect.TypeFor[catalog.Budget](), reflect.TypeFor[catalog.Defaults](), typ} {
		for field := range other.Fields() {
			if name, _, _ := strings.Cut(field.Tag.Get("yaml"), ","); name != "" && name != "-" {
				if other == typ || strings.ContainsFunc(field.Name[1:], func(c rune) bool { return c >= 'A' && c <= 'Z' }) {
					names[field.Name] = name
				}
			}
		}
	}
	return goName.ReplaceAllStringFunc(doc, func(word string) string {
		if name, found := names[word]; found && word != strings.ToUpper(word) {
			return "`" + name + "`"
		}
		return word
	})
}

// kinds are those of processes.
var kinds = []string{"worker", "producer", "scheduler", "dev"}

// live says which fields of a section a process takes up while it runs, as Restart does.
func (r *reference) live(section string) string {
	needed, fields, all := map[string]bool{}, []string{}, true
	for _, path := range changeable(reflect.ValueOf(r.file).Elem(), []string{section}) {
		other := *r.file
		change(fieldBelow(reflect.ValueOf(&other).Elem(), path))
		restart := false
		for _, kind := range kinds {
			if len(r.file.Restart(&other, kind)) > 0 {
				needed[kind], restart = true, true
			}
		}
		if restart {
			fields = append(fields, "`"+strings.Join(path[1:], ".")+"`")
		}
		all = all && restart
	}
	processes := strings.Join(slices.DeleteFunc(slices.Clone(kinds), func(kind string) bool { return !needed[kind] }), ", ")
	if len(needed) == len(kinds) {
		processes = "every process"
	}
	switch {
	case len(fields) == 0:
		return "*Changes are taken up while processes run.*\n"
	case all:
		return "*A change needs a restart: " + processes + ".*\n"
	}
	return "*A change of " + strings.Join(fields, ", ") + " needs a restart: " + processes + ". The others are taken up while processes run.*\n"
}

// changeable are the fields below a path, as deep as there are structs.
func changeable(value reflect.Value, path []string) [][]string {
	field := fieldBelow(value, path)
	if field.Kind() != reflect.Struct {
		return [][]string{path}
	}
	var all [][]string
	_, names := fieldsOf(field.Type())
	for _, name := range names {
		all = append(all, changeable(value, child(path, name))...)
	}
	return all
}

func fieldBelow(value reflect.Value, path []string) reflect.Value {
	for _, name := range path {
		value = fieldNamed(value, name)
	}
	return value
}

// change makes a field another.
func change(field reflect.Value) {
	switch field.Kind() { //nolint:exhaustive // the kinds of the configuration
	case reflect.String:
		field.SetString(field.String() + "x")
	case reflect.Int, reflect.Int64:
		field.SetInt(field.Int() + 1)
	case reflect.Float64:
		field.SetFloat(field.Float() + 1)
	case reflect.Bool:
		field.SetBool(!field.Bool())
	case reflect.Slice:
		field.Set(reflect.MakeSlice(field.Type(), field.Len()+1, field.Len()+1))
	case reflect.Map:
		field.Set(reflect.MakeMap(field.Type()))
	case reflect.Pointer:
		field.Set(reflect.New(field.Type().Elem()))
	}
}
