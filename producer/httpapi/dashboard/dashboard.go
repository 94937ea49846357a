// Package dashboard is the pages at / of the HTTP interface: one shell, styles and ES modules as they were written by
// hand, and a library of charts. What the pages show they ask of the API, with the rights of whoever looks at them.
//
// Nothing is built: what stands in this folder is what a browser gets.
package dashboard

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// Policy is what the pages may do: their own scripts and styles, requests to where they came from, and the form that
// logs out. Nothing stands inside the page itself.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

const assetsPath = "/assets/"

//go:embed index.html icon.svg css js vendor/*/*
var files embed.FS

// pages are the addresses that a person opens. The shell draws each by its address.
var pages = []string{"/{$}", "/jobs", "/jobs/{id}", "/batches", "/batches/{id}", "/failures", "/new"}

var types = map[string]string{
	".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
	".html": "text/html; charset=utf-8", "": "text/plain; charset=utf-8",
}

// file is one as it is served. Its tag is that of its content, so that a browser asks again and is told that nothing
// has changed, and after an upgrade never mixes two versions.
type file struct {
	content []byte
	kind    string
	tag     string
}

// Routes are the pages and what they are made of, by patterns of http.ServeMux.
func Routes() (map[string]http.Handler, error) {
	routes := map[string]http.Handler{}
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		digest := sha256.Sum256(content)
		served := file{content: content, kind: types[path.Ext(name)], tag: `"` + hex.EncodeToString(digest[:12]) + `"`}
		if name != "index.html" {
			routes["GET "+assetsPath+name] = served
			return nil
		}
		for _, page := range pages {
			routes["GET "+page] = served
		}
		return nil
	})
	return routes, err
}

// ServeHTTP implements http.Handler.
func (f file) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", f.kind)
	header.Set("Content-Security-Policy", Policy)
	header.Set("Cache-Control", "no-cache")
	header.Set("Etag", f.tag)
	if r.Header.Get("If-None-Match") == f.tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	header.Set("Content-Length", strconv.Itoa(len(f.content)))
	_, _ = w.Write(f.content) // a client that has left needs no answer
}

// IsPage tells of an address that a browser shows to a person, who can be asked to log in.
func IsPage(at string) bool {
	for _, page := range pages {
		page = strings.TrimSuffix(page, "{$}")
		parent, isOne := strings.CutSuffix(page, "{id}")
		if at == page || (isOne && strings.HasPrefix(at, parent) && at != parent && !strings.Contains(at[len(parent):], "/")) {
			return true
		}
	}
	return false
}

// IsPart tells of an address of the dashboard, page or not: what is served there is the same for everybody.
func IsPart(at string) bool { return IsPage(at) || strings.HasPrefix(at, assetsPath) }
