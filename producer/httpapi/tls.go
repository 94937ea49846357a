package httpapi

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// lookEvery is how often the files of a certificate are looked at, at most.
const lookEvery = 10 * time.Second

// TLS reads a certificate and its key, both in PEM. When the files change they are read again with the next connection,
// so that a renewed certificate needs no restart; while what they hold then cannot be used, the old one goes on.
func TLS(certFile, keyFile string) (*tls.Config, error) {
	files := &certificateFiles{certFile: certFile, keyFile: keyFile}
	if err := files.read(); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return files.current(time.Now()), nil },
	}, nil
}

type certificateFiles struct {
	certFile, keyFile string

	mu          sync.Mutex
	looked      time.Time
	changed     [2]time.Time
	certificate *tls.Certificate
}

// read reads both files.
func (f *certificateFiles) read() error {
	changed := f.times()
	certificate, err := tls.LoadX509KeyPair(f.certFile, f.keyFile)
	if err != nil {
		return fmt.Errorf("the certificate %s with the key %s cannot be used: %w", f.certFile, f.keyFile, err)
	}
	f.certificate, f.changed = &certificate, changed
	return nil
}

func (f *certificateFiles) current(now time.Time) *tls.Certificate {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Sub(f.looked) >= lookEvery {
		f.looked = now
		if f.times() != f.changed {
			_ = f.read() // half of it may have been written: it is looked at again
		}
	}
	return f.certificate
}

func (f *certificateFiles) times() [2]time.Time {
	var times [2]time.Time
	for i, name := range []string{f.certFile, f.keyFile} {
		if info, err := os.Stat(name); err == nil {
			times[i] = info.ModTime()
		}
	}
	return times
}
