// Package apikeys holds the keys by which clients of the HTTP interface say who they are.
//
// A key's text is fbk_<id>_<secret><checksum>, in the small letters and digits of base32, so that a scanner of secrets
// finds it by its form and a mistyped one is told without a look at Redis. The secret has 256 random bits. That is why
// SHA-256 is enough to keep it by: a slow hash makes guessing dear where there is something to guess, and a secret of
// which all values are equally likely has nothing.
//
// At rest, in the hash keyspace.Keys, a key is its id and JSON: hash (SHA-256 of the secret, hex), tenant or operator,
// write, name, created_at, expires_at. The secret is shown by Create once, and stands nowhere.
package apikeys
