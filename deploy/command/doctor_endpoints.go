package command

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

const (
	// firstTimeout bounds the test of an endpoint of priority 1, otherTimeout those of the others.
	firstTimeout, otherTimeout = 5 * time.Second, 10 * time.Second
	// maxListBytes bounds a list of models.
	maxListBytes = 8 << 20
	// testsAtOnce bounds the endpoints that are tested at the same time.
	testsAtOnce = 16
)

// examineEndpoints tests every endpoint of the configuration, by priority and name.
func examineEndpoints(ctx context.Context, file *config.File) []finding {
	if file == nil {
		return nil
	}
	endpoints := slices.SortedFunc(maps.Values(file.Catalog.Endpoints), func(a, b *catalog.Endpoint) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Name, b.Name))
	})
	found := make([][]finding, len(endpoints))
	free := make(chan struct{}, testsAtOnce)
	var tests sync.WaitGroup
	for i, endpoint := range endpoints {
		free <- struct{}{}
		tests.Go(func() {
			defer func() { <-free }()
			found[i] = examineEndpoint(ctx, &file.Catalog, endpoint)
		})
	}
	tests.Wait()
	return slices.Concat(found...)
}

// examineEndpoint asks an endpoint for its models, which costs nothing, as a worker would call it.
func examineEndpoint(ctx context.Context, c *catalog.Catalog, endpoint *catalog.Endpoint) []finding {
	subject := labelled(endpoint.Name, endpoint.Simulated)
	key := ""
	if endpoint.Auth != catalog.AuthNone {
		var err error
		if key, err = c.Key(endpoint.Account); err != nil {
			return []finding{{
				Code: codeNotTested, Level: levelWarning, Subject: subject, Class: tasks.ClassAuth,
				Message: "not tested, as its account has no usable key", Hint: "set the key of the account " + endpoint.Account,
			}}
		}
	}
	limit := otherTimeout
	if endpoint.Priority == 1 {
		limit = firstTimeout
	}
	transport, err := transportTo(endpoint)
	if err != nil {
		return []finding{{Code: codeMisconfigured, Level: levelError, Subject: subject, Message: err.Error(), Hint: "correct it in the configuration"}}
	}
	defer transport.CloseIdleConnections()
	answer := askForModels(ctx, transport, endpoint, key, limit)
	if slow(answer, endpoint) {
		// The first answer took a connection as well, which a worker keeps.
		answer = askForModels(ctx, transport, endpoint, key, limit)
	}
	found := judge(answer, endpoint, limit)
	found.Subject, found.HTTPStatus = subject, answer.status
	if answer.err == nil {
		found.LatencyMS = float64(answer.latency.Microseconds()) / 1000
	}
	if found.Level != levelOK {
		return []finding{found}
	}
	if unused := unusedModels(c, endpoint, listedModels(answer.body)); len(unused) > 0 {
		found.Message += "; it lists " + strings.Join(unused, ", ") + " as well, which its models leave out"
	}
	return append([]finding{found}, examineAnswer(c, endpoint, answer, subject)...)
}

// transportTo reaches an endpoint as a worker does, through its proxy.
func transportTo(endpoint *catalog.Endpoint) (*http.Transport, error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	if endpoint.Proxy != "" {
		proxy, err := url.Parse(endpoint.Proxy)
		if err != nil {
			return nil, errors.New("its proxy is not a URL")
		}
		transport.Proxy = http.ProxyURL(proxy)
	}
	return transport, nil
}

// modelsAnswer is what came back. Status is 0 when nothing did.
type modelsAnswer struct {
	status  int
	body    []byte
	err     error
	latency time.Duration
}

func askForModels(ctx context.Context, transport *http.Transport, endpoint *catalog.Endpoint, key string, limit time.Duration) modelsAnswer {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	address, err := url.Parse(endpoint.URL)
	if err != nil {
		return modelsAnswer{err: errors.New("its address is not a URL")}
	}
	address = address.JoinPath("models")
	query := address.Query()
	for name, value := range endpoint.Query {
		query.Set(name, value)
	}
	address.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return modelsAnswer{err: errors.New("its address is not a URL")}
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "forebay")
	for name, value := range endpoint.Headers {
		request.Header.Set(name, value)
	}
	switch {
	case key == "":
	case endpoint.Auth == catalog.AuthAPIKey:
		request.Header.Set("Api-Key", key)
	default:
		request.Header.Set("Authorization", "Bearer "+key)
	}
	started := time.Now()
	response, err := transport.RoundTrip(request) // a redirect is an answer
	if err != nil {
		return modelsAnswer{err: err, latency: time.Since(started)}
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxListBytes))
	return modelsAnswer{status: response.StatusCode, body: body, err: err, latency: time.Since(started)}
}

func slow(answer modelsAnswer, endpoint *catalog.Endpoint) bool {
	return answer.err == nil && endpoint.LatencyThreshold > 0 && answer.latency > endpoint.LatencyThreshold
}

// judge says what an answer means, by its status and by whether it is the API's own.
func judge(answer modelsAnswer, endpoint *catalog.Endpoint, limit time.Duration) finding {
	code, isJSON := errorCode(answer.body)
	bad := func(code string, class tasks.Class, message, hint string) finding {
		return finding{Code: code, Level: levelError, Class: class, Message: message, Hint: hint}
	}
	status := fmt.Sprintf("answers HTTP %d", answer.status)
	const wrongAddress = "correct its url: the base of the API with its version, such as https://api.openai.com/v1"
	switch {
	case answer.err != nil:
		return bad(codeEndpointAway, tasks.ClassUnavailable, "cannot be reached: "+transportText(answer.err, limit),
			"look whether the address is right and the provider up, and whether a proxy or firewall is in the way")
	case answer.status == http.StatusOK && isJSON:
		return finding{Code: codeEndpoint, Level: levelOK, Message: "answers"}
	case answer.status == http.StatusPaymentRequired || slices.Contains(quotaCodes, code):
		return bad(codeQuota, tasks.ClassQuota, status+": the account has no money left", "top up the account "+endpoint.Account)
	case answer.status == http.StatusUnauthorized || answer.status == http.StatusForbidden:
		return bad(codeKeyRefused, tasks.ClassAuth, status+": the key is refused",
			"put a valid key of the account "+endpoint.Account+" where its key_env or key_file says")
	case answer.status == http.StatusTooManyRequests:
		return finding{
			Code: codeThrottled, Level: levelWarning, Class: tasks.ClassThrottled,
			Message: status + ": the account is at its rate limit", Hint: "examine again in a minute",
		}
	case answer.status >= 500 || answer.status == http.StatusRequestTimeout:
		return bad(codeEndpointAway, tasks.ClassUnavailable, status+": it cannot answer now", "see the provider's status page, and examine again")
	case answer.status >= 300 && answer.status < 400:
		return bad(codeMisconfigured, tasks.ClassMisconfigured, status+", a redirect, which is never followed with a key", wrongAddress)
	case isJSON && (answer.status == http.StatusNotFound || answer.status == http.StatusMethodNotAllowed):
		return finding{
			Code: codeNoModelList, Level: levelWarning, Message: status + ": it has no list of models, so key and models are not known to be right",
			Hint: "if it is no server without such a list, " + wrongAddress,
		}
	case !isJSON:
		return bad(codeMisconfigured, tasks.ClassMisconfigured, status+" and no JSON: this is no such API", wrongAddress)
	}
	return bad(codeMisconfigured, tasks.ClassMisconfigured, status, wrongAddress)
}

// quotaCodes are those with which providers and relays say that an account is empty.
var quotaCodes = []string{"insufficient_quota", "insufficient_user_quota"}

// errorCode is the code of an API's error, and whether the body is a JSON object at all.
func errorCode(body []byte) (code string, isJSON bool) {
	var answer struct {
		Error json.RawMessage `json:"error"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return "", false
	}
	var problem struct {
		Code any `json:"code"`
	}
	_ = json.Unmarshal(answer.Error, &problem) // without an error, or with one of another form, it has no code
	code, _ = problem.Code.(string)
	return code, true
}

// transportText is an error of the network, without addresses that might hold a secret.
func transportText(err error, limit time.Duration) string {
	var (
		network *net.OpError
		name    *net.DNSError
		cert    *tls.CertificateVerificationError
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer within %s", limit)
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case errors.As(err, &name):
		return "its host name " + name.Name + " is not known"
	case errors.As(err, &cert):
		return "its certificate is not trusted: " + cert.Err.Error()
	case errors.As(err, &network) && network.Op == "proxyconnect":
		return "its proxy cannot be reached"
	case errors.As(err, &network):
		return network.Err.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed before the answer was complete"
	}
	return "no HTTP answer"
}

// examineAnswer compares a good answer with what the configuration expects.
func examineAnswer(c *catalog.Catalog, endpoint *catalog.Endpoint, answer modelsAnswer, subject string) []finding {
	var findings []finding
	if slow(answer, endpoint) {
		findings = append(findings, finding{
			Code: codeEndpointSlow, Level: levelWarning, Subject: subject,
			Message: fmt.Sprintf("took %s, more than its latency_threshold of %s", brief(answer.latency), catalog.FormatDuration(endpoint.LatencyThreshold)),
			Hint:    "examine again; raise the threshold if this is what it takes from here",
		})
	}
	listed := listedModels(answer.body)
	if len(listed) == 0 {
		return findings // some servers answer with an empty list
	}
	var missing []string
	for _, model := range slices.Sorted(maps.Keys(c.Models)) {
		if _, named := endpoint.Models[model]; len(endpoint.Models) > 0 && !named {
			continue
		}
		if name := c.UpstreamName(endpoint, model); !listed[name] {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		findings = append(findings, finding{
			Code: codeModelsMissing, Level: levelWarning, Subject: subject, Class: tasks.ClassNotServed,
			Message: "does not list " + strings.Join(missing, ", "),
			Hint:    "list under its `models` those that it serves, under the names that it has for them; each job would else make a call there that must fail",
		})
	}
	return findings
}

// unusedModels are those of the catalog that an endpoint lists under their own names, and is never asked for.
func unusedModels(c *catalog.Catalog, endpoint *catalog.Endpoint, listed map[string]bool) []string {
	var unused []string
	for _, model := range slices.Sorted(maps.Keys(c.Models)) {
		if _, named := endpoint.Models[model]; len(endpoint.Models) > 0 && !named && listed[model] {
			unused = append(unused, model)
		}
	}
	return unused
}

func listedModels(body []byte) map[string]bool {
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if json.Unmarshal(body, &list) != nil {
		return nil
	}
	listed := map[string]bool{}
	for _, model := range list.Data {
		listed[model.ID] = true
	}
	return listed
}
