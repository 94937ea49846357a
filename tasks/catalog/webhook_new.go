package catalog

import (
	"crypto/rand"
	"encoding/base64"
)

// newSecretBytes is how long a new secret is.
const newSecretBytes = 32

// NewWebhookSecret makes a value for a secret that webhooks are signed with: whsec_ and the base64 of 32 random bytes. It
// is kept nowhere.
func NewWebhookSecret() string {
	random := make([]byte, newSecretBytes)
	_, _ = rand.Read(random) // it never fails: see its documentation
	return secretPrefix + base64.StdEncoding.EncodeToString(random)
}
