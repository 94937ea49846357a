package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"
)

// maxKeyBytes bounds an API key, so that a wrong file is not taken for one. Tokens of cloud providers reach a few
// kilobytes.
const maxKeyBytes = 16 << 10

var (
	placeholderPattern = regexp.MustCompile(`(?i)\byour[_-]|<[^<>]*>|change[_-]?me|replace[_-]?me|placeholder|\$\{|x{6}|^(sk|hs)-(x+$|x{4}|\.\.|\*)|^(x+|\*+|\.\.\.|todo)$`)
	keyPattern         = regexp.MustCompile(`^(?i:bearer )?(sk|hs|pk)-[A-Za-z0-9_-]{12,}$`)
)

// placeholder reports whether a value was copied from an example and never filled in.
func placeholder(value string) bool { return placeholderPattern.MatchString(value) }

func looksLikeKey(value string) bool { return keyPattern.MatchString(value) }

// keyCharacter reports whether r can stand in a key: it is sent as a header.
func keyCharacter(r rune) bool { return r > ' ' && r < 0x7f }

// Key reads the API key of an account from its environment variable or file, anew at each call, so that a file can be
// replaced while workers run. It is empty for an account that needs none. The error says which variable or file is
// missing, a placeholder or of the wrong shape, and what was expected; it never holds any part of the key.
func (c *Catalog) Key(account string) (string, error) {
	a := c.Accounts[account]
	if a == nil {
		return "", fmt.Errorf("%s", unknown("account", account, sortedNames(c.Accounts)))
	}
	var key, source string
	switch {
	case a.KeyEnv != "":
		source = "the environment variable " + a.KeyEnv
		key = c.env(a.KeyEnv)
	case a.KeyFile != "":
		source = "the file " + a.KeyFile
		content, err := os.ReadFile(a.KeyFile)
		if err != nil {
			return "", fmt.Errorf("account %s: its API key cannot be read from %s: %w", account, source, pathless(err))
		}
		key = string(content)
	default:
		return "", nil
	}
	key = strings.TrimRight(key, "\r\n")
	if problem := a.KeyShape.problem(key); problem != "" {
		return "", fmt.Errorf("account %s: %s %s; put the API key there (expected: %s)", account, source, problem, a.KeyShape)
	}
	return key, nil
}

func (c *Catalog) env(name string) string {
	lookup := c.LookupEnv
	if lookup == nil {
		lookup = os.LookupEnv
	}
	value, _ := lookup(name)
	return value
}

// problem says what is wrong with a key without repeating it.
func (s KeyShape) problem(key string) string {
	switch {
	case key == "":
		return "is not set or empty"
	case len(key) > maxKeyBytes:
		return fmt.Sprintf("holds more than %d bytes, which is no key", maxKeyBytes)
	case placeholder(key):
		return "holds a placeholder"
	case strings.ContainsFunc(key, func(r rune) bool { return !keyCharacter(r) }):
		return "holds spaces, line breaks or other characters that no key has"
	case !s.begins(key):
		return "holds a key of another shape: it begins differently"
	case utf8.RuneCountInString(key) < s.MinLength:
		return fmt.Sprintf("holds a key of another shape: it has only %d characters", utf8.RuneCountInString(key))
	}
	return ""
}

func (s KeyShape) begins(key string) bool {
	for _, prefix := range s.Prefixes {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return len(s.Prefixes) == 0
}

// String describes the shape: `begins with "sk-" or "hs-", at least 20 characters`.
func (s KeyShape) String() string {
	var parts []string
	if len(s.Prefixes) > 0 {
		quoted := make([]string, len(s.Prefixes))
		for i, prefix := range s.Prefixes {
			quoted[i] = fmt.Sprintf("%q", prefix)
		}
		parts = append(parts, "begins with "+strings.Join(quoted, " or "))
	}
	if s.MinLength > 0 {
		parts = append(parts, fmt.Sprintf("at least %d characters", s.MinLength))
	}
	if len(parts) == 0 {
		return "one line"
	}
	return strings.Join(parts, ", ")
}

// pathless takes the path out of an error that names it: the message has it already.
func pathless(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}
