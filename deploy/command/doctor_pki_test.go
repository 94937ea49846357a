package command

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// pki are files in PEM: an authority, and certificates that it has signed, all of one private key.
type pki struct{ authority, server, client, expired, key string }

func newPKI(t *testing.T) pki {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	p := pki{key: write("key.pem", "PRIVATE KEY", der)}
	now := time.Now()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "the authority of a test"}, NotBefore: now.Add(-48 * time.Hour), NotAfter: now.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	sign := func(name string, template *x509.Certificate) string {
		der, err := x509.CreateCertificate(rand.Reader, template, authority, &key.PublicKey, key)
		require.NoError(t, err)
		return write(name, "CERTIFICATE", der)
	}
	p.authority = sign("authority.pem", authority)
	leaf := func(serial int64, ends time.Time) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "a test"}, NotBefore: now.Add(-48 * time.Hour), NotAfter: ends,
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
	}
	p.server = sign("server.pem", leaf(2, now.AddDate(0, 6, 0)))
	p.client = sign("client.pem", leaf(3, now.AddDate(0, 6, 0)))
	p.expired = sign("expired.pem", leaf(4, now.Add(-time.Hour)))
	return p
}
