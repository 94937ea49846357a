package jobstore

import (
	"bytes"
	"encoding"
	"encoding/json"
	"math"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// writer appends one value, which is addressable, as JSON. What it appends is, to the byte, what encoding/json writes without HTML escapes.
type writer func(dst []byte, value reflect.Value) ([]byte, error)

// writers are those of the types that were met. A job writes three values of the contract, most of whose fields are
// texts, numbers and times: without encoding/json's general way to a time, which writes it, reads it and copies it,
// they cost a third.
var writers sync.Map // reflect.Type -> writer

func writerOf(kind reflect.Type) writer {
	if known, found := writers.Load(kind); found {
		write, _ := known.(writer)
		return write
	}
	write := newWriter(kind)
	writers.Store(kind, write)
	return write
}

var (
	timeType      = reflect.TypeFor[time.Time]()
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

func newWriter(kind reflect.Type) writer {
	switch {
	case kind == timeType:
		return writeTime
	case kind == reflect.PointerTo(timeType):
		return orNull(writeTime)
	case marshals(kind), kind.Kind() == reflect.Pointer && marshals(kind.Elem()):
		return writeOther
	}
	switch kind.Kind() {
	case reflect.String:
		return writeString
	case reflect.Bool:
		return func(dst []byte, value reflect.Value) ([]byte, error) {
			return strconv.AppendBool(dst, value.Bool()), nil
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return func(dst []byte, value reflect.Value) ([]byte, error) {
			return strconv.AppendInt(dst, value.Int(), 10), nil
		}
	case reflect.Float64:
		return writeFloat
	case reflect.Pointer:
		return orNull(newWriter(kind.Elem()))
	case reflect.Struct:
		return structWriter(kind)
	default:
		return writeOther
	}
}

func marshals(kind reflect.Type) bool {
	pointer := reflect.PointerTo(kind)
	return pointer.Implements(jsonMarshaler) || pointer.Implements(textMarshaler)
}

func orNull(write writer) writer {
	return func(dst []byte, value reflect.Value) ([]byte, error) {
		if value.IsNil() {
			return append(dst, "null"...), nil
		}
		return write(dst, value.Elem())
	}
}

// field is one of a struct's.
type field struct {
	index int
	name  string // quoted, with its colon
	omit  bool   // while it is empty
	write writer
}

// structWriter writes structs of plain fields; others are encoding/json's.
func structWriter(kind reflect.Type) writer {
	fields := make([]field, 0, kind.NumField())
	for i := range kind.NumField() {
		of := kind.Field(i)
		tag := of.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case tag == "-" || (!of.IsExported() && !of.Anonymous):
			continue
		case of.Anonymous, name == "", options != "" && options != "omitempty":
			return writeOther
		}
		fields = append(fields, field{i, strconv.Quote(name) + ":", options == "omitempty", newWriter(of.Type)})
	}
	return func(dst []byte, value reflect.Value) ([]byte, error) { return writeFields(dst, value, fields) }
}

func writeFields(dst []byte, value reflect.Value, fields []field) ([]byte, error) {
	dst = append(dst, '{')
	first := true
	for i := range fields {
		f := &fields[i]
		own := value.Field(f.index)
		if f.omit && empty(own) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		var err error
		if dst, err = f.write(append(dst, f.name...), own); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

// empty is what omitempty leaves out.
func empty(value reflect.Value) bool {
	switch value.Kind() {
	case reflect.Struct:
		return false
	case reflect.Slice, reflect.Map, reflect.Array:
		return value.Len() == 0
	default:
		return value.IsZero()
	}
}

// writeOther leaves a value to encoding/json.
func writeOther(dst []byte, value reflect.Value) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value.Interface()); err != nil {
		return dst, err
	}
	return append(dst, bytes.TrimSuffix(buffer.Bytes(), []byte("\n"))...), nil
}

func writeTime(dst []byte, value reflect.Value) ([]byte, error) {
	at, _ := value.Addr().Interface().(*time.Time)
	if year := at.Year(); at.Location() != time.UTC || year < 0 || year > 9999 {
		return writeOther(dst, value)
	}
	return append(at.AppendFormat(append(dst, '"'), time.RFC3339Nano), '"'), nil
}

func writeFloat(dst []byte, value reflect.Value) ([]byte, error) {
	number := value.Float()
	if size := math.Abs(number); size != 0 && !(size >= 1e-6 && size < 1e21) {
		return writeOther(dst, value)
	}
	return strconv.AppendFloat(dst, number, 'f', -1, 64), nil
}

func writeString(dst []byte, value reflect.Value) ([]byte, error) {
	text := value.String()
	if !utf8.ValidString(text) {
		return writeOther(dst, value)
	}
	start, written := len(dst), 0
	dst = append(dst, '"')
	for i := range len(text) {
		c := text[i]
		switch {
		case c == 0xe2 && (text[i:i+3] == "\u2028" || text[i:i+3] == "\u2029"):
			return writeOther(dst[:start], value) // line separators, which JavaScript once knew better than JSON
		case c >= ' ' && c != '"' && c != '\\':
			continue
		}
		dst = escape(append(dst, text[written:i]...), c)
		written = i + 1
	}
	return append(append(dst, text[written:]...), '"'), nil
}

// escape writes a character that may not stand in a JSON text.
func escape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	}
	const digits = "0123456789abcdef"
	return append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
}
