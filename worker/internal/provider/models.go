package provider

import (
	"context"
	"net/http"
	"net/http/httptrace"
)

// ListModels asks the endpoint for the list of its models, which bills nothing, as calls ask it. The latency is that on
// a connection which stands: where one had to be made first and the answer took longer than the endpoint's threshold,
// it is asked once more.
func (c *Client) ListModels(ctx context.Context, key string) Answer {
	answer, fresh := c.listModels(ctx, key)
	if threshold := c.endpoint.LatencyThreshold; fresh && answer.Err == nil && threshold > 0 && answer.Latency > threshold {
		answer, _ = c.listModels(ctx, key)
	}
	return answer
}

// listModels tells also whether it went over a connection that was made for it.
func (c *Client) listModels(ctx context.Context, key string) (answer Answer, fresh bool) {
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { fresh = !info.Reused }}
	header := c.authorised(key)
	header.Del("Content-Type")
	request := &http.Request{Method: http.MethodGet, URL: c.models, Host: c.models.Host, Header: header}
	return c.send(ctx, request.WithContext(httptrace.WithClientTrace(ctx, trace))), fresh
}
