package command

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestFindingsAreDocumented: every code has a meaning, and the table of docs/operations.md is that of the meanings.
func TestFindingsAreDocumented(t *testing.T) {
	t.Parallel()
	source, err := parser.ParseFile(token.NewFileSet(), "doctor_codes.go", nil, 0)
	require.NoError(t, err)
	var codes []string
	ast.Inspect(source, func(node ast.Node) bool {
		if spec, ok := node.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "code") {
			code, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			require.NoError(t, err)
			codes = append(codes, code)
		}
		return true
	})
	var known []string
	rows := "| code | level | what |\n|---|---|---|\n"
	for _, m := range meanings {
		known = append(known, m.code)
		levels := make([]string, len(m.levels))
		for i, level := range m.levels {
			levels[i] = string(level)
		}
		rows += fmt.Sprintf("| `%s` | %s | %s |\n", m.code, strings.Join(levels, ", "), m.what)
	}
	assert.ElementsMatch(t, codes, known)
	page, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	assert.Contains(t, string(page), rows, "put this table into docs/operations.md:\n"+rows)
}

// TestRightsAreThoseOfTheScripts: a user who has what doctor asks for may run whatever our scripts and asynq's do.
func TestRightsAreThoseOfTheScripts(t *testing.T) {
	t.Parallel()
	var known []string
	for _, line := range neededCommands {
		name, _, _ := strings.Cut(line, ",")
		name, _, _ = strings.Cut(name, "|")
		known = append(known, name)
	}
	call := regexp.MustCompile(`redis\.p?call\(['"]([A-Za-z]+)['"]`)
	asynq, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/hibiken/asynq").Output()
	require.NoError(t, err)
	found := 0
	for _, folder := range []string{"../../tasks", "../../worker", "../../producer", "../../scheduler", strings.TrimSpace(string(asynq)) + "/internal/rdb"} {
		require.NoError(t, filepath.WalkDir(folder, func(path string, _ os.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".lua" && !strings.HasSuffix(path, "rdb/rdb.go") && !strings.HasSuffix(path, "rdb/inspect.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, match := range call.FindAllStringSubmatch(string(text), -1) {
				found++
				if command := strings.ToLower(match[1]); !slices.Contains(known, command) {
					t.Errorf("%s calls %s, which is missing in neededCommands", path, command)
				}
			}
			return err
		}))
	}
	assert.Greater(t, found, 100)
}
