package command

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/rs/zerolog"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/tracing"
)

// exportTraces has the spans of this process exported, where the configuration or OpenTelemetry's environment variables
// ask for it. What it returns sends the last of them.
func exportTraces(ctx context.Context, file *config.File, process string, log zerolog.Logger) (stop func(), err error) {
	var exporter tracing.Exporter
	if file != nil {
		if exporter, err = file.Exporter(); err != nil {
			for _, problem := range config.Check(file) { // the same, with its line
				if strings.HasPrefix(problem.Path, "tracing") {
					return nil, errors.New(problem.String())
				}
			}
			return nil, err
		}
	}
	exporter.Process, exporter.Version, exporter.Log = process, buildVersion().Version, log
	return tracing.Export(ctx, exporter)
}

// tracedByCaller is a context in the trace that the environment variables TRACEPARENT and TRACESTATE hold, which is how
// programs hand theirs to those that they run.
func tracedByCaller(ctx context.Context) context.Context {
	return tracing.With(ctx, tasks.TraceContext{
		Parent: os.Getenv(strings.ToUpper(tasks.TraceParentField)), State: os.Getenv(strings.ToUpper(tasks.TraceStateField)),
	})
}
