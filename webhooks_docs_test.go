package main_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/catalog"
)

// block is the code of a language in docs/webhooks.md.
func block(t *testing.T, language string) string {
	t.Helper()
	text, err := os.ReadFile("docs/webhooks.md")
	require.NoError(t, err)
	_, code, found := strings.Cut(string(text), "```"+language+"\n")
	require.True(t, found)
	code, _, found = strings.Cut(code, "\n```\n")
	require.True(t, found)
	return code + "\n"
}

// What docs/webhooks.md says of verifying is run as it stands there, over good and bad messages.
func TestTheDocumentedVerifiersVerify(t *testing.T) {
	t.Parallel()
	const python3 = `
import sys
given = json.load(sys.stdin)
verified(given["headers"], given["body"].encode(), given["secret"])
`
	const goMain = `
func main() {
	var given struct {
		Headers      map[string]string
		Body, Secret string
	}
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		panic(err)
	}
	header := http.Header{}
	for name, value := range given.Headers {
		header.Set(name, value)
	}
	if err := verified(header, []byte(given.Body), given.Secret); err != nil {
		panic(err)
	}
}
`
	dir := t.TempDir()
	write := func(name, code string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(code), 0o600))
		return path
	}
	program := filepath.Join(dir, "verify-go")
	source := strings.Replace(block(t, "go"), "import (", "package main\n\nimport (\n\t\"encoding/json\"\n\t\"os\"", 1) + goMain
	built, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, write("main.go", source)).CombinedOutput()
	require.NoError(t, err, string(built))
	script := write("verify.py", block(t, "python")+python3)
	for name, command := range map[string]func() *exec.Cmd{
		"Go": func() *exec.Cmd { return exec.CommandContext(t.Context(), program) },
		"Python": func() *exec.Cmd {
			if _, err := exec.LookPath(python()); err != nil {
				t.Skip("SKIPPED: Python is not installed")
			}
			return exec.CommandContext(t.Context(), python(), script)
		},
		"Node": func() *exec.Cmd {
			cmd := nodeCommand(t)
			path := filepath.Join(cmd.Dir, "documented.mjs")
			require.NoError(t, os.WriteFile(path, []byte(block(t, "js")+"\nimport { readFileSync } from 'node:fs'\n"+
				"const given = JSON.parse(readFileSync(0, 'utf8'))\nverified(given.headers, given.body, given.secret)\n"), 0o600))
			cmd.Args = append(cmd.Args, path)
			return cmd
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			secret, now := catalog.NewWebhookSecret(), time.Now()
			tries := func(signed, checked string, at time.Time, body string) error {
				wh, err := standardwebhooks.NewWebhook(signed)
				require.NoError(t, err)
				signature, err := wh.Sign("msg_1", at, []byte(`{"type":"job.failed","data":{"text":"Größe"}}`))
				require.NoError(t, err)
				given, err := json.Marshal(map[string]any{"body": body, "secret": checked, "headers": map[string]string{
					"webhook-id": "msg_1", "webhook-timestamp": strconv.FormatInt(at.Unix(), 10), "webhook-signature": "v1,b3RoZXI= " + signature,
				}})
				require.NoError(t, err)
				cmd := command()
				cmd.Stdin = strings.NewReader(string(given))
				return cmd.Run()
			}
			const body = `{"type":"job.failed","data":{"text":"Größe"}}`
			require.NoError(t, tries(secret, secret, now, body))
			require.Error(t, tries(secret, secret, now, strings.Replace(body, "failed", "succeeded", 1)))
			require.Error(t, tries(secret, secret, now.Add(-6*time.Minute), body))
			require.Error(t, tries(secret, catalog.NewWebhookSecret(), now, body))
		})
	}
}
