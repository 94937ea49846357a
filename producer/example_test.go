package producer_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/producer/httpapi"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// open returns a client on an embedded Redis. A program of its own has the address of a real one, and reads its
// catalog from a file.
func open() (*producer.Client, *redis.Client, func()) {
	server := miniredis.NewMiniRedis()
	if err := server.Start(); err != nil {
		panic(err)
	}
	client := redis.NewClient(redistest.Options(server.Addr()))
	catalog := exampleCatalog()
	if err := catalog.Validate(); err != nil {
		panic(err)
	}
	jobs, err := producer.New(producer.Config{Redis: client, Catalog: catalog})
	if err != nil {
		panic(err)
	}
	return jobs, client, func() {
		_ = jobs.Close()
		_ = client.Close()
		server.Close()
	}
}

func ExampleClient_Enqueue() {
	jobs, _, end := open()
	defer end()
	ctx := context.Background()

	job := tasks.Job{ID: "report-7", TaskType: "fast_summary", Input: "A long report."}
	for range 2 { // the second time, after a crash say, repeats nothing
		receipt, err := jobs.Enqueue(ctx, job)
		fmt.Println(receipt.ID, receipt.Created, receipt.Status, err)
	}

	job.Input = "Quite another report."
	_, err := jobs.Enqueue(ctx, job)
	fmt.Println(err)
	// Output:
	// report-7 true queued <nil>
	// report-7 false queued <nil>
	// create job report-7: the id is taken by a job that asks for something else; choose another id
}

func ExampleClient_EnqueueMany() {
	jobs, _, end := open()
	defer end()

	documents := []tasks.Job{
		{ID: "doc-1", TaskType: "fast_summary", Input: "The first document."},
		{ID: "doc-2", TaskType: "fast_summary"},
		{ID: "doc-3", TaskType: "fast_summary", Input: "The third document."},
	}
	for receipt, err := range jobs.EnqueueMany(context.Background(), slices.Values(documents)) {
		if err != nil {
			fmt.Println("refused:", err)
			continue
		}
		fmt.Println("accepted:", receipt.ID)
	}
	// Output:
	// accepted: doc-1
	// refused: job doc-2: input: is missing or empty; give a text as input or the body of the call as request
	// accepted: doc-3
}

func ExampleClient_Wait() {
	jobs, client, end := open()
	defer end()
	ctx := context.Background()

	if _, err := jobs.Enqueue(ctx, tasks.Job{ID: "doc-1", TaskType: "fast_summary", Input: "A long text."}); err != nil {
		fmt.Println(err)
		return
	}
	go actAsWorker(client, "doc-1")

	result, err := jobs.Wait(ctx, "doc-1")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(result.Status, result.Text)
	// Output: succeeded A short text.
}

func ExampleClient_Cancel() {
	jobs, _, end := open()
	defer end()
	ctx := context.Background()

	_, _ = jobs.Enqueue(ctx, tasks.Job{ID: "doc-1", TaskType: "fast_summary", Input: "A long text."})
	result, _ := jobs.Cancel(ctx, "doc-1")
	fmt.Println(result.Status, "because:", result.Error.Message)

	result, _ = jobs.Reopen(ctx, "doc-1")
	fmt.Println(result.Status, "in run", result.Run)
	// Output:
	// cancelled because: cancelled before an answer came
	// queued in run 2
}

// actAsWorker stands in for a worker.Worker.
func actAsWorker(client *redis.Client, id string) {
	store, err := jobstore.New(jobstore.Config{Redis: client})
	if err != nil {
		panic(err)
	}
	_, _ = store.Commit(context.Background(), jobstore.Commit{
		ID: id, Run: 1, Status: tasks.StatusSucceeded, Result: tasks.Result{Text: "A short text."},
	})
}

// A program that reaches Forebay over HTTP has the same interface: Jobs.
func ExampleNewHTTP() {
	behind, client, end := open()
	defer end()
	api, err := httpapi.Handler(httpapi.Config{Client: behind})
	if err != nil {
		fmt.Println(err)
		return
	}
	server := httptest.NewServer(api) // stands in for `forebay producer`
	defer server.Close()

	var jobs producer.Jobs
	jobs, err = producer.NewHTTP(producer.HTTPConfig{URL: server.URL, Key: "the API key"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = jobs.Close() }()
	ctx := context.Background()
	_, err = jobs.Enqueue(ctx, tasks.Job{ID: "doc-1", TaskType: "no_such_type", Input: "A long text."})
	fmt.Println(errors.Is(err, tasks.ErrInvalidJob))
	receipt, err := jobs.Enqueue(ctx, tasks.Job{ID: "doc-1", TaskType: "fast_summary", Input: "A long text."})
	fmt.Println(receipt.ID, receipt.Created, err)
	go actAsWorker(client, "doc-1")
	result, err := jobs.Wait(ctx, "doc-1")
	fmt.Println(result.Status, result.Text, err)
	// Output:
	// true
	// doc-1 true <nil>
	// succeeded A short text. <nil>
}

func ExampleClient_List() {
	jobs, _, end := open()
	defer end()
	ctx := context.Background()

	for _, id := range []string{"doc-1", "doc-2", "doc-3"} {
		_, _ = jobs.Enqueue(ctx, tasks.Job{ID: id, TaskType: "fast_summary", Input: "A long text."})
	}
	_, _ = jobs.Cancel(ctx, "doc-2")
	cancelled := producer.Filter{Statuses: []tasks.Status{tasks.StatusCancelled}}
	page, err := jobs.List(ctx, cancelled, "", 10)
	fmt.Println(page.Jobs[0].ID, page.Jobs[0].Error.Code, err)
	groups, err := jobs.Group(ctx, producer.Filter{}, "status")
	for _, group := range groups.Groups {
		fmt.Println(group.Key, group.Jobs, err)
	}
	// Output:
	// doc-2 cancelled <nil>
	// queued 2 <nil>
	// cancelled 1 <nil>
}
