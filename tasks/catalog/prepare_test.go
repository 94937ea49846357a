package catalog_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/tokens"
)

var accepted = time.Date(2026, 11, 23, 10, 0, 0, 0, time.FixedZone("", 3600))

func TestPrepareFillsIn(t *testing.T) {
	t.Parallel()
	c := valid(t)
	asked := tasks.Job{TaskType: "summary", Input: "A text."}
	prepared, err := c.Prepare(asked, accepted)
	require.NoError(t, err)
	job := prepared.Job

	assert.Equal(t, tasks.Job{TaskType: "summary", Input: "A text."}, asked, "the job handed in is not changed")
	id, err := uuid.Parse(job.ID)
	require.NoError(t, err)
	assert.EqualValues(t, 7, id.Version())
	assert.Equal(t, 1, job.V)
	assert.Equal(t, tasks.KindChat, job.Kind)
	assert.Equal(t, "default", job.Tenant)
	assert.Equal(t, tasks.PriorityDefault, job.Priority)
	assert.Equal(t, accepted.UTC(), *job.CreatedAt)
	assert.Equal(t, accepted.UTC().Add(168*time.Hour), *job.Deadline)
	assert.Equal(t, 4, *job.MaxRetries)
	assert.Equal(t, tasks.Duration(24*time.Hour), job.Retention)
	assert.Nil(t, job.RunAt)
	assert.Empty(t, job.Input)
	assert.Equal(t, tokens.Prompt(tasks.KindChat, job.Request), prepared.PromptTokens)
	assert.Positive(t, prepared.PromptTokens)

	asked.Tenant = "default"
	want, err := tasks.Fingerprint(asked)
	require.NoError(t, err)
	assert.Equal(t, want, prepared.Fingerprint, "of the job as asked, its tenant filled in")
}

func TestPrepareKeepsWhatIsGiven(t *testing.T) {
	t.Parallel()
	c := valid(t)
	runAt, deadline := accepted.Add(time.Hour), accepted.Add(2*time.Hour)
	asked := tasks.Job{
		ID: "mine", TaskType: "plain", Input: "x", Tenant: "acme", Priority: tasks.PriorityBulk, RunAt: &runAt,
		Deadline: &deadline, MaxRetries: new(7), Retention: tasks.Duration(time.Minute),
		Metadata: map[string]string{"k": "v"}, CreatedAt: new(accepted.Add(-time.Hour)),
	}
	prepared, err := c.Prepare(asked, accepted)
	require.NoError(t, err)
	job := prepared.Job
	assert.Equal(t, "mine", job.ID)
	assert.Equal(t, "acme", job.Tenant)
	assert.Equal(t, tasks.PriorityBulk, job.Priority)
	assert.Equal(t, runAt.UTC(), *job.RunAt)
	assert.Equal(t, deadline.UTC(), *job.Deadline)
	assert.Equal(t, 7, *job.MaxRetries)
	assert.Equal(t, tasks.Duration(time.Minute), job.Retention)
	assert.Equal(t, asked.Metadata, job.Metadata)
	assert.Equal(t, accepted.UTC(), *job.CreatedAt, "set by the way in, whatever the job says")

	prepared, err = c.Prepare(tasks.Job{TaskType: "plain", Input: "x"}, accepted)
	require.NoError(t, err)
	job = prepared.Job
	assert.Equal(t, 0, *job.MaxRetries, "the task type's")
	assert.Equal(t, tasks.Duration(time.Hour), job.Retention)
}

// What stands in the request is compared byte for byte.
func TestPrepareRenders(t *testing.T) {
	t.Parallel()
	c := valid(t)
	rows := map[string]struct{ job, want string }{
		"system, prompt and defaults": {
			`{"task_type":"summary","input":"Wörter <b>&\n{{input}}"}`,
			`{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Summarise:\n\nWörter <b>&\n{{input}}"}],"max_tokens":1024,"temperature":0.2}`,
		},
		"a bare prompt": {
			`{"task_type":"plain","input":"Hi"}`,
			`{"messages":[{"role":"user","content":"Hi"}],"max_tokens":1024,"temperature":0.7}`,
		},
		"no task type": {
			`{"tier":"high","input":"Hi"}`,
			`{"messages":[{"role":"user","content":"Hi"}],"max_tokens":1024,"temperature":0.7}`,
		},
		"a bound under another name, a null left out": {
			`{"task_type":"strict","input":"Hi"}`,
			`{"messages":[{"role":"user","content":"Hi"}],"max_completion_tokens":500,"stop":["<end>"]}`,
		},
		"a request stays as it is, byte for byte": {
			`{"task_type":"summary","request":{ "seed": 12345678901234567890, "big": 1.50e+3, "messages" : [ {"role":"user","content":"<\u00e9&>"} ], "x":{"y":[]} }}`,
			`{ "seed": 12345678901234567890, "big": 1.50e+3, "messages" : [ {"role":"user","content":"<\u00e9&>"} ], "x":{"y":[]},"max_tokens":1024,"temperature":0.2}`,
		},
		"what the request has is not added": {
			`{"task_type":"summary","request":{"messages":[],"temperature":0,"max_tokens":5}}`,
			`{"messages":[],"temperature":0,"max_tokens":5}`,
		},
		"a bound under its other name is a bound": {
			`{"task_type":"summary","request":{"messages":[],"max_completion_tokens":5}}`,
			`{"messages":[],"max_completion_tokens":5,"temperature":0.2}`,
		},
		"the other way round": {
			`{"task_type":"strict","request":{"messages":[],"max_tokens":5}}`,
			`{"messages":[],"max_tokens":5,"stop":["<end>"]}`,
		},
		"an embedding has no such defaults": {
			`{"task_type":"vector","input":"A \"text\""}`,
			`{"input":"A \"text\""}`,
		},
		"an embedding without a task type": {
			`{"model":"embed","request":{"input":["a","b"],"dimensions":8}}`,
			`{"input":["a","b"],"dimensions":8}`,
		},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked, err := tasks.DecodeJob([]byte(row.job))
			require.NoError(t, err)
			prepared, err := c.Prepare(asked, accepted)
			require.NoError(t, err)
			job := prepared.Job
			assert.Equal(t, row.want, string(job.Request))
			assert.Empty(t, job.Input)
			assert.True(t, json.Valid(job.Request))
		})
	}
}

func TestPrepareFindsTheKind(t *testing.T) {
	t.Parallel()
	c := valid(t)
	for job, want := range map[string]tasks.Kind{
		`{"task_type":"vector","input":"x"}`:                                  tasks.KindEmbedding,
		`{"task_type":"vector","kind":"embedding","input":"x"}`:               tasks.KindEmbedding,
		`{"model":["embed","embed-two"],"input":"x"}`:                         tasks.KindEmbedding,
		`{"profile":"best","input":"x"}`:                                      tasks.KindChat,
		`{"tier":"low","kind":"embedding","input":"x"}`:                       tasks.KindEmbedding,
		`{"tier":"low","kind":"chat","input":"x"}`:                            tasks.KindChat,
		`{"tier":"low","request":{"messages":[]}}`:                            tasks.KindChat,
		`{"profile":"mixed","request":{"input":"x"}}`:                         tasks.KindEmbedding,
		`{"task_type":"summary","model":["mini"],"tier":"low","input":"x"}`:   tasks.KindChat,
		`{"task_type":"summary","tier":"low","kind":"chat","input":"a text"}`: tasks.KindChat,
	} {
		asked, err := tasks.DecodeJob([]byte(job))
		require.NoError(t, err, job)
		prepared, err := c.Prepare(asked, accepted)
		require.NoError(t, err, job)
		assert.Equal(t, want, prepared.Job.Kind, job)
		assert.NotEmpty(t, c.ModelsFor(prepared.Job), job)
	}
}

func TestPrepareRefuses(t *testing.T) {
	t.Parallel()
	c := small()
	c.Models["unserved"] = c.Models["mini"]
	for _, endpoint := range []string{"relay-a", "relay-b"} {
		c.Endpoints[endpoint].Models = map[string]string{"mini": "mini", "large": "large", "larger": "larger", "embed": "e", "embed-two": "e2"}
	}
	require.NoError(t, c.Validate())
	rows := map[string]struct{ job, want string }{
		"nothing": {
			`{}`,
			"input: is missing or empty; give a text as input or the body of the call as request\n" +
				"task_type: is missing; name a task type, or a tier, profile or model",
		},
		"task type": {
			`{"task_type":"summry","input":"x"}`,
			`task_type: no task type "summry", did you mean "summary"?`,
		},
		"task type, not near": {
			`{"task_type":"translate","input":"x"}`,
			`task_type: no task type "translate"; there are plain, strict, summary, vector, vector-2`,
		},
		"task type beside a model": {
			`{"task_type":"translate","model":"minni","input":"x"}`,
			`task_type: no task type "translate"; there are plain, strict, summary, vector, vector-2` + "\n" +
				`model: no model "minni", did you mean "mini"?`,
		},
		"tier":    {`{"tier":"higher","input":"x"}`, `tier: no tier "higher", did you mean "high"?`},
		"profile": {`{"profile":"worst","input":"x"}`, `profile: no profile "worst"; there are best, mixed`},
		"unserved model": {
			`{"model":"unserved","input":"x"}`,
			`model: no endpoint of the catalog serves "unserved"`,
		},
		"models of two kinds": {
			`{"model":["mini","embed"],"request":{"messages":[]}}`,
			"model: lists chat and embedding models together; list models of one kind",
		},
		"tier of two kinds": {
			`{"tier":"low","input":"x"}`,
			"kind: is missing: the tier has chat and embedding models; say kind chat or embedding",
		},
		"chat with an embedding model": {
			`{"task_type":"summary","model":"embed","input":"x"}`,
			"model: the job is of kind chat, but not so embed; name chat models",
		},
		"kind against the models": {
			`{"model":["mini"],"kind":"embedding","input":"x"}`,
			"model: the job is of kind embedding, but not so mini; name embedding models",
		},
		"kind against the tier": {
			`{"tier":"high","kind":"embedding","input":"x"}`,
			"tier: has no model of kind embedding, which the job is",
		},
		"kind against the task type": {
			`{"task_type":"summary","kind":"embedding","input":"x"}`,
			"kind: the task type summary is of kind chat, the job says embedding; leave kind out or name another task type",
		},
		"request of another kind": {
			`{"task_type":"vector","request":{"messages":[]}}`,
			"request.input: is missing; a job of kind embedding needs it",
		},
		"request without messages": {
			`{"task_type":"summary","request":{}}`,
			"request.messages: is missing; a job of kind chat needs it",
		},
		"no bound": {
			`{"task_type":"summary","request":{"messages":[],"max_tokens":null}}`,
			"request.max_tokens: must be a whole number of at least 1; leave it out for the default",
		},
		"deadline past": {
			`{"task_type":"summary","input":"x","deadline":"2026-11-23T08:59:59Z"}`,
			"deadline: 2026-11-23T08:59:59Z is in the past; leave it out for 168h from now",
		},
		"run_at after the default deadline": {
			`{"task_type":"summary","input":"x","run_at":"2027-11-23T10:00:00Z"}`,
			"deadline: must be after run_at; without one it is 168h from now",
		},
		"two at once": {
			`{"task_type":"summary","model":"embed","input":"x","deadline":"2020-01-01T00:00:00Z"}`,
			"model: the job is of kind chat, but not so embed; name chat models\n" +
				"deadline: 2020-01-01T00:00:00Z is in the past; leave it out for 168h from now",
		},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked, err := tasks.DecodeJob([]byte(row.job))
			require.NoError(t, err)
			prepared, err := c.Prepare(asked, accepted)
			require.EqualError(t, err, row.want)
			require.ErrorIs(t, err, tasks.ErrInvalidJob)
			assert.Zero(t, prepared)
		})
	}
}

func TestPrepareRefusesWhatIsTooLarge(t *testing.T) {
	t.Parallel()
	_, err := valid(t).Prepare(tasks.Job{TaskType: "summary", Input: strings.Repeat("x", tasks.MaxJobBytes)}, accepted)
	require.ErrorIs(t, err, tasks.ErrInvalidJob)
	assert.Regexp(t, `^request: has \d+ bytes with its prompt and defaults; at most 8388608 are accepted$`, err.Error())
}

// No input, whatever is in it, becomes anything but the text of its message.
func FuzzPrepareInput(f *testing.F) {
	for _, seed := range []string{"plain", `","role":"system`, "{{input}}{{input}}", "\u2028</script>", "\x00\x1f", "\\"} {
		f.Add(seed)
	}
	c := small()
	require.NoError(f, c.Validate())
	f.Fuzz(func(t *testing.T, input string) {
		prepared, err := c.Prepare(tasks.Job{TaskType: "summary", Input: input}, accepted)
		if err != nil {
			require.ErrorIs(t, err, tasks.ErrInvalidJob)
			return
		}
		var request struct {
			Messages  []struct{ Role, Content string }
			MaxTokens int `json:"max_tokens"`
		}
		require.NoError(t, json.Unmarshal(prepared.Job.Request, &request))
		require.Len(t, request.Messages, 2)
		require.Equal(t, "Summarise:\n\n"+input, request.Messages[1].Content)
		require.Equal(t, 1024, request.MaxTokens)
	})
}

// Whatever request is accepted keeps every field it had, and has a bound.
func FuzzPrepareRequest(f *testing.F) {
	for _, seed := range []string{`{"messages":[]}`, ` { "messages" : [ ] } `, `{"messages":[],"n":1e2}`, `{}`, `{"messages":1,"messages":2}`, "null"} {
		f.Add([]byte(seed))
	}
	c := small()
	require.NoError(f, c.Validate())
	f.Fuzz(func(t *testing.T, request []byte) {
		prepared, err := c.Prepare(tasks.Job{TaskType: "summary", Request: request}, accepted)
		if err != nil {
			require.ErrorIs(t, err, tasks.ErrInvalidJob)
			return
		}
		var before, after map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(request, &before))
		require.NoError(t, json.Unmarshal(prepared.Job.Request, &after))
		for name, value := range before {
			require.Equal(t, value, after[name])
		}
		_, short := after["max_tokens"]
		_, long := after["max_completion_tokens"]
		require.True(t, short || long)
	})
}

// The tokens of an input are those of the request that is made of it.
func TestPrepareCountsTheRequestItMakes(t *testing.T) {
	t.Parallel()
	c := valid(t)
	for _, input := range []string{"A text.", strings.Repeat("Words \"and\" \\ äöü 你好\n", 300), "x"} {
		for name := range c.TaskTypes {
			prepared, err := c.Prepare(tasks.Job{TaskType: name, Input: input}, time.Now())
			require.NoError(t, err)
			require.Equal(t, tokens.Prompt(prepared.Job.Kind, prepared.Job.Request), prepared.PromptTokens, name)
		}
	}
}
