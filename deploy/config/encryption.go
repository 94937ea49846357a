package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/seal"
)

// Encryption is the encryption at rest of requests and results; see package seal.
type Encryption struct {
	// Keys are those that open what is kept; the first of them seals. Defaults to none, no encryption.
	Keys []EncryptionKey `yaml:"keys"`
}

// EncryptionKey says where a key is. It never stands in the file itself.
type EncryptionKey struct {
	// ID is the key's name, which stands beside everything that it has sealed. 1 to 64 characters of A-Z a-z 0-9 _ . -, the
	// first a letter or a digit. Required.
	ID string `yaml:"id"`
	// Env names the environment variable that holds the key, File the file: 32 random bytes in base64. One of them.
	Env  string `yaml:"env"`
	File string `yaml:"file"`
}

// keyRemedy says where a key comes from.
const keyRemedy = "put a key there that `forebay config new-key` has made: 32 random bytes in base64"

func encryptionPath(i int, field string) []string {
	return []string{"encryption", "keys", catalog.ListIndex(i), field}
}

func (e Encryption) validate() []error {
	var problems []error
	ids := map[string]bool{}
	for i, key := range e.Keys {
		at := func(field, problem string) {
			problems = append(problems, refuse(problem, encryptionPath(i, field)...))
		}
		switch {
		case !seal.ValidID(key.ID):
			at("id", fmt.Sprintf("must be 1 to 64 characters of A-Z a-z 0-9 _ . -, the first a letter or a digit, got %.70q", key.ID))
		case ids[key.ID]:
			at("id", "is that of a key before; every key needs a name of its own")
		}
		ids[key.ID] = true
		switch {
		case key.Env == "" && key.File == "":
			at("env", "is missing: name the environment variable that holds the key, or its file in file")
		case key.Env != "" && key.File != "":
			at("file", "stands beside env; give one of them")
		case key.Env != "" && !envPattern.MatchString(key.Env):
			at("env", "must be the name of an environment variable, such as FOREBAY_KEY_1; the key itself never stands in the file")
		}
	}
	return problems
}

// Sealer reads the keys and returns what seals by them; nil where there are none. The error joins *catalog.PathErrors and
// holds nothing of a key.
func (f *File) Sealer() (*seal.Sealer, error) {
	if len(f.Encryption.Keys) == 0 {
		return nil, nil //nolint:nilnil // no encryption is what was asked for
	}
	var problems []error
	keys := make([]seal.Key, 0, len(f.Encryption.Keys))
	for i, key := range f.Encryption.Keys {
		secret, field, err := f.encryptionKey(key)
		if err != nil {
			problems = append(problems, refuse(err.Error()+"; "+keyRemedy, encryptionPath(i, field)...))
			continue
		}
		keys = append(keys, seal.Key{ID: key.ID, Secret: secret})
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	sealer, err := seal.New(keys...)
	if err != nil {
		return nil, refuse(err.Error(), "encryption", "keys")
	}
	return sealer, nil
}

// encryptionKey reads one key, and says which field names its source.
func (f *File) encryptionKey(key EncryptionKey) (secret []byte, field string, err error) {
	source, field, text := "the environment variable "+key.Env, "env", f.env(key.Env)
	if key.File != "" {
		source, field = "the file "+key.File, "file"
		content, err := os.ReadFile(key.File)
		if err != nil {
			var cause *fs.PathError
			if errors.As(err, &cause) {
				err = cause.Err
			}
			return nil, field, fmt.Errorf("%s cannot be read: %w", source, err)
		}
		text = string(content)
	}
	if secret, err = seal.ParseKey(text); err != nil {
		return nil, field, fmt.Errorf("%s %w", source, err)
	}
	return secret, field, nil
}
