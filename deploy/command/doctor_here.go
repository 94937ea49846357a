package command

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/producer/files"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

const (
	// expiresSoon leaves time to renew a certificate.
	expiresSoon = 21 * 24 * time.Hour
	// littleSpace is what a disk should have left.
	littleSpace = 1 << 30
)

// examineHere looks at what the configuration says, and at what it names on this machine.
func examineHere(ctx context.Context, file *config.File) []finding {
	findings := slices.Concat(examinePrices(&file.Catalog), examineTiers(&file.Catalog))
	for _, named := range []struct{ field, path string }{
		{"http.tls.cert_file", file.HTTP.TLS.CertFile},
		{"redis.tls.ca_file", file.Redis.TLS.CAFile},
		{"redis.tls.cert_file", file.Redis.TLS.CertFile},
	} {
		if named.path != "" {
			findings = append(findings, examineCertificate(named.field, named.path, time.Now())...)
		}
	}
	if file.HTTP.Listen != config.Off || file.Batches.Enabled == config.On {
		findings = append(findings, examineFiles(ctx, file.Files)...)
	}
	return findings
}

// examinePrices looks for models that cost nothing, although somebody bills for them.
func examinePrices(c *catalog.Catalog) []finding {
	var findings []finding
	for _, name := range slices.Sorted(maps.Keys(c.Models)) {
		model := c.Models[name]
		if price(model) > 0 || model.Input != nil && *model.Input > 0 {
			continue
		}
		var billing []string
		for _, endpoint := range slices.Sorted(maps.Keys(c.Endpoints)) {
			e := c.Endpoints[endpoint]
			if _, served := e.Models[name]; (served || len(e.Models) == 0) && e.Auth != catalog.AuthNone && !e.Simulated {
				billing = append(billing, endpoint)
			}
		}
		if len(billing) > 0 {
			findings = append(findings, finding{
				Code: codeModelFree, Level: levelWarning, Subject: "models." + name,
				Message: fmt.Sprintf("its price is 0, and %s wants a key for it: if it bills, no budget and no max_cost_usd counts it", strings.Join(billing, ", ")),
				Hint:    "write down its price; where it is free indeed, there is nothing to do",
			})
		}
	}
	return findings
}

// price is what a model is compared by: its output, or an embedding model's input.
func price(model *catalog.Model) float64 {
	for _, price := range []*float64{model.Output, model.Input} {
		if price != nil {
			return *price
		}
	}
	return 0
}

// examineTiers looks whether the tiers stand in the order of their prices: of the first model of each kind, which is the
// one that is asked first.
func examineTiers(c *catalog.Catalog) []finding {
	var findings []finding
	for _, kind := range []tasks.Kind{tasks.KindChat, tasks.KindEmbedding} {
		var lower *catalog.Model
		var lowerTier string
		for _, tier := range c.Tiers {
			at := slices.IndexFunc(tier.Models, func(name string) bool { return c.Models[name].Kind == kind })
			if at < 0 {
				continue
			}
			first := c.Models[tier.Models[at]]
			if lower != nil && price(lower) > price(first) {
				findings = append(findings, finding{
					Code: codeTierOrder, Level: levelWarning, Subject: "tiers." + lowerTier,
					Message: fmt.Sprintf("its first %s model, %s, costs $%g per million tokens, more than %s with $%g of the tier %s behind it",
						kind, lower.Name, price(lower), first.Name, price(first), tier.Name),
					Hint: "put the tiers in the order of their prices, the cheapest first; a degraded or rejected job goes by it",
				})
			}
			lower, lowerTier = first, tier.Name
		}
	}
	return findings
}

// examineCertificate looks at when the certificates in a file expire; the first that matters is told of.
func examineCertificate(field, path string, now time.Time) []finding {
	about := func(level level, message, hint string) []finding {
		return []finding{{Code: codeCertificate, Level: level, Subject: field, Message: path + ": " + message, Hint: hint}}
	}
	rest, err := os.ReadFile(path)
	if err != nil {
		return about(levelError, "cannot be read: "+pathProblem(err), "correct the path, and let this process's user read it")
	}
	var expires time.Time
	for block, rest := pem.Decode(rest); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" || err != nil {
			continue
		}
		if now.Before(certificate.NotBefore) {
			return about(levelError, "holds a certificate that is valid from "+certificate.NotBefore.UTC().Format(time.RFC3339)+" on",
				"look at this machine's clock, or put the certificate there that holds now")
		}
		if expires.IsZero() || certificate.NotAfter.Before(expires) {
			expires = certificate.NotAfter
		}
	}
	day := expires.UTC().Format(time.DateOnly)
	switch {
	case expires.IsZero():
		return about(levelError, "holds no certificate in PEM", "put it there, with those of its issuers")
	case now.After(expires):
		return about(levelError, "holds a certificate that expired on "+day+": nobody trusts it", "renew it; http.tls is read again when it changes, redis.tls at a restart")
	case now.Add(expiresSoon).After(expires):
		return about(levelWarning, "holds a certificate that expires on "+day, "renew it, and see why nothing has done so by itself")
	}
	return nil
}

// examineFiles looks whether the files of batches can be written, and whether there is room for them.
func examineFiles(ctx context.Context, settings config.Files) []finding {
	folder, local := files.Folder(settings.URL)
	if !local {
		return nil // a bucket is asked when it is used, and asking costs
	}
	path, err := filepath.Abs(folder)
	if err != nil {
		path = folder
	}
	exists := existing(path)
	if err := tryWriting(exists); err != nil {
		found := finding{
			Code: codeFilesFolder, Level: levelError, Subject: "files.url", Message: fmt.Sprintf("%s cannot be written: %s", exists, pathProblem(err)),
			Hint: "examine as the producers' user, on their machine and in their folder; there, make the folder and give it to that user",
		}
		if settings.URL == files.DefaultURL {
			found.Level = levelWarning // below wherever this was started
		}
		return []finding{found}
	}
	free, known := freeSpace(exists)
	if !known {
		return nil
	}
	return judgeSpace(path, free, int64(settings.MaxBytes))
}

// judgeSpace says whether so much space is enough for files of up to so many bytes.
func judgeSpace(path string, free, file int64) []finding {
	if free >= max(littleSpace, file) {
		return nil
	}
	found := finding{
		Code: codeFilesSpace, Level: levelWarning, Subject: "files.url", Message: fmt.Sprintf("the disk of %s has %d MiB left", path, free>>20),
		Hint: "free some space, shorten files.retention, or delete files that nobody needs (DELETE /v1/files/{id})",
	}
	if free < file {
		found.Level = levelError
		found.Message += fmt.Sprintf(", and a file may have %d MiB (files.max_bytes)", file>>20)
	}
	return []finding{found}
}

// existing is the folder itself, or the nearest one above it that is there: the producer makes it with its first file.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); !os.IsNotExist(err) || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// tryWriting leaves nothing behind. Permissions alone do not tell of a disk that is full or read-only.
func tryWriting(folder string) error {
	file, err := os.CreateTemp(folder, ".forebay-doctor-*")
	if err != nil {
		return err
	}
	_, err = file.WriteString("x")
	return cmp.Or(err, file.Close(), os.Remove(file.Name()))
}

// pathProblem is an error of a file less its name.
func pathProblem(err error) string {
	if failed := new(fs.PathError); errors.As(err, &failed) {
		return failed.Err.Error()
	}
	return err.Error()
}
