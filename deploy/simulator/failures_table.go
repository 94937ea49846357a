package simulator

import "fmt"

// failureTable has a row for every way to fail, at least one in each dialect for each class of failure that a client
// has to tell apart. The bodies are what providers were seen to send. The names of HTTP statuses mean the plainest
// form: OpenAI's where it has one.
var failureTable = concat(
	openAIFailures, throttlingFailures, serverFailures, vllmFailures, relayFailures, articleFailures, webFailures,
	answerFailures, transportFailures,
)

func concat(parts ...[]failure) []failure {
	var all []failure
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// openAIError words an error as OpenAI does; an empty param or code is null.
func openAIError(message, errType, param, code string) string {
	return string((&problem{message: message, errType: errType, param: param, code: code}).body())
}

var openAIFailures = []failure{
	canned(DialectOpenAI, "400", 400, "a value that the provider does not take",
		openAIError("Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 9 instead.", invalidRequest, "temperature", "decimal_above_max_value")),
	canned(DialectOpenAI, "422", 422, "a request that makes no sense to the provider",
		openAIError("Unprocessable request.", invalidRequest, "", "")),
	canned(DialectOpenAI, "401", 401, "a wrong API key",
		openAIError("Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys.", invalidRequest, "", "invalid_api_key")),
	canned(DialectOpenAI, "403", 403, "a caller that may not use the provider",
		openAIError("Country, region, or territory not supported", "request_forbidden", "", "unsupported_country_region_territory")),
	canned(DialectOpenAI, "insufficient-quota", 429, "no money left, under the status of a rate limit",
		openAIError("You exceeded your current quota, please check your plan and billing details.", "insufficient_quota", "", "insufficient_quota")),
	canned(DialectOpenAI, "402", 402, "no money left, with a code that says nothing of it (DeepSeek)",
		openAIError("Insufficient Balance", "unknown_error", "", "invalid_request_error")),
	canned(DialectOpenAI, "model-not-found", 404, "a model that is not served",
		openAIError("The model `gpt-4.1` does not exist or you do not have access to it.", invalidRequest, "", "model_not_found")),
	canned(DialectOpenAI, "model-not-found-403", 403, "a model that the project may not use",
		openAIError("Project `proj_simulated` does not have access to model `gpt-4.1`", invalidRequest, "", "model_not_found")),
	canned(DialectOpenAI, "context-length", 400, "a prompt longer than the model's window",
		openAIError("This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens. Please reduce the length of the messages.", invalidRequest, "messages", "context_length_exceeded")),
	canned(DialectOpenAI, "413", 413, "a request too large for the provider",
		openAIError("Request too large.", invalidRequest, "", "")),
	canned(DialectOpenAI, "content-policy", 400, "a prompt that the provider's policy forbids",
		openAIError("Your request was rejected as a result of our safety system.", invalidRequest, "", "content_policy_violation")),
	canned(DialectOpenAI, "content-filter-400", 400, "a prompt that a filter stopped (Azure)",
		openAIError("The response was filtered due to the prompt triggering the content management policy.", invalidRequest, "prompt", "content_filter")),
}

var rateLimited = openAIError("Rate limit reached for gpt-4.1 on requests per min (RPM): Limit 500, Used 500, Requested 1. Please try again in 2s.", "requests", "", "rate_limit_exceeded")

var throttlingFailures = []failure{
	canned(DialectOpenAI, "429", 429, "a rate limit, with Retry-After in seconds", rateLimited, "Retry-After", fmt.Sprint(FailureRetryAfter.Seconds())),
	{
		Failure: Failure{Name: "429-date", Status: 429, Dialect: DialectOpenAI, Description: "a rate limit, with Retry-After as a date"},
		body:    rateLimited, act: sendDated,
	},
	canned(DialectOpenAI, "429-ms", 429, "a rate limit, with retry-after-ms alone", rateLimited, "Retry-After-Ms", fmt.Sprint(FailureRetryAfter.Milliseconds())),
	canned(DialectOpenAI, "429-reset", 429, "a rate limit, with nothing but the x-ratelimit headers", rateLimited,
		"X-Ratelimit-Limit-Requests", "500", "X-Ratelimit-Remaining-Requests", "0", "X-Ratelimit-Reset-Requests", FailureRetryAfter.String()),
	canned(DialectOpenAI, "429-plain", 429, "a rate limit that does not say how long to wait", rateLimited),
}

var serverFailures = []failure{
	canned(DialectOpenAI, "500", 500, "an error inside the provider",
		openAIError("The server had an error while processing your request. Sorry about that!", "server_error", "", "")),
	canned(DialectOpenAI, "502", 502, "a gateway without an answer", openAIError("Bad gateway.", "cf_bad_gateway", "", "")),
	canned(DialectOpenAI, "503", 503, "a provider that is overloaded",
		openAIError("The engine is currently overloaded, please try again later.", "server_error", "", "")),
	canned(DialectOpenAI, "504", 504, "a gateway that waited too long", openAIError("Gateway timeout.", "server_error", "", "")),
	canned(DialectOpenAI, "529", 529, "a provider that is overloaded (Anthropic)", `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`),
	canned(DialectOpenAI, "408", 408, "a request that the provider waited for too long", openAIError("Request timeout.", "server_error", "", "")),
	canned(DialectOpenAI, "409", 409, "a conflict that passes", openAIError("The resource is locked, please try again.", "conflict_error", "", "")),
	canned(DialectOpenAI, "425", 425, "a request that came too early", openAIError("Too early.", "server_error", "", "")),
}

// vLLM and other servers in Python: https://docs.vllm.ai, ErrorResponse.
var vllmFailures = []failure{
	canned(DialectVLLM, "vllm-400", 400, "a value that the server does not take",
		`{"error":{"message":"temperature must be non-negative, got -1.0.","type":"BadRequestError","param":"temperature","code":400}}`),
	canned(DialectVLLM, "vllm-400-flat", 400, "the same without an envelope, as older versions answer",
		`{"object":"error","message":"temperature must be non-negative, got -1.0.","type":"BadRequestError","param":null,"code":400}`),
	canned(DialectVLLM, "vllm-422", 422, "a request of the wrong form (FastAPI)",
		`{"detail":[{"type":"missing","loc":["body","messages"],"msg":"Field required","input":null}]}`),
	canned(DialectVLLM, "vllm-401", 401, "a wrong API key; the error is a string", `{"error":"Unauthorized"}`),
	canned(DialectVLLM, "vllm-403", 403, "a caller that may not use the server",
		`{"error":{"message":"Access denied.","type":"PermissionDeniedError","param":null,"code":403}}`),
	canned(DialectVLLM, "vllm-402", 402, "no credit left; the code is a number (OpenRouter)",
		`{"error":{"message":"Insufficient credits","code":402}}`),
	canned(DialectVLLM, "vllm-404", 404, "a model that is not served",
		`{"error":{"message":"The model `+"`gpt-4.1`"+` does not exist.","type":"NotFoundError","param":"model","code":404}}`),
	canned(DialectVLLM, "vllm-404-path", 404, "a path that the server does not have: no API error", `{"detail":"Not Found"}`),
	canned(DialectVLLM, "vllm-context-length", 400, "a prompt longer than the model's window, told by the message alone",
		`{"error":{"message":"This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4000 in the messages, 1000 in the completion). Please reduce the length of the messages or completion.","type":"BadRequestError","param":null,"code":400}}`),
	canned(DialectVLLM, "vllm-content-policy", 400, "a prompt that the policy forbids, told by the type",
		`{"error":{"message":"The request was rejected by the content policy.","type":"ContentPolicyViolationError","param":null,"code":400}}`),
	canned(DialectVLLM, "vllm-429", 429, "a rate limit; no Retry-After",
		`{"error":{"message":"Rate limit exceeded.","type":"RateLimitError","param":null,"code":429}}`),
	canned(DialectVLLM, "vllm-500", 500, "an error inside the server",
		`{"error":{"message":"Internal server error","type":"InternalServerError","param":null,"code":500}}`),
	canned(DialectVLLM, "vllm-503", 503, "a server error under the status of an overload",
		`{"error":{"message":"Service unavailable","type":"ServiceUnavailableError","param":null,"code":503}}`),
}

// relayError words an error as one-api and new-api do.
func relayError(message, code string) string {
	return string(encode(map[string]any{"error": map[string]any{"message": message, "type": "new_api_error", "param": "", "code": code}}))
}

var relayFailures = []failure{
	canned(DialectRelay, "relay-400", 400, "a request that the relay cannot use", relayError("field messages is required", "invalid_request")),
	canned(DialectRelay, "relay-401", 401, "a wrong token, in Chinese and without a code", relayError("无效的令牌", "")),
	canned(DialectRelay, "relay-quota", 403, "no money left", relayError("用户额度不足, 剩余额度: ＄0.000000", "insufficient_user_quota")),
	canned(DialectRelay, "relay-quota-429", 429, "no money left, in the words of an overload: only the code tells",
		relayError("当前分组上游负载已饱和，请稍后再试", "insufficient_user_quota")),
	canned(DialectRelay, "relay-no-channel", 503, "a model that is not served here, in English",
		relayError("No available channel for model gpt-4.1 under group default (distributor)", "")),
	canned(DialectRelay, "relay-no-channel-zh", 503, "a model that is not served here, in Chinese",
		relayError("当前分组 default 下对于模型 gpt-4.1 无可用渠道", "")),
	canned(DialectRelay, "relay-no-channel-code", 503, "a model that is not served here, with a code",
		relayError("No available channel for model gpt-4.1 under group default (distributor)", "model_not_found")),
	canned(DialectRelay, "relay-model-not-found", 403, "a model that the token may not use", relayError("该令牌无权访问模型 gpt-4.1", "model_not_found")),
	canned(DialectRelay, "relay-context-length", 400, "a prompt longer than the model's window, handed on from upstream",
		relayError("This model's maximum context length is 8192 tokens. (request id: 20260101000000000000000simulated)", "context_length_exceeded")),
	canned(DialectRelay, "relay-sensitive-words", 400, "a prompt that the relay's word list forbids", relayError("user sensitive words detected", "sensitive_words_detected")),
	canned(DialectRelay, "relay-429", 429, "upstream is saturated, in Chinese; the code is a number",
		`{"error":{"message":"当前分组上游负载已饱和，请稍后再试","type":"one_api_error","param":"","code":429}}`),
	canned(DialectRelay, "relay-500", 500, "upstream could not be reached", relayError("do request failed", "do_request_failed")),
	canned(DialectRelay, "relay-503", 503, "upstream failed", relayError("bad response status code 503", "bad_response_status_code")),
	canned(DialectRelay, "relay-html", 200, "the relay's web page, which answers every path outside its API",
		"<!doctype html><html><head><title>New API</title></head><body><div id=\"root\"></div></body></html>", "Content-Type", "text/html; charset=utf-8"),
}

var articleFailures = []failure{
	canned(DialectArticle, "article-401", 401, "a wrong API key",
		`{"error":{"message":"Invalid API key provided","type":"invalid_request_error","code":"invalid_api_key"}}`),
	canned(DialectArticle, "article-429", 429, "a rate limit; no Retry-After",
		`{"error":{"message":"Rate limit exceeded for model gpt-4.1","type":"rate_limit_error","code":"rate_limit_exceeded"}}`),
	canned(DialectArticle, "article-503", 503, "a provider that is down",
		`{"error":{"message":"Service temporarily unavailable","type":"server_error","code":"service_unavailable"}}`),
}

// errorPage is a web server's error page.
func errorPage(name string, status int, title, description string, header ...string) failure {
	body := fmt.Sprintf("<html>\r\n<head><title>%[1]s</title></head>\r\n<body>\r\n<center><h1>%[1]s</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n", title)
	return canned(DialectHTTP, name, status, description, body, append([]string{"Content-Type", "text/html"}, header...)...)
}

var webFailures = []failure{
	errorPage("301", 301, "301 Moved Permanently", "a redirect, as from a wrong base URL", "Location", "/moved"),
	errorPage("307", 307, "307 Temporary Redirect", "a redirect that asks for the same request again", "Location", "/moved"),
	errorPage("404-html", 404, "404 Not Found", "a page that does not exist: no API error"),
	errorPage("413-html", 413, "413 Request Entity Too Large", "a proxy that takes no request so large"),
	errorPage("502-html", 502, "502 Bad Gateway", "a proxy whose upstream is down"),
	errorPage("504-html", 504, "504 Gateway Time-out", "a proxy whose upstream is too slow"),
	errorPage("html-200", 200, "Welcome to nginx!", "a web page instead of JSON"),
}

var answerFailures = []failure{
	canned(DialectOpenAI, "error-200", 200, "an error under the status of success",
		openAIError("The server had an error while processing your request.", "server_error", "", "")),
	canned(DialectRelay, "error-200-quota", 200, "no money left, under the status of success", relayError("用户额度不足", "insufficient_user_quota")),
	bent(DialectOpenAI, "no-choices", false, "an empty list of choices", shape(noChoices)),
	bent(DialectOpenAI, "empty-content", false, "a message without text", shape(emptyContent)),
	bent(DialectOpenAI, "content-filter", false, "finish_reason content_filter, and no text", shape(filterContent)),
	bent(DialectOpenAI, "refusal", false, "a refusal in place of the text", shape(refuseToAnswer)),
	bent(DialectOpenAI, "length", true, "a text broken off half-way, finish_reason length", shape(breakOffText)),
	bent(DialectVLLM, "no-usage", true, "a good answer that does not state its usage", dropUsage),
}

var transportFailures = []failure{
	lost("hang", "no answer until the client goes away", hang),
	lost("reset", "the connection reset in place of an answer", reset),
	bent(DialectTransport, "hang-body", false, "half of the body, and then nothing", hangHalfway),
	bent(DialectTransport, "reset-body", false, "half of the body, and then a reset", resetHalfway),
	bent(DialectTransport, "truncated-body", false, "half of the body, shorter than its Content-Length", half),
	bent(DialectTransport, "truncated-json", false, "JSON that breaks off, under its own Content-Length", spoil(cutShort)),
	bent(DialectTransport, "malformed-json", false, "a body that is nearly JSON", spoil(malform)),
	bent(DialectTransport, "empty-body", false, "a success without a body", spoil(func([]byte) []byte { return nil })),
	bent(DialectTransport, slowHeaders, true, "a good answer whose headers take RegionConfig.Slow", sendLate),
	bent(DialectTransport, "drip-body", true, "a good answer whose body takes RegionConfig.Slow", drip),
}
