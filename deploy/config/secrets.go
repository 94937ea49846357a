package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/catalog"
)

// Check looks for the secrets that the file names, as `forebay config check` does: the API key of every account that
// is used with one, those that webhooks are signed with, Redis' URL and password, and the keys of the encryption. It calls
// nobody. It returns what is missing, a placeholder or of the
// wrong shape, in the order of the file; never any part of a secret.
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
	if _, err := file.RedisOptions(); err != nil {
		problems = append(problems, file.problems(err)...)
	}
	if _, err := file.Sealer(); err != nil {
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

// RedisOptions are those of a client for the file's Redis, with its password. The error is a *catalog.PathError and
// holds neither password nor URL.
func (f *File) RedisOptions() (*redis.Options, error) {
	r := f.Redis
	address, field := r.URL, "url"
	if r.URLEnv != "" {
		field = "url_env"
		if address = f.env(r.URLEnv); address == "" {
			return nil, refuse(fmt.Sprintf("the environment variable %s is not set or empty; put Redis' URL there", r.URLEnv), "redis", field)
		}
	}
	options, err := redis.ParseURL(address)
	if err != nil {
		return nil, refuse(fmt.Sprintf("the environment variable %s holds no URL of Redis; it must be redis://host:port/database, rediss://host:port/database or unix:///path", r.URLEnv), "redis", field)
	}
	password, source, err := f.redisPassword()
	if err != nil {
		return nil, err
	}
	if source != "" && options.Password != "" {
		return nil, refuse(fmt.Sprintf("the URL in %s has a password already; remove one of them", r.URLEnv), "redis", source)
	}
	if source != "" {
		options.Password = password
	}
	return options, nil
}

// redisPassword reads the password, and says which field names its source; none has none.
func (f *File) redisPassword() (password, source string, err error) {
	r := f.Redis
	switch {
	case r.PasswordEnv != "":
		if password = f.env(r.PasswordEnv); password == "" {
			return "", "", refuse(fmt.Sprintf("the environment variable %s is not set or empty; put Redis' password there", r.PasswordEnv), "redis", "password_env")
		}
		return password, "password_env", nil
	case r.PasswordFile != "":
		content, err := os.ReadFile(r.PasswordFile)
		if err != nil {
			var cause *fs.PathError
			if errors.As(err, &cause) {
				err = cause.Err
			}
			return "", "", refuse(fmt.Sprintf("%s cannot be read: %s", r.PasswordFile, err), "redis", "password_file")
		}
		if password = strings.TrimRight(string(content), "\r\n"); password == "" {
			return "", "", refuse(fmt.Sprintf("%s is empty; put Redis' password there", r.PasswordFile), "redis", "password_file")
		}
		return password, "password_file", nil
	}
	return "", "", nil
}

func (f *File) env(name string) string {
	lookup := f.Catalog.LookupEnv
	if lookup == nil {
		lookup = os.LookupEnv
	}
	value, _ := lookup(name)
	return value
}
