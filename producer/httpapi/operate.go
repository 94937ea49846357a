package httpapi

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
)

type healthOutput struct{ Body health }

type health struct {
	Status string `json:"status" doc:"ok, or ready"`
}

func (a *API) getHealth(context.Context, *struct{}) (*healthOutput, error) {
	return &healthOutput{health{"ok"}}, nil
}

func (a *API) getReady(ctx context.Context, _ *struct{}) (*healthOutput, error) {
	notReady := func(reason string) error {
		return &apiError{status: http.StatusServiceUnavailable, code: "not_ready", message: reason}
	}
	if a.draining.Err() != nil {
		return nil, notReady("the process is ending")
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	// In a goroutine of its own: an answer is due even when the check does not look at its context.
	checked := make(chan error, 1)
	go func() { checked <- a.config.Ready(ctx) }()
	var err error
	select {
	case err = <-checked:
	case <-ctx.Done():
		err = errors.New("reach Redis: no answer within " + readyWithin.String())
	}
	if err != nil {
		return nil, notReady(err.Error())
	}
	return &healthOutput{health{"ready"}}, nil
}

type queuesOutput struct{ Body producer.Queues }

// getQueues counts what waits and what runs.
func (a *API) getQueues(ctx context.Context, _ *struct{}) (*queuesOutput, error) {
	if err := mayOperate(ctx, false); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	queues, err := a.client.Queues(ctx)
	if err != nil {
		return nil, errStore()
	}
	return &queuesOutput{queues}, nil
}

type queueInput struct {
	Queue string `path:"queue" doc:"critical, default, bulk or webhooks"`
}

type taskTypeInput struct {
	TaskType string `path:"task_type" doc:"A task type of the configuration; adhoc is the jobs without one"`
}

// pauseQueue has the workers begin no call of a queue, or go on.
func (a *API) pauseQueue(paused bool) func(context.Context, *queueInput) (*queuesOutput, error) {
	return func(ctx context.Context, input *queueInput) (*queuesOutput, error) {
		known := slices.Contains(envelope.QueueNames(), input.Queue)
		return a.pause(ctx, known, "queue", func(ctx context.Context) (bool, error) {
			return a.client.PauseQueue(ctx, input.Queue, paused)
		})
	}
}

// pauseTaskType does the same for a task type. One that the configuration has no longer can be resumed.
func (a *API) pauseTaskType(paused bool) func(context.Context, *taskTypeInput) (*queuesOutput, error) {
	return func(ctx context.Context, input *taskTypeInput) (*queuesOutput, error) {
		name := input.TaskType
		known := tasks.ValidName(name) && (!paused || name == envelope.Adhoc || a.client.KnowsTaskType(name))
		return a.pause(ctx, known, "task_type", func(ctx context.Context) (bool, error) {
			return a.client.PauseTaskType(ctx, name, paused)
		})
	}
}

func (a *API) pause(ctx context.Context, known bool, param string, change func(context.Context) (bool, error)) (*queuesOutput, error) {
	if err := mayOperate(ctx, true); err != nil {
		return nil, err
	}
	if !known {
		return nil, &apiError{status: http.StatusNotFound, code: param + "_not_found", param: param, message: "there is no such " + param}
	}
	changing, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	if _, err := change(changing); err != nil {
		return nil, errStore()
	}
	return a.getQueues(ctx, nil)
}

// getMetrics shows what the process counts. Nothing of it is a tenant's, but it is the deployment's.
func (a *API) getMetrics(ctx context.Context, _ *struct{}) (*huma.StreamResponse, error) {
	if err := mayOperate(ctx, false); err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(answer huma.Context) {
		request, w := humago.Unwrap(answer)
		a.config.Metrics.ServeHTTP(w, request)
	}}, nil
}

type statusOutput struct{ Body any }

// getStatus answers what Config.Status says.
func (a *API) getStatus(ctx context.Context, _ *struct{}) (*statusOutput, error) {
	if err := mayOperate(ctx, false); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	status, err := a.config.Status(ctx)
	if err != nil {
		return nil, errStore()
	}
	return &statusOutput{status}, nil
}
