package apikeys

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"hash/crc32"
	"strings"
)

// The form of a key's text: textPrefix, the id, "_", the secret, the checksum.
const (
	textPrefix  = "fbk_"
	idBytes     = 10
	secretBytes = 32
)

var (
	letters = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

	idLength       = letters.EncodedLen(idBytes)
	secretLength   = letters.EncodedLen(secretBytes)
	checksumLength = letters.EncodedLen(crc32.Size)
)

// Digest is the SHA-256 of a secret.
type Digest [sha256.Size]byte

// newText makes the text of a new key.
func newText() (id, text string, digest Digest) {
	random := make([]byte, idBytes+secretBytes)
	_, _ = rand.Read(random) // it never fails: the process would end
	id = letters.EncodeToString(random[:idBytes])
	secret := letters.EncodeToString(random[idBytes:])
	text = textPrefix + id + "_" + secret
	return id, text + checksum(text), sha256.Sum256([]byte(secret))
}

// parseText takes a text apart. It is not ok when the text cannot be that of a key.
func parseText(text string) (id string, digest Digest, ok bool) {
	rest, found := strings.CutPrefix(text, textPrefix)
	if !found || len(rest) != idLength+1+secretLength+checksumLength || rest[idLength] != '_' {
		return "", Digest{}, false
	}
	checked := text[:len(text)-checksumLength]
	if checksum(checked) != text[len(checked):] {
		return "", Digest{}, false
	}
	return rest[:idLength], sha256.Sum256([]byte(rest[idLength+1 : idLength+1+secretLength])), true
}

// checksum finds what was mistyped or cut off. It keeps nobody out.
func checksum(text string) string {
	return letters.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(text))))
}

// ValidID reports whether id can be a key's.
func ValidID(id string) bool {
	decoded, err := letters.DecodeString(id)
	return err == nil && len(decoded) == idBytes && len(id) == idLength
}
