package simulator

import (
	"regexp"
	"strings"
)

// instructionLimit is the longest paragraph, in bytes, that is taken for an instruction.
const instructionLimit = 600

var (
	blankLine = regexp.MustCompile(`\r?\n[ \t]*\r?\n`)
	// asks recognises a paragraph that tells the reader to do something with a text.
	asks = regexp.MustCompile(`(?i)^(please |kindly |you are |your task |act as |(?:please )?(?:summari[sz]e|write|give|create|produce|` +
		`condense|shorten|explain|describe|analy[sz]e|answer|translate|extract|list|read|review|rewrite|classify|tell) )`)
	about = regexp.MustCompile(`(?i)\b(text|document|article|passage|following|below|above|` +
		`content|input|section|page|summary|question|code)\b`)
)

// document finds the text to be worked on in a user message: all of it, less an instruction that a prompt template
// may have put before or behind it. An instruction is a short first paragraph that ends with a colon or asks for
// something to be done with a text, a first line that asks and ends with a colon, or a short last paragraph of the
// first sort ("Summary:"). A message that would have nothing left is the document itself.
func document(message string) string {
	rest := message
	for range 2 { // "You are ...", then "Summarise the text below:"
		end := leadingInstruction(rest)
		if end == 0 {
			break
		}
		rest = rest[end:]
	}
	if gaps := blankLine.FindAllStringIndex(rest, -1); len(gaps) > 0 {
		last := gaps[len(gaps)-1]
		if isInstruction(rest[last[1]:]) {
			rest = rest[:last[0]]
		}
	}
	if strings.TrimSpace(rest) == "" {
		return message
	}
	return rest
}

// leadingInstruction returns where the instruction that the message begins with ends; 0 when it begins with none.
func leadingInstruction(message string) int {
	line, below, _ := strings.Cut(message, "\n")
	asked := asks.MatchString(line)
	colon := strings.IndexByte(line, ':')
	if asked && colon == len(strings.TrimSpace(line))-1 && listMarker(below) == 0 {
		return colon + 1
	}
	if gap := blankLine.FindStringIndex(message); gap != nil && isInstruction(message[:gap[0]]) {
		return gap[1]
	}
	if asked && colon > 0 && colon < instructionLimit {
		return colon + 1
	}
	return 0
}

func isInstruction(paragraph string) bool {
	paragraph = strings.TrimSpace(paragraph)
	if len(paragraph) > instructionLimit {
		return false
	}
	return strings.HasSuffix(paragraph, ":") && !strings.HasSuffix(paragraph, "::") ||
		asks.MatchString(paragraph) && about.MatchString(paragraph)
}
