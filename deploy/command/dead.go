package command

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/jobstore"
)

// deadStatus is what has failed and waits for somebody to retry or discard it.
type deadStatus struct {
	Jobs     jobstore.Dead `json:"jobs"`
	Webhooks jobstore.Dead `json:"webhooks"`
}

func readDead(ctx context.Context, client redis.UniversalClient, prefix string) (deadStatus, error) {
	store, err := jobstore.New(jobstore.Config{Redis: client, Prefix: prefix})
	if err != nil {
		return deadStatus{}, err
	}
	defer func() { _ = store.Close() }() // it ends its waits, of which there is none
	var status deadStatus
	if status.Jobs, err = store.Dead(ctx); err == nil {
		status.Webhooks, err = store.DeadWebhooks(ctx)
	}
	return status, err
}

// printDead prints nothing where nothing is dead.
func printDead(out io.Writer, dead deadStatus, now time.Time) error {
	if dead.Jobs.Count+dead.Webhooks.Count == 0 {
		return nil
	}
	fmt.Fprintln(out)
	list := table(out)
	row(list, "DEAD LETTERS", "COUNT", "OLDEST", "LOOK AT THEM WITH")
	for _, kind := range []struct {
		name, look string
		jobstore.Dead
	}{
		{"jobs", "forebay jobs list --status failed", dead.Jobs},
		{"webhooks", "forebay webhooks list --state dead", dead.Webhooks},
	} {
		if kind.Count > 0 && kind.OldestAt != nil {
			row(list, kind.name, kind.Count, clock(*kind.OldestAt, now), kind.look)
		}
	}
	return list.Flush()
}
