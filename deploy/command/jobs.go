package command

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// workerNotice is how long a wait goes on before it is said that no worker lives.
const workerNotice = 3 * time.Second

// jobsClient is a producer's client with the connections behind it.
type jobsClient struct {
	*producer.Client
	redis redis.UniversalClient
	keys  keyspace.Keyspace
}

func openJobs(cmd *cobra.Command, s *settings) (*jobsClient, error) {
	sealer, err := s.sealer()
	if err != nil {
		return nil, err
	}
	client, err := s.connect(cmd.Context(), 4)
	if err != nil {
		return nil, err
	}
	jobs, err := producer.New(s.clientConfig(client, sealer))
	if err != nil {
		_ = client.Close()
		return nil, err
	}
	return &jobsClient{jobs, client, keyspace.New(s.prefix)}, nil
}

func (j *jobsClient) close() {
	_ = j.Client.Close() // it ends its waits, of which none is left
	_ = j.redis.Close()
}

// wait waits for a job's end, for timeout at most unless it is 0, and says so when nobody is there to do it.
func (j *jobsClient) wait(cmd *cobra.Command, id string, timeout time.Duration) (tasks.Result, error) {
	ctx := cmd.Context()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	noticed := make(chan struct{})
	notice := time.AfterFunc(workerNotice, func() {
		defer close(noticed)
		if workers, err := liveWorkers(ctx, j.redis, j.keys); err == nil && len(workers) == 0 {
			fmt.Fprintln(cmd.ErrOrStderr(), "forebay: no worker is alive on this Redis, and the job waits for one; start it with `forebay worker`")
		}
	})
	result, err := j.Wait(ctx, id)
	if !notice.Stop() {
		<-noticed // nothing is written after the command has returned
	}
	switch {
	case err == nil:
		return result, nil
	case cmd.Context().Err() != nil:
		return result, fmt.Errorf("interrupted; job %s goes on, wait for it again with `forebay get %s --wait`", id, id)
	case ctx.Err() != nil:
		return result, fmt.Errorf("job %s has not ended within %s and goes on; wait for it again with `forebay get %s --wait`", id, timeout, id)
	}
	return result, err
}
