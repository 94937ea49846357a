package httpapi

import (
	_ "embed"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/swaggest/swgui/v5emb"
)

// What the page may do: its own scripts and styles, and requests to where it came from. Swagger UI writes styles into
// its elements and draws pictures that stand in its scripts.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
	"font-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// The page itself is ours: the library's has a script inside, which the policy forbids.
//
//go:embed page.html
var page []byte

//go:embed page.js
var pageScript []byte

// serveDocument serves the document, and a page that reads it and tries it out, with all that it needs.
func (a *API) serveDocument(document *huma.OpenAPI) error {
	asJSON, err := document.MarshalJSON()
	if err != nil {
		return err
	}
	asYAML, err := document.YAML()
	if err != nil {
		return err
	}
	a.mux.Handle("GET "+documentPath, text(contentJSON, asJSON))
	a.mux.Handle("GET "+yamlPath, text("application/yaml", asYAML))
	assets := v5emb.New("Forebay", documentPath, pagePath)
	a.mux.Handle("GET "+pagePath+"{$}", text("text/html; charset=utf-8", page))
	a.mux.Handle("GET "+pagePath+"page.js", text("text/javascript; charset=utf-8", pageScript))
	for _, asset := range []string{"swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"} {
		a.mux.Handle("GET "+pagePath+asset, assets)
	}
	a.mux.Handle("GET "+pagePath[:len(pagePath)-1], http.RedirectHandler(pagePath, http.StatusFound))
	return nil
}

func text(contentType string, data []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		header := w.Header()
		header.Set("Content-Type", contentType)
		header.Set("Content-Length", strconv.Itoa(len(data)))
		header.Set("Content-Security-Policy", pagePolicy)
		_, _ = w.Write(data) // a client that has left needs no answer
	})
}
