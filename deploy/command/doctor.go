package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// level is how bad a finding is.
type level string

// The levels. An error is what keeps jobs from being done, or loses them; a warning is what somebody should know.
const (
	levelOK      level = "ok"
	levelWarning level = "warning"
	levelError   level = "error"
)

// The codes of findings. Alerts and scripts go by them: a code keeps its meaning.
const (
	codeConfig         = "config"           // ok
	codeConfigMissing  = "config_missing"   // warning
	codeConfigInvalid  = "config_invalid"   // error
	codeKeyUnusable    = "key_unusable"     // error
	codeRedisSecret    = "redis_secret"     // error
	codeRedis          = "redis"            // ok
	codeRedisAway      = "redis_away"       // error
	codeRedisEmbedded  = "redis_embedded"   // warning
	codeRedisHidden    = "redis_hidden"     // warning
	codeRedisVersion   = "redis_version"    // error
	codeRedisReplica   = "redis_replica"    // error
	codeRedisPolicy    = "redis_policy"     // error
	codeRedisAOF       = "redis_aof"        // warning when off, error when it fails
	codeRedisMemory    = "redis_memory"     // warning from 70 %, error from 90 %
	codeClock          = "clock"            // warning from 2s, error from 15s
	codeEndpoint       = "endpoint"         // ok
	codeEndpointAway   = "endpoint_away"    // error
	codeKeyRefused     = "key_refused"      // error
	codeQuota          = "quota"            // error
	codeMisconfigured  = "misconfigured"    // error
	codeThrottled      = "throttled"        // warning
	codeEndpointSlow   = "endpoint_slow"    // warning
	codeNoModelList    = "no_model_list"    // warning
	codeModelsMissing  = "models_missing"   // warning
	codeNotTested      = "not_tested"       // warning
	codeWorkers        = "workers"          // ok
	codeNoWorkers      = "no_workers"       // warning
	codeVersionsDiffer = "versions_differ"  // warning
	codeConfigRefused  = "config_refused"   // warning
	codeRestartNeeded  = "restart_needed"   // warning
	codeQueuePaused    = "queue_paused"     // warning
	codeTaskTypePaused = "task_type_paused" // warning
	codeBreakerOpen    = "breaker_open"     // warning
	codeDeadJobs       = "dead_jobs"        // warning
	codeDeadWebhooks   = "dead_webhooks"    // warning
)

// finding is one thing that was looked at.
type finding struct {
	Code  string `json:"code"`
	Level level  `json:"level"`
	// Subject is what it is about: a place in the configuration, "redis", an endpoint, a queue.
	Subject string `json:"subject"`
	// Class is the class of failure that calls to the endpoint would end with.
	Class tasks.Class `json:"class,omitempty"`
	// HTTPStatus and LatencyMS are those of an endpoint's answer.
	HTTPStatus int     `json:"http_status,omitempty"`
	LatencyMS  float64 `json:"latency_ms,omitempty"`
	Message    string  `json:"message"`
	// Hint says what to do.
	Hint string `json:"hint,omitempty"`
}

// doctorReply is what `forebay doctor --json` prints. OK tells that no finding is an error.
type doctorReply struct {
	OK       bool      `json:"ok"`
	Errors   int       `json:"errors"`
	Warnings int       `json:"warnings"`
	Findings []finding `json:"findings"`
}

func newDoctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Examine the deployment, and say what to do",
		Long: `Examine the deployment as this machine sees it: the configuration and the keys it names, Redis (version, clock,
policy, persistence, memory), every endpoint (GET /models with its account's key, which costs nothing), the workers,
and what is paused, open or dead. Nothing is changed and no secret printed. The exit status is 1 when something is
wrong that keeps jobs from being done or may lose them.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			reply := examine(cmd)
			var err error
			if wantsJSON(cmd) {
				err = printJSON(cmd, reply)
			} else {
				err = printFindings(cmd.OutOrStdout(), reply)
			}
			if err == nil && !reply.OK {
				err = errTold
			}
			return err
		},
	}
}

// examine looks at everything that can be reached. What fails is a finding.
func examine(cmd *cobra.Command) doctorReply {
	ctx := cmd.Context()
	s, findings := examineConfig(cmd)
	endpoints := make(chan []finding, 1)
	go func() { endpoints <- examineEndpoints(ctx, s.file) }()
	if s.redis != nil {
		findings = append(findings, examineDeployment(ctx, s)...)
	}
	findings = append(findings, <-endpoints...)
	reply := doctorReply{Findings: findings}
	for _, f := range findings {
		switch f.Level {
		case levelError:
			reply.Errors++
		case levelWarning:
			reply.Warnings++
		case levelOK:
		}
	}
	reply.OK = reply.Errors == 0
	return reply
}

// examineConfig reads the configuration. Of the settings returned, file is nil when it cannot be used, redis when it
// is not known where that is.
func examineConfig(cmd *cobra.Command) (*settings, []finding) {
	s := &settings{path: configPath(cmd), prefix: keyspace.DefaultPrefix}
	var findings []finding
	if s.path == "" {
		findings = append(findings, finding{
			Code: codeConfigMissing, Level: levelWarning, Subject: defaultConfigPath,
			Message: "there is no configuration, so endpoints and keys are not examined",
			Hint:    fmt.Sprintf("name it with --%s or %s, or write one with `forebay config init`", flagConfig, envConfig),
		})
	} else if file, err := config.Load(s.path); err != nil {
		findings = append(findings, configProblems(s.path, err)...)
	} else {
		s.file, s.prefix = file, file.Redis.Prefix
		findings = append(findings, secretProblems(file)...)
		if len(findings) == 0 {
			findings = []finding{{Code: codeConfig, Level: levelOK, Subject: s.path, Message: "in order, with every key that it names"}}
		}
	}
	if s.path != "" && s.file == nil && !namesRedis(cmd) {
		return s, findings // it alone would know where Redis is
	}
	options, err := redisOptions(cmd, s.file)
	if err == nil {
		s.redis = options
	} else if namesRedis(cmd) { // else it is among the secrets' problems
		findings = append(findings, finding{Code: codeRedisAway, Level: levelError, Subject: "redis", Message: err.Error(), Hint: "correct the URL"})
	}
	return s, findings
}

func configProblems(path string, err error) []finding {
	var refused *config.ParseError
	if !errors.As(err, &refused) {
		message, hint, _ := strings.Cut(err.Error(), "; ")
		return []finding{{Code: codeConfigInvalid, Level: levelError, Subject: path, Message: message, Hint: hint}}
	}
	findings := make([]finding, len(refused.Problems))
	for i, problem := range refused.Problems {
		findings[i] = problemFinding(codeConfigInvalid, problem, "correct the line; what it configures is examined then")
	}
	return findings
}

func secretProblems(file *config.File) []finding {
	var findings []finding
	for _, problem := range config.Check(file) {
		code, hint := codeKeyUnusable, "set the key for this process and for the workers, then examine again"
		if strings.HasPrefix(problem.Path, "redis") {
			code, hint = codeRedisSecret, "set it for this process and for the workers, then examine again"
		}
		findings = append(findings, problemFinding(code, problem, hint))
	}
	return findings
}

func problemFinding(code string, problem config.Problem, hint string) finding {
	message := problem.Text
	if problem.Path != "" {
		message = problem.Path + ": " + message
	}
	return finding{
		Code: code, Level: levelError, Subject: fmt.Sprintf("%s:%d:%d", problem.File, problem.Line, problem.Column),
		Message: message, Hint: hint,
	}
}

// examineDeployment looks at Redis and at all that is in it.
func examineDeployment(ctx context.Context, s *settings) []finding {
	client, err := s.connect(ctx, 4)
	if err != nil {
		message, hint := err.Error(), "start Redis, or name another"
		if cut := strings.LastIndex(message, "; "); cut >= 0 {
			message, hint = message[:cut], message[cut+2:]
		}
		return []finding{{Code: codeRedisAway, Level: levelError, Subject: "redis", Message: message, Hint: hint}}
	}
	defer client.Close()
	findings := examineRedis(ctx, client, redisAddress(s.redis))
	work, err := examineWork(ctx, client, s)
	if err != nil {
		work = append(work, finding{
			Code: codeRedisAway, Level: levelError, Subject: "redis", Message: redisText(err), Hint: "look into Redis' log, then examine again",
		})
	}
	return append(findings, work...)
}

func redisText(err error) string { return printable(redisProblem(err).Error()) }

// examineWork looks at the workers, and at what is paused, open or dead.
func examineWork(ctx context.Context, client redis.UniversalClient, s *settings) ([]finding, error) {
	var findings []finding
	for _, look := range []func(context.Context, redis.UniversalClient, *settings) ([]finding, error){
		examineWorkers, examinePauses, examineBreakers, examineDead,
	} {
		found, err := look(ctx, client, s)
		if err != nil {
			return findings, err
		}
		findings = append(findings, found...)
	}
	return findings, nil
}

func printFindings(out io.Writer, reply doctorReply) error {
	list := table(out)
	for _, f := range reply.Findings {
		message := f.Message
		if f.LatencyMS > 0 {
			message += fmt.Sprintf(" (%s)", brief(time.Duration(f.LatencyMS*float64(time.Millisecond))))
		}
		row(list, string(f.Level), f.Code, printable(f.Subject), printable(message))
		if f.Hint != "" {
			row(list, "", "", "", "-> "+printable(f.Hint))
		}
	}
	if err := list.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%s, %s\n", plural(reply.Errors, "error"), plural(reply.Warnings, "warning"))
	return err
}
