package httpapi_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/producer/httpapi"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// certify writes a certificate of its own for localhost, and returns its serial number.
func certify(t *testing.T, certFile, keyFile string) *big.Int {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: serial, DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	return serial
}

func TestTLSFollowsItsFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	_, err := httpapi.TLS(certFile, keyFile)
	require.ErrorContains(t, err, "tls.crt")
	synctest.Test(t, func(t *testing.T) {
		first := certify(t, certFile, keyFile)
		config, err := httpapi.TLS(certFile, keyFile)
		require.NoError(t, err)
		require.Equal(t, uint16(tls.VersionTLS12), config.MinVersion)
		shown := func() *big.Int {
			certificate, err := config.GetCertificate(nil)
			require.NoError(t, err)
			return certificate.Leaf.SerialNumber
		}
		require.Equal(t, first, shown())

		later := time.Now().Add(time.Hour)
		second := certify(t, certFile, keyFile)
		require.NoError(t, os.Chtimes(certFile, later, later))
		require.Equal(t, first, shown(), "the files are not looked at for each connection")
		time.Sleep(10 * time.Second)
		require.Equal(t, second, shown())

		require.NoError(t, os.WriteFile(keyFile, []byte("half of it"), 0o600))
		require.NoError(t, os.Chtimes(keyFile, later.Add(time.Hour), later.Add(time.Hour)))
		time.Sleep(10 * time.Second)
		require.Equal(t, second, shown(), "what cannot be used changes nothing")
		require.NoError(t, os.Remove(keyFile))
		time.Sleep(10 * time.Second)
		require.Equal(t, second, shown())
	})
}

func TestOldTLSIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	certify(t, certFile, keyFile)
	config, err := httpapi.TLS(certFile, keyFile)
	require.NoError(t, err)
	url := "https" + serveOver(t, apiOf(t), config)[len("http"):]
	for version, good := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: version}}
		response, err := (&http.Client{Transport: transport}).Get(url + "/healthz")
		require.Equal(t, good, err == nil, tls.VersionName(version))
		if good {
			require.Equal(t, 200, response.StatusCode)
			response.Body.Close()
		}
		transport.CloseIdleConnections()
	}
}

func apiOf(t *testing.T) *httpapi.API {
	t.Helper()
	client, _ := redistest.Embedded(t)
	jobs, err := producer.New(producer.Config{Redis: client})
	require.NoError(t, err)
	t.Cleanup(func() { _ = jobs.Close() })
	api, err := httpapi.Handler(httpapi.Config{Client: jobs})
	require.NoError(t, err)
	return api
}
