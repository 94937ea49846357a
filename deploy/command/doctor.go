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
		Long: `Examine the deployment as this machine sees it: the configuration, the keys, certificates, prices and folders that it
names; Redis, every master of it, and its Sentinels (version, clock, rights, policy, persistence, replicas, memory); every
endpoint (GET /models with its account's key, which costs nothing); who works; and what waits, is paused, open or dead.
Nothing is changed and no secret printed. The exit status is 1 when something is wrong that keeps jobs from being done or
may lose them. docs/operations.md lists the findings.`,
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
	if s.file != nil {
		findings = append(findings, examineHere(ctx, s.file)...)
	}
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
		findings = append(findings, finding{Code: codeRedisAway, Level: levelError, Subject: subjectRedis, Message: err.Error(), Hint: "correct the URL"})
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
	findings, usable := examineSentinels(ctx, s.redis)
	if !usable {
		return findings
	}
	client, err := s.connect(ctx, 4)
	if err != nil {
		return append(findings, connectionProblem(s.redis, err))
	}
	defer client.Close()
	found, usable := examineRedis(ctx, client, s)
	findings = append(findings, found...)
	if !usable {
		return findings // what is in it could not be read, and the reason stands there
	}
	return append(findings, examineWork(ctx, client, s)...)
}

func redisText(err error) string { return printable(redisProblem(err).Error()) }

// examineWork looks at what is done, and at what is not.
func examineWork(ctx context.Context, client redis.UniversalClient, s *settings) []finding {
	var findings []finding
	for _, look := range []func(context.Context, redis.UniversalClient, *settings) ([]finding, error){
		examineWorkers, examineLeader, examineQueues, examinePauses, examineInbox, examineBatches, examineAPIKeys,
		examineBreakers, examineBudget, examineDead,
	} {
		found, err := look(ctx, client, s)
		findings = append(findings, found...)
		if err != nil {
			return append(findings, finding{
				Code: codeRedisAway, Level: levelError, Subject: subjectRedis, Message: redisText(err), Hint: "look into Redis' log, then examine again",
			})
		}
	}
	return findings
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
