package config

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/forebay-queue/forebay/tasks/catalog"
)

// Check looks for the secrets that the file names, as `forebay config check` does: the API key of every account that
// is used with one, those that webhooks are signed with, those of the channels of alerts, Redis' URL and password, the keys
// of the encryption, and the headers of the traces. It calls nobody. It returns what is missing, a placeholder or of the wrong
// shape, in the order of the file; never any part of a secret.
func Check(file *File) []Problem {
	var problems []Problem
	for _, name := range slices.Sorted(maps.Keys(file.Catalog.Accounts)) {
		if !needsKey(&file.Catalog, name) {
			continue
		}
		if _, err := file.Catalog.Key(name); err != nil {
			source := "key_env"
			if file.Catalog.Accounts[name].KeyFile != "" {
				source = "key_file"
			}
			text := strings.TrimPrefix(err.Error(), "account "+name+": ")
			problems = append(problems, file.problem([]string{"accounts", name, source}, text))
		}
	}
	for i, secret := range file.Catalog.Webhooks.Secrets {
		for j, source := range secret.Keys {
			if _, err := file.Catalog.WebhookKey(source); err != nil {
				path := []string{"webhooks", "secrets", catalog.ListIndex(i), "keys", catalog.ListIndex(j)}
				problems = append(problems, file.problem(path, err.Error()))
			}
		}
	}
	problems = append(problems, file.checkAlerts()...)
	if _, err := file.RedisOptions(); err != nil {
		problems = append(problems, file.problems(err)...)
	}
	if _, err := file.Sealer(); err != nil {
		problems = append(problems, file.problems(err)...)
	}
	if _, err := file.Exporter(); err != nil {
		problems = append(problems, file.problems(err)...)
	}
	if len(problems) == 0 {
		return nil
	}
	var sorted *ParseError
	errors.As(parseError(problems), &sorted)
	return sorted.Problems
}

func needsKey(c *catalog.Catalog, account string) bool {
	for _, endpoint := range c.Endpoints {
		if endpoint.Account == account && endpoint.Auth != catalog.AuthNone {
			return true
		}
	}
	return false
}

func (f *File) env(name string) string {
	lookup := f.Catalog.LookupEnv
	if lookup == nil {
		lookup = os.LookupEnv
	}
	value, _ := lookup(name)
	return value
}
