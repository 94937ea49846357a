package metrics

import (
	"net/http"
	"strconv"
	"strings"
)

// codes are those of failures that are shown by themselves: Forebay's own, and those that providers are known by. A
// provider may send any other, and does.
var codes = set(
	// Forebay's own.
	"answer_lost", "answer_rejected", "answer_too_large", "budget_exhausted", "cancelled", "connection_failed", "connection_lost",
	"deadline_passed", "key_missing", "lease_lost", "no_answer", "no_route", "not_served_anywhere", "over_budget", "over_limit",
	"over_max_cost", "panic", "provider_unavailable", "redis_failed", "task_archived", "task_deleted", "timeout",
	"truncated_answer", "unreadable", "withdrawn", "worker_gone", "workers_died",
	// Those of the ways in.
	"id_conflict", "invalid_entry", "invalid_job", "invalid_job_id", "invalid_json", "invalid_request", "invalid_type",
	"invalid_value", "missing_required_parameter", "refused", "store_full", "store_unavailable", "succeeded",
	"tenant_forbidden", "unknown_parameter", "unsupported_value",
	// Those of providers.
	"account_deactivated", "authentication_error", "authenticationerror", "billing_hard_limit_reached", "billing_not_active",
	"content_filter", "content_policy_violation", "contentpolicyviolationerror", "context_length_exceeded", "deploymentnotfound",
	"insufficient_balance", "insufficient_quota", "insufficient_user_quota", "internal_server_error", "internalservererror",
	"invalid_api_key", "invalid_authentication", "invalid_organization", "model_not_available", "model_not_found", "notfounderror", "overloaded_error",
	"permission_error", "permissiondeniederror", "pre_consume_token_quota_failed", "rate_limit_error", "rate_limit_exceeded",
	"ratelimiterror", "request_too_large", "responsibleaipolicyviolation", "sensitive_words_detected", "server_error",
	"service_unavailable", "serviceunavailableerror", "timeout_error", "too_many_requests",
)

func set(words ...string) map[string]bool {
	all := make(map[string]bool, len(words))
	for _, word := range words {
		all[word] = true
	}
	return all
}

// Code is the code of a failure as a label: http_<status> for what a provider said in its status alone; empty for none.
func Code(code string) string {
	if code == "" || codes[code] {
		return code
	}
	if status, found := strings.CutPrefix(code, "http_"); found {
		if number, err := strconv.Atoi(status); err == nil && len(status) == 3 && http.StatusText(number) != "" {
			return code
		}
	}
	return Other
}
