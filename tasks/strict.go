package tasks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// scan walks through a text that is known to be JSON and finds what JSON allows and no two programs read alike: a name
// that an object gives twice, and half of a surrogate pair, which is no character. What a job says is passed on byte
// for byte, so that neither can be mended here; see RFC 7493, section 2.
type scan struct {
	data []byte
	at   int
	// base is where the text stands in the whole, for what is said about it.
	base int
	// places are where the names of the outermost object stand, counted from 1.
	places map[string]int
	depth  int
}

// check finds the first such thing, or nil.
func (s *scan) check() *FieldError {
	if problem := s.value(); problem != nil {
		return problem
	}
	return nil
}

func (s *scan) value() *FieldError {
	s.space()
	switch s.data[s.at] {
	case '{':
		return s.object()
	case '[':
		return s.array()
	case '"':
		_, problem := s.text()
		return problem
	}
	for s.at < len(s.data) && !strings.ContainsRune(",]} \t\r\n", rune(s.data[s.at])) {
		s.at++
	}
	return nil
}

func (s *scan) object() *FieldError {
	s.at++
	s.depth++
	defer func() { s.depth-- }()
	var given names
	for s.space(); s.data[s.at] != '}'; s.space() {
		if s.data[s.at] == ',' {
			s.at++
			s.space()
		}
		start := s.at
		raw, problem := s.text()
		if problem != nil {
			return problem
		}
		name := nameOf(raw)
		if s.depth == 1 && s.places != nil {
			s.places[name] = s.base + start + 1
		}
		if !given.add(name) {
			return &FieldError{Field: shortened(name), Problem: "is given twice; give it once", Byte: s.base + start + 1}
		}
		s.space()
		s.at++ // the colon
		if problem := s.value(); problem != nil {
			problem.Field = joined(shortened(name), problem.Field)
			return problem
		}
	}
	s.at++
	return nil
}

func (s *scan) array() *FieldError {
	s.at++
	for i := 0; ; i++ {
		s.space()
		switch s.data[s.at] {
		case ']':
			s.at++
			return nil
		case ',':
			s.at++
		}
		if problem := s.value(); problem != nil {
			problem.Field = joined("["+strconv.Itoa(i)+"]", problem.Field)
			return problem
		}
	}
}

// text passes over a string and returns it with its quotes.
func (s *scan) text() ([]byte, *FieldError) {
	start := s.at
	for s.at++; s.data[s.at] != '"'; s.at++ {
		if s.data[s.at] != '\\' {
			continue
		}
		s.at++
		if s.data[s.at] != 'u' {
			continue
		}
		first := s.unit(s.at + 1)
		switch {
		case first>>11 != 0xd800>>11:
			s.at += 4
		case first < 0xdc00 && s.data[s.at+5] == '\\' && s.data[s.at+6] == 'u' && s.unit(s.at+7)>>10 == 0xdc00>>10:
			s.at += 10
		default:
			at := s.base + s.at
			return nil, &FieldError{Problem: fmt.Sprintf(`has half of a surrogate pair, \u%04x, at byte %d, which is no character; leave it out`, first, at), Byte: at}
		}
	}
	s.at++
	return s.data[start:s.at], nil
}

// unit reads the four digits of an escape; 0 where the text ends before them.
func (s *scan) unit(at int) uint64 {
	if at+4 > len(s.data) {
		return 0
	}
	unit, err := strconv.ParseUint(string(s.data[at:at+4]), 16, 16)
	if err != nil {
		return 0
	}
	return unit
}

func (s *scan) space() {
	for s.at < len(s.data) && (s.data[s.at] == ' ' || s.data[s.at] == '\t' || s.data[s.at] == '\n' || s.data[s.at] == '\r') {
		s.at++
	}
}

// nameOf is a name without its quotes and escapes.
func nameOf(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	var name string
	_ = json.Unmarshal(raw, &name) // it is known to be a string
	return name
}

// joined writes the path to a field of a field.
func joined(outer, inner string) string {
	if inner == "" || inner[0] == '[' {
		return outer + inner
	}
	return outer + "." + inner
}

// names are those that an object has given. Most have few.
type names struct {
	few  []string
	many map[string]struct{}
}

// fewNames is how many are compared one by one.
const fewNames = 16

// add reports whether the name is new.
func (n *names) add(name string) bool {
	if n.many != nil {
		_, twice := n.many[name]
		n.many[name] = struct{}{}
		return !twice
	}
	for _, known := range n.few {
		if known == name {
			return false
		}
	}
	n.few = append(n.few, name)
	if len(n.few) > fewNames {
		n.many = make(map[string]struct{}, 2*fewNames)
		for _, known := range n.few {
			n.many[known] = struct{}{}
		}
	}
	return true
}
