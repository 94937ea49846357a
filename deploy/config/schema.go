package config

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/forebay-queue/forebay/tasks/catalog"
)

// schema compares a file with the Go types it is read into, and notes where everything stands. The YAML library
// would stop at the first surprise and convert others silently; here each is a problem of its own, in our words.
type schema struct {
	file     *File
	problems []Problem
}

// maxDepth is deeper than any configuration, so that no file exhausts the stack.
const maxDepth = 64

var (
	durationType = reflect.TypeFor[time.Duration]()
	servedType   = reflect.TypeFor[catalog.ServedModels]()
	limitType    = reflect.TypeFor[catalog.DailyLimit]()
	digits       = regexp.MustCompile(`^[-+]?[0-9][0-9_]*$`)
)

func (s *schema) refuse(node ast.Node, path []string, format string, args ...any) {
	where := positionOf(node)
	s.problems = append(s.problems, Problem{
		File: s.file.name, Line: where.line, Column: where.column,
		Path: catalog.JoinPath(path), Text: fmt.Sprintf(format, args...),
	})
}

// positionOf is where a node begins. A mapping's own token is its first colon, so that its first key is asked.
func positionOf(node ast.Node) position {
	switch n := node.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return positionOf(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return positionOf(n.Key)
	}
	if node == nil {
		return position{1, 1}
	}
	token := node.GetToken()
	if token == nil || token.Position == nil {
		return position{1, 1}
	}
	return position{max(token.Position.Line, 1), max(token.Position.Column, 1)}
}

// value checks that node can be read into typ.
func (s *schema) value(node ast.Node, typ reflect.Type, path []string) {
	if len(path) > maxDepth {
		s.refuse(node, path[:1], "is nested too deeply")
		return
	}
	switch node.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		s.refuse(node, path, "anchors and aliases are not supported; write the value out")
		return
	case *ast.TagNode:
		s.refuse(node, path, "tags are not supported; write the value without it")
		return
	}
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch {
	case typ == durationType:
		s.duration(node, path)
	case typ == servedType:
		s.served(node, path)
	case typ == limitType:
		s.limit(node, path)
	case typ.Kind() == reflect.Struct:
		s.structure(node, typ, path)
	case typ.Kind() == reflect.Map:
		s.mapping(node, path, func(_ ast.Node, name string, value ast.Node) {
			s.value(value, typ.Elem(), child(path, name))
		})
	case typ.Kind() == reflect.Slice:
		s.sequence(node, path, func(i int, value ast.Node) {
			s.value(value, typ.Elem(), child(path, catalog.ListIndex(i)))
		})
	case typ.Kind() == reflect.Interface:
		s.anything(node, path)
	default:
		s.scalar(node, typ, path)
	}
}

func child(path []string, key string) []string {
	return append(path[:len(path):len(path)], key)
}

// structure checks the keys of a mapping against the fields of a struct.
func (s *schema) structure(node ast.Node, typ reflect.Type, path []string) {
	fields, names := fieldsOf(typ)
	s.mapping(node, path, func(key ast.Node, name string, value ast.Node) {
		field, known := fields[name]
		if !known {
			s.refuse(key, child(path, name), "%s", unknownField(name, names))
			return
		}
		s.value(value, field, child(path, name))
	})
}

func unknownField(name string, known []string) string {
	if meant, found := catalog.Nearest(name, known); found {
		return fmt.Sprintf("unknown field, did you mean %s?", meant)
	}
	return "unknown field; there are " + strings.Join(known, ", ")
}

// fieldsOf lists the YAML fields of a struct, with those of inlined structs, in their order.
func fieldsOf(typ reflect.Type) (types map[string]reflect.Type, names []string) {
	types = map[string]reflect.Type{}
	for field := range typ.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		switch {
		case !field.IsExported() || name == "-":
		case options == "inline":
			inner, innerNames := fieldsOf(field.Type)
			for _, name := range innerNames {
				types[name] = inner[name]
			}
			names = append(names, innerNames...)
		default:
			types[name] = field.Type
			names = append(names, name)
		}
	}
	return types, names
}

// mapping visits the entries of a mapping whose keys are sound. A section without entries is allowed; an entry of a
// map without a value is not.
func (s *schema) mapping(node ast.Node, path []string, visit func(key ast.Node, name string, value ast.Node)) {
	var entries []*ast.MappingValueNode
	switch n := node.(type) {
	case *ast.MappingNode:
		entries = n.Values
	case *ast.MappingValueNode:
		entries = []*ast.MappingValueNode{n}
	case *ast.NullNode:
		if len(path) > 1 {
			s.refuse(node, path, "has no value; write one or remove the line")
		}
		return
	default:
		s.refuse(node, path, "must be a mapping of keys and values, not %s", describe(node))
		return
	}
	first := map[string]position{}
	for _, entry := range entries {
		key, isText := entry.Key.(*ast.StringNode)
		switch {
		case entry.Key.IsMergeKey():
			s.refuse(entry.Key, path, "merge keys are not supported; write the values out")
			continue
		case !isText:
			s.refuse(entry.Key, path, "a key must be a text; put it in quotes")
			continue
		case strings.ContainsFunc(key.Value, func(r rune) bool { return r < ' ' }):
			s.refuse(key, path, "a key holds a control character")
			continue
		}
		if earlier, twice := first[key.Value]; twice {
			s.refuse(key, child(path, key.Value), "is given twice, first in line %d", earlier.line)
			continue
		}
		first[key.Value] = positionOf(key)
		s.note(child(path, key.Value), key, entry.Value)
		visit(key, key.Value, entry.Value)
	}
}

func (s *schema) sequence(node ast.Node, path []string, visit func(i int, value ast.Node)) {
	switch n := node.(type) {
	case *ast.SequenceNode:
		for i, value := range n.Values {
			s.note(child(path, catalog.ListIndex(i)), value, value)
			visit(i, value)
		}
	case *ast.NullNode:
		if len(path) > 1 {
			s.refuse(node, path, "has no value; write one or remove the line")
		}
	default:
		s.refuse(node, path, "must be a list, not %s", describe(node))
	}
}

func (s *schema) note(path []string, key, value ast.Node) {
	_, scalar := value.(ast.ScalarNode)
	s.file.places.put(path, place{key: positionOf(key), value: positionOf(value), scalar: scalar})
}

// limit checks US dollars, which may be off.
func (s *schema) limit(node ast.Node, path []string) {
	switch n := node.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		return
	case *ast.StringNode:
		if n.Value == catalog.Off {
			return
		}
	}
	s.refuse(node, path, "must be a number of US dollars, or %s, not %s", catalog.Off, describe(node))
}

// served checks the models of an endpoint: a list of names, or a mapping of names to the endpoint's own.
func (s *schema) served(node ast.Node, path []string) {
	text := reflect.TypeFor[string]()
	if empty(node) {
		s.refuse(node, path, "lists no model; leave it out for the default, all models")
		return
	}
	if _, list := node.(*ast.SequenceNode); !list {
		s.mapping(node, path, func(_ ast.Node, name string, value ast.Node) { s.value(value, text, child(path, name)) })
		return
	}
	s.sequence(node, path, func(i int, value ast.Node) {
		s.value(value, text, child(path, catalog.ListIndex(i)))
		if name, ok := value.(*ast.StringNode); ok {
			s.note(child(path, name.Value), value, value)
		}
	})
}

// empty tells that a list or mapping has no entries.
func empty(node ast.Node) bool {
	switch n := node.(type) {
	case *ast.SequenceNode:
		return len(n.Values) == 0
	case *ast.MappingNode:
		return len(n.Values) == 0
	}
	return false
}

func (s *schema) duration(node ast.Node, path []string) {
	text, ok := node.(*ast.StringNode)
	if !ok {
		s.refuse(node, path, "must be a duration such as 30s, 5m or 1h30m, not %s", describe(node))
		return
	}
	if _, err := time.ParseDuration(text.Value); err != nil {
		s.refuse(node, path, "must be a duration such as 30s, 5m or 1h30m, got %q", cut(text.Value))
	}
}

func (s *schema) scalar(node ast.Node, typ reflect.Type, path []string) {
	good, want := false, ""
	switch typ.Kind() { //nolint:exhaustive // the kinds that the configuration's types have
	case reflect.String:
		want = "a text"
		switch node.(type) {
		case *ast.StringNode, *ast.LiteralNode:
			good = true
		case *ast.IntegerNode, *ast.FloatNode:
			want = "a text in quotes"
		case *ast.BoolNode:
			if want = allowed[pattern(path)]; want == "" {
				want = "a text in quotes"
			}
		}
	case reflect.Bool:
		want = "true or false"
		_, good = node.(*ast.BoolNode)
	case reflect.Int:
		want = "a whole number"
		if number, whole := node.(*ast.IntegerNode); whole {
			value, fits := number.Value.(uint64)
			if fits && value > math.MaxInt32 {
				s.refuse(node, path, "is too large a number")
				return
			}
			good = true
		} else if bareDigits(node) {
			s.refuse(node, path, "is too large a number")
			return
		}
	case reflect.Float64:
		want = "a number"
		switch node.(type) {
		case *ast.IntegerNode, *ast.FloatNode:
			good = true
		}
	}
	if _, null := node.(*ast.NullNode); null {
		s.refuse(node, path, "has no value; write one or remove the line")
	} else if !good {
		s.refuse(node, path, "must be %s, not %s", want, describe(node))
	}
}

// cut is what an error repeats of a text.
func cut(text string) string {
	const longest = 40
	if runes := []rune(text); len(runes) > longest {
		return string(runes[:longest]) + "..."
	}
	return text
}

// bareDigits tells of a whole number that is too large for the YAML library, which takes it for a text.
func bareDigits(node ast.Node) bool {
	text, ok := node.(*ast.StringNode)
	return ok && text.Token.Type == token.StringType && digits.MatchString(text.Value)
}

// anything checks what goes into requests as it is: all that JSON can say.
func (s *schema) anything(node ast.Node, path []string) {
	switch node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		s.mapping(node, path, func(_ ast.Node, name string, value ast.Node) {
			s.value(value, reflect.TypeFor[any](), child(path, name))
		})
	case *ast.SequenceNode:
		s.sequence(node, path, func(i int, value ast.Node) {
			s.value(value, reflect.TypeFor[any](), child(path, catalog.ListIndex(i)))
		})
	case *ast.StringNode, *ast.LiteralNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
	default:
		s.refuse(node, path, "must be something that JSON can say, not %s", describe(node))
	}
}

func describe(node ast.Node) string {
	switch node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode, *ast.LiteralNode:
		return "a text"
	case *ast.IntegerNode:
		return "a whole number"
	case *ast.FloatNode:
		return "a fraction"
	case *ast.InfinityNode:
		return "infinity"
	case *ast.NanNode:
		return "what is no number"
	case *ast.BoolNode:
		return "true or false"
	case *ast.NullNode:
		return "nothing"
	}
	return "this"
}
