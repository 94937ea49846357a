package gate

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	documented = regexp.MustCompile(`^-- ((?:KEYS|ARGV)\[\d+(?:\.\.)?\])`)
	used       = regexp.MustCompile(`(?:KEYS|ARGV)\[\d+\]`)
	usedRest   = regexp.MustCompile(`(?:unpack\(| = )(KEYS|ARGV), (\d+)\b`)
)

// A script's header is its contract: what it documents is what the body takes, once, before anything else.
func TestHeadersMatchScripts(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]string{
		"admit": admitSource, "settle": settleSource, "ticket": ticketSource, "force": forceSource,
		"hold": holdSource, "settle_hold": settleHoldSource, "expired": expiredSource, "health": healthSource,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			header, body := splitHeader(source)
			require.True(t, strings.HasPrefix(source, "-- "+name+": "), "the header begins with the script's name")
			for _, section := range []string{"RETURNS", "CLOCK", "WRITES"} {
				assert.Contains(t, source, "-- "+section+" ", "section of the header")
			}

			var inHeader, inBody []string
			for _, line := range header {
				if found := documented.FindStringSubmatch(line); found != nil {
					inHeader = append(inHeader, found[1])
				}
			}
			aliases := true
			for _, line := range body {
				if strings.TrimSpace(line) == "" {
					aliases = false
				}
				uses := used.FindAllString(line, -1)
				for _, rest := range usedRest.FindAllStringSubmatch(line, -1) {
					uses = append(uses, rest[1]+"["+rest[2]+"..]")
				}
				if len(uses) > 0 || strings.Contains(line, "KEYS") || strings.Contains(line, "ARGV") {
					assert.True(t, aliases && strings.HasPrefix(line, "local "), "only the aliases on top name KEYS and ARGV: %s", line)
				}
				inBody = append(inBody, uses...)
			}
			slices.Sort(inHeader)
			slices.Sort(inBody)
			assert.Equal(t, inHeader, inBody, "header and aliases; each is aliased once")
			assert.NotContains(t, source, "cjson")
		})
	}
}

func splitHeader(source string) (header, body []string) {
	lines := strings.Split(source, "\n")
	end := slices.IndexFunc(lines, func(line string) bool { return !strings.HasPrefix(line, "--") })
	return lines[:end], lines[end+1:]
}

func TestUnexpectedRepliesAreErrors(t *testing.T) {
	t.Parallel()
	refused := []any{"requests", int64(9), int64(1), int64(9), int64(9)}
	_, err := parseAdmissions([]any{int64(3), "", int64(0), []any{int64(9), "requests", int64(1), int64(1)}, refused}, 3, 1)
	require.NoError(t, err)
	for _, reply := range [][]any{
		{},
		{int64(3), ""},
		{"3", "", int64(0)},
		{int64(3), "", int64(0), int64(0)},
		{int64(3), "", "0"},
		{int64(3), "", []any{}},
		{int64(3), "", int64(9)}, // later, and not for what
		{int64(3), "", []any{int64(9), "", int64(0), int64(0)}},
		{int64(3), "", []any{int64(0), "requests", int64(0), int64(0)}},
		{int64(3), "", []any{"0"}},
		{int64(3), "", refused[:4]},
		{int64(3), "", refused}, // there is no such scope
		{int64(3), "", []any{"", int64(9), int64(0), int64(9), int64(9)}},
		{int64(3), "", []any{"cooldown", nil, int64(0), int64(0), int64(0)}},
	} {
		_, err := parseAdmissions(reply, 1, 0)
		assert.ErrorIs(t, err, errReply, "%v", reply)
	}
	for _, reply := range []any{
		"7",
		[]any{},
		[]any{"counted", "", "7"},
		[]any{"counted", "opened", int64(7), int64(2)},
		[]any{"counted", "opened", int64(7), int64(0)},
		[]any{"counted", "opened", int64(7), "1"},
	} {
		_, err := parseTransition(reply, []string{"one"})
		assert.ErrorIs(t, err, errReply, "%v", reply)
	}
	for _, reply := range [][]any{{}, {"open"}, {"ajar", int64(1)}, {"open", "1"}, {int64(1), int64(1)}} {
		_, err := parseForced(reply)
		assert.ErrorIs(t, err, errReply, "%v", reply)
	}
	for _, reply := range [][]any{
		{}, {"recorded", int64(1), "behind"}, {"known", int64(1), "behind", int64(0)}, {"recorded", "1", "", int64(0)},
	} {
		_, err := parseHealthChange(reply)
		assert.ErrorIs(t, err, errReply, "%v", reply)
	}
}
