package httpapi

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
)

type jobInput struct {
	ID string `path:"id" maxLength:"4096" doc:"The job's id"`
}

type runInput struct {
	ID  string `path:"id" maxLength:"4096" doc:"The job's id"`
	Run int    `query:"run" minimum:"1" doc:"Only while this is the job's run, as a list or a result has shown it; one that was run again since is 409"`
}

type waitInput struct {
	ID   string `path:"id" maxLength:"4096" doc:"The job's id"`
	Wait string `query:"wait" example:"30s" doc:"How long to wait for the job's end, such as 30s or a number of seconds; at most 60s, and more is taken as that. What stands when the time is over is answered with 200"`
}

type jobOutput struct{ Body tasks.Result }

// getJob answers how a job stands, or its result once it has ended.
func (a *API) getJob(ctx context.Context, input *waitInput) (*jobOutput, error) {
	atMost, err := parseWait(input.Wait)
	if err != nil {
		return nil, err
	}
	result, err := a.read(ctx, input.ID)
	if err != nil {
		return nil, err
	}
	if atMost > 0 && !result.Status.Ended() {
		if result, err = a.wait(ctx, input.ID, atMost); err != nil {
			return nil, err
		}
	}
	return &jobOutput{result}, nil
}

type requestOutput struct{ Body tasks.Job }

// getRequest answers what a job asks for. It is content: a result has none of it, and neither has a list.
func (a *API) getRequest(ctx context.Context, input *jobInput) (*requestOutput, error) {
	if _, err := a.read(ctx, input.ID); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	job, err := a.client.Job(ctx, input.ID)
	if err != nil {
		return nil, failure(input.ID, err)
	}
	return &requestOutput{job}, nil
}

func parseWait(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	wait, err := time.ParseDuration(text)
	if seconds, whole := strconv.Atoi(text); whole == nil {
		wait, err = time.Duration(min(seconds, int(longestWait/time.Second)))*time.Second, nil
	}
	if err != nil || wait < 0 {
		return 0, badParam("wait", "must be a duration such as 30s, or a number of seconds; at most 60s are waited")
	}
	return min(wait, longestWait), nil
}

// read reads a job that the request may see. Another tenant's is answered as one that is not there.
func (a *API) read(ctx context.Context, id string) (tasks.Result, error) {
	if !tasks.ValidID(id) {
		return tasks.Result{}, &apiError{
			status: http.StatusBadRequest, code: "invalid_job_id", param: "id",
			message: "the id of a job has 1 to 128 characters of A-Z a-z 0-9 _ -",
		}
	}
	reading, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	result, err := a.client.Get(reading, id)
	if errors.Is(err, producer.ErrUnreadable) {
		if _, hidden := shown(ctx, result); hidden != nil {
			return tasks.Result{}, hidden
		}
		return result, errUnreadable(err)
	}
	if err != nil {
		return tasks.Result{}, failure(id, err)
	}
	return shown(ctx, result)
}

// isUnreadable tells that a job is there and the request may see it, but that it cannot be opened here.
func isUnreadable(err error) bool {
	problem := (*apiError)(nil)
	return errors.As(err, &problem) && problem.code == codeUnreadable
}

// shown is a result that the request may see.
func shown(ctx context.Context, result tasks.Result) (tasks.Result, error) {
	if !IdentityOf(ctx).Sees(result.Tenant) {
		return tasks.Result{}, errNoJob(result.ID)
	}
	return result, nil
}

// wait waits for the end of a job that the request may see, and reads what stands when the time is over. All waits of
// the process share one connection, and send nothing while they last.
func (a *API) wait(ctx context.Context, id string, atMost time.Duration) (tasks.Result, error) {
	waiting, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	defer context.AfterFunc(a.draining, cancel)()
	result, err := a.client.Wait(waiting, id)
	switch {
	case err == nil:
		return shown(ctx, result)
	case waiting.Err() != nil:
		return a.read(ctx, id)
	}
	return tasks.Result{}, failure(id, err)
}

// cancelJob ends a job that waits, and asks the worker of one that runs to end it.
func (a *API) cancelJob(ctx context.Context, input *jobInput) (*jobOutput, error) {
	return a.change(ctx, input.ID, a.client.Cancel)
}

// retryJob runs a job again that has ended without success.
func (a *API) retryJob(ctx context.Context, input *runInput) (*jobOutput, error) {
	if err := takeJobs(ctx, 1); err != nil {
		return nil, err
	}
	return a.change(ctx, input.ID, func(ctx context.Context, id string) (tasks.Result, error) {
		if input.Run == 0 {
			return a.client.Reopen(ctx, id)
		}
		return a.client.ReopenRun(ctx, id, input.Run)
	})
}

// discardJob deletes the record of a job that has ended, and answers what it was.
func (a *API) discardJob(ctx context.Context, input *runInput) (*jobOutput, error) {
	result, err := a.read(ctx, input.ID)
	if err != nil && !isUnreadable(err) {
		return nil, err
	}
	return a.change(ctx, input.ID, func(ctx context.Context, id string) (tasks.Result, error) {
		return result, a.client.Discard(ctx, id, cmp.Or(input.Run, result.Run)) // what is answered is what has gone
	})
}

func (a *API) change(ctx context.Context, id string, change func(context.Context, string) (tasks.Result, error)) (*jobOutput, error) {
	if _, err := a.read(ctx, id); err != nil && !isUnreadable(err) {
		return nil, err
	}
	if err := mayWrite(ctx); err != nil {
		return nil, err
	}
	writing, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	result, err := change(writing, id)
	if errors.Is(err, producer.ErrUnreadable) && result.ID != "" {
		return &jobOutput{result}, nil // it was done: of the job no more can be shown
	}
	if err != nil {
		return nil, failure(id, err)
	}
	return &jobOutput{result}, nil
}
