package catalog

import (
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
)

// headerPattern is a header's name (RFC 9110, token).
var headerPattern = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// ownHeaders are set by every call itself, or carry secrets, which have their own place.
var ownHeaders = map[string]string{
	"Authorization":       "carries the key: use the account's key_env and the endpoint's auth",
	"Api-Key":             "carries the key: use the account's key_env and auth: api-key",
	"X-Api-Key":           "carries a key, and keys never stand in the file: use the account's key_env and the endpoint's auth",
	"Proxy-Authorization": "carries a secret, and secrets never stand in the file",
	"Cookie":              "carries a secret, and secrets never stand in the file",
	"Accept":              "is set by every call itself",
	"Accept-Encoding":     "is set by every call itself",
	"Connection":          "is set by every call itself",
	"Content-Encoding":    "is set by every call itself",
	"Content-Length":      "is set by every call itself",
	"Content-Type":        "is set by every call itself",
	"Expect":              "is set by every call itself",
	"Host":                "is set by every call itself",
	"Te":                  "is set by every call itself",
	"Trailer":             "is set by every call itself",
	"Transfer-Encoding":   "is set by every call itself",
	"Upgrade":             "is set by every call itself",
}

// secretParameters are names under which keys travel in queries.
var secretParameters = map[string]bool{
	"access_token": true, "api-key": true, "api_key": true, "apikey": true, "auth": true, "key": true,
	"password": true, "secret": true, "sig": true, "token": true,
}

func (v *validation) endpoints() {
	if len(v.catalog.Endpoints) == 0 {
		v.refuse(at("endpoints"), "there is no endpoint; name at least one address that serves models")
	}
	accounts := slices.Sorted(maps.Keys(v.catalog.Accounts))
	entries(v, "endpoints", v.catalog.Endpoints, func(path []string, endpoint *Endpoint) {
		field := func(keys ...string) []string { return below(path, keys...) }
		switch {
		case endpoint.Account == "":
			v.refuse(field("account"), "is missing; name one of the accounts")
		case v.catalog.Accounts[endpoint.Account] == nil && !slices.Contains(accounts, endpoint.Account):
			v.refuse(field("account"), "%s", unknown("account", endpoint.Account, accounts))
		}
		v.baseURL(field("url"), endpoint.URL)
		if placeholder(endpoint.Region) || strings.ContainsFunc(endpoint.Region, unicode.IsControl) {
			v.refuse(field("region"), "must be the name of a region, such as eu-west-1")
		}
		if endpoint.Priority < 1 {
			v.refuse(field("priority"), "must be 1 or more, got %d; the smallest is asked first", endpoint.Priority)
		}
		v.duration(field("timeout"), endpoint.Timeout, time.Second, time.Hour)
		v.number(field("tries"), endpoint.Tries, 1, maxTries)
		v.duration(field("latency_threshold"), endpoint.LatencyThreshold, 0, time.Hour)
		switch endpoint.Auth {
		case AuthBearer, AuthAPIKey, AuthNone:
		default:
			v.refuse(field("auth"), "must be bearer, api-key or none, got %q", endpoint.Auth)
		}
		v.served(field("models"), endpoint.Models)
		v.headers(field("headers"), endpoint.Headers)
		v.query(field("query"), endpoint.Query)
		v.proxy(field("proxy"), endpoint.Proxy)
		v.limits(path, endpoint.Limits, endpoint.ModelLimits)
		v.servedLimits(path, endpoint)
	})
}

// baseURL checks an endpoint's address. It repeats nothing of it: it may hold a secret.
func (v *validation) baseURL(path []string, raw string) {
	parsed, err := url.Parse(raw)
	switch {
	case raw == "":
		v.refuse(path, "is missing; give the base of the API, such as https://api.openai.com/v1")
	case err != nil || (parsed.Scheme != "http" && parsed.Scheme != "https") || parsed.Hostname() == "":
		v.refuse(path, "must be an absolute http or https address, such as https://api.openai.com/v1")
	case parsed.User != nil:
		v.refuse(path, "holds credentials; put the key where the account's key_env or key_file says")
	case parsed.RawQuery != "" || parsed.ForceQuery || parsed.Fragment != "":
		v.refuse(path, "ends in a query or fragment; put parameters into the endpoint's query")
	case placeholder(raw):
		v.refuse(path, "is a placeholder; put the real address there")
	case strings.HasSuffix(parsed.Path, "/chat/completions") || strings.HasSuffix(parsed.Path, "/embeddings"):
		v.refuse(path, "must be the base of the API, without /chat/completions or /embeddings")
	}
}

func (v *validation) served(path []string, served ServedModels) {
	for _, name := range slices.Sorted(maps.Keys(served)) {
		path := below(path, name)
		switch upstream := served[name]; {
		case v.catalog.Models[name] == nil && !slices.Contains(v.models, name):
			v.refuse(path, "%s", unknown("model", name, v.models))
		case placeholder(upstream):
			v.refuse(path, "%q is a placeholder; put the model's name at this endpoint there", upstream)
		case !validModelName(upstream):
			v.refuse(path, "the model's name at this endpoint must be 1 to %d printable characters without spaces", maxModelName)
		}
	}
}

func (v *validation) headers(path []string, headers map[string]string) {
	seen := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		path := below(path, name)
		canonical := http.CanonicalHeaderKey(name)
		reason, own := ownHeaders[canonical]
		switch {
		case !headerPattern.MatchString(name):
			v.refuse(path, "is not the name of a header")
		case own:
			v.refuse(path, "cannot be set here: it %s", reason)
		case seen[canonical] != "":
			v.refuse(path, "is the same header as %s", seen[canonical])
		default:
			v.plainValue(path, headers[name])
		}
		seen[canonical] = name
	}
}

func (v *validation) query(path []string, query map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(query)) {
		path := below(path, name)
		switch {
		case name == "":
			v.refuse(path, "a parameter needs a name")
		case secretParameters[strings.ToLower(name)]:
			v.refuse(path, "carries a key, and keys never stand in the file: use the account's key_env and the endpoint's auth")
		default:
			v.plainValue(path, query[name])
		}
	}
}

func (v *validation) plainValue(path []string, value string) {
	switch {
	case looksLikeKey(value):
		v.refuse(path, "looks like an API key, and keys never stand in the file: use the account's key_env and the endpoint's auth")
	case placeholder(value):
		v.refuse(path, "is a placeholder; put the real value there or remove the line")
	case strings.ContainsFunc(value, unicode.IsControl):
		v.refuse(path, "holds a line break or another control character")
	}
}

// proxy checks a proxy's address and repeats nothing of it, as baseURL does.
func (v *validation) proxy(path []string, raw string) {
	if raw == "" {
		return
	}
	parsed, err := url.Parse(raw)
	switch {
	case err != nil || !slices.Contains([]string{"http", "https", "socks5"}, parsed.Scheme) || parsed.Hostname() == "":
		v.refuse(path, "must be an http, https or socks5 address, such as http://proxy.internal:3128")
	case parsed.User != nil:
		v.refuse(path, "holds credentials; set HTTPS_PROXY in the environment instead and leave this out")
	case placeholder(raw):
		v.refuse(path, "is a placeholder; put the real address there or remove the line")
	}
}
