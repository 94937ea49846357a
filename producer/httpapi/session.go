package httpapi

import "context"

type sessionOutput struct{ Body session }

// session is what whoever asks may see and do.
type session struct {
	Key      string   `json:"key" doc:"The name of the API key; empty where none is asked for"`
	Tenant   string   `json:"tenant" doc:"Whose jobs are shown; empty for operators, who see all"`
	Operator bool     `json:"operator" doc:"May see the deployment"`
	Write    bool     `json:"write" doc:"May change something"`
	Features features `json:"features"`
}

// features are the parts of the API that are there.
type features struct {
	Jobs    bool `json:"jobs" doc:"Jobs can be sent here"`
	Batches bool `json:"batches" doc:"There are files and batches"`
	Status  bool `json:"status" doc:"There is the status"`
	Monitor bool `json:"monitor" doc:"There is the console of asynq"`
}

func (a *API) session(ctx context.Context) session {
	identity := IdentityOf(ctx)
	return session{
		Key: identity.Key, Tenant: identity.Tenant, Operator: identity.Operator, Write: identity.Write,
		Features: features{Jobs: a.client.Catalog() != nil, Batches: a.config.Files != nil, Status: a.config.Status != nil, Monitor: a.monitor},
	}
}

// getSession answers who asks.
func (a *API) getSession(ctx context.Context, _ *struct{}) (*sessionOutput, error) {
	return &sessionOutput{a.session(ctx)}, nil
}
