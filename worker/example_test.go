package worker_test

import (
	"context"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/redistest"
	"github.com/forebay-queue/forebay/worker"
)

// A worker runs inside any program, until its context ends. Here Redis is embedded; a program of its own connects to
// a real one, and its catalog comes from a file.
func ExampleWorker() {
	server := miniredis.NewMiniRedis()
	if err := server.Start(); err != nil {
		panic(err)
	}
	defer server.Close()
	client := redis.NewClient(redistest.Options(server.Addr()))
	defer func() { _ = client.Close() }()

	price := 2.50
	models := &catalog.Catalog{
		Accounts: map[string]*catalog.Account{"own-servers": {}},
		Endpoints: map[string]*catalog.Endpoint{
			"gpu-1": {Account: "own-servers", URL: "http://127.0.0.1:8000/v1", Priority: 1, Auth: catalog.AuthNone},
		},
		Models:       map[string]*catalog.Model{"gemini-2.5-flash": {Output: &price}},
		Tiers:        []catalog.Tier{{Name: "low", Models: []string{"gemini-2.5-flash"}}},
		FallbackTier: "low",
		TaskTypes:    map[string]*catalog.TaskType{"fast_summary": {Model: "gemini-2.5-flash"}},
	}
	if err := models.Validate(); err != nil {
		panic(err)
	}
	w, err := worker.New(worker.Config{Redis: client, Catalog: models, Slots: 4, DrainTimeout: time.Minute})
	if err != nil {
		panic(err)
	}

	ctx, stop := context.WithTimeout(context.Background(), 100*time.Millisecond) // a program uses signal.NotifyContext
	defer stop()
	fmt.Println("ended:", w.Run(ctx))
	// Output:
	// ended: <nil>
}
