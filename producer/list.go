package producer

import (
	"context"

	"github.com/forebay-queue/forebay/tasks/jobstore"
)

// MaxListLimit is how many jobs a page has at most.
const MaxListLimit = jobstore.MaxListLimit

// What lists are asked for and answer.
type (
	// Filter says which jobs are meant.
	Filter = jobstore.Filter
	// Row is a job in a list, without its prompt and its answer.
	Row = jobstore.Row
	// Page is a part of a list.
	Page = jobstore.Page
	// Groups are jobs, counted.
	Groups = jobstore.Groups
	// GroupRow is one group of jobs.
	GroupRow = jobstore.GroupRow
)

// List reads a part of the jobs that a filter means: the open ones first, those with the latest deadline first, then
// those that have ended, the newest end first. The cursor is the Next of the page before, or empty at the beginning; the
// limit is 1 to 1000, 0 is 50. What is asked for wrongly is a *tasks.FieldError.
func (c *Client) List(ctx context.Context, filter Filter, cursor string, limit int) (Page, error) {
	return within(ctx, func() (Page, error) { return c.store.List(ctx, filter, cursor, limit) })
}

// Group counts the jobs that a filter means, by status, code, task_type, tenant, model or day.
func (c *Client) Group(ctx context.Context, filter Filter, by string) (Groups, error) {
	return within(ctx, func() (Groups, error) { return c.store.Group(ctx, filter, by) })
}
