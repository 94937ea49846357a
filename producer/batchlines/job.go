package batchlines

import (
	"encoding/json"

	"github.com/forebay-queue/forebay/producer/internal/openai"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

// JobOf makes a job of what a line asks: the path of its URL and its body. The error says in OpenAI's words why there can be
// none.
func JobOf(url string, body json.RawMessage, c *catalog.Catalog) (tasks.Job, error) {
	return openai.JobOf(url, body, c)
}
