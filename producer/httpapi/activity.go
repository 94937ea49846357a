package httpapi

import (
	"context"
	"sync"
	"time"

	"github.com/forebay-queue/forebay/tasks/activity"
)

// reportFresh is how old a report may be that several ask for.
const reportFresh = time.Second

type activityInput struct {
	Window string `query:"window" enum:"15m,1h,6h,24h,7d" default:"1h" doc:"How far back"`
}

type activityOutput struct{ Body activityReport }

type activityReport struct {
	activity.Report
	DearestModels []string `json:"dearest_models" doc:"Those that dearest_usd is reckoned with"`
}

// reports are those that were read last, by window, so that many who look cost as much as one.
type reports struct {
	mutex sync.Mutex
	read  map[string]activity.Report
}

// getActivity answers what the deployment did over time.
func (a *API) getActivity(ctx context.Context, input *activityInput) (*activityOutput, error) {
	if err := mayOperate(ctx, false); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	report, err := a.report(ctx, input.Window)
	if err != nil {
		return nil, errStore()
	}
	answer := activityReport{Report: report, DearestModels: []string{}}
	if known := a.client.Catalog(); known != nil {
		answer.DearestModels = known.DearestModels()
	}
	return &activityOutput{answer}, nil
}

func (a *API) report(ctx context.Context, window string) (activity.Report, error) {
	a.reports.mutex.Lock()
	defer a.reports.mutex.Unlock()
	now := time.Now()
	if report, found := a.reports.read[window]; found && now.Sub(report.To) < reportFresh {
		return report, nil
	}
	report, err := activity.Read(ctx, a.client.Redis(), a.client.Keys(), activity.Windows[window], now)
	if err == nil {
		a.reports.read[window] = report
	}
	return report, err
}
