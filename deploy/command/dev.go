package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/deploy/sandbox"
	"github.com/forebay-queue/forebay/tasks/fleet"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// devReply is what `forebay dev --json` prints once it does jobs.
type devReply struct {
	Redis string `json:"redis"`
	// Embedded tells that Redis is part of this process, and not durable.
	Embedded bool `json:"embedded"`
	// Data is the folder in which everything is kept; absent where it is not.
	Data string `json:"data,omitempty"`
	// HTTP is absent where it is off.
	HTTP string `json:"http,omitempty"`
	// SecretFile holds what webhooks are signed with; absent where the configuration says it.
	SecretFile string `json:"webhook_secret_file,omitempty"`
	// Config is the configuration by which other commands take part.
	Config    string        `json:"config"`
	Endpoints []devEndpoint `json:"endpoints"`
	Slots     int           `json:"slots"`
}

type devEndpoint struct {
	Endpoint  string `json:"endpoint"`
	Region    string `json:"region,omitempty"`
	URL       string `json:"url"`
	Simulated bool   `json:"simulated"`
}

// running is a sandbox as its user sees it.
type running struct {
	sandbox *sandbox.Sandbox
	// redis names a Redis of the user's own, without credentials; redisFlag is what commands need to reach it.
	redis, redisFlag string
	// data is the folder in which everything is kept, or empty.
	data string
	// config is the user's configuration; empty where the sandbox has one of its own.
	config string
	// job is one that can be looked at; empty where there is none yet.
	job   string
	slots int
}

func newDevCommand() *cobra.Command {
	var listen, data string
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole deployment in one process, for development",
		Long: `Run Redis, a worker, endpoints and the HTTP interface in one process until Ctrl-C, and print their addresses.

Redis is an embedded one, which is not durable: all jobs are gone when the process ends. With --data a redis-server,
which has to be installed, runs beside it and keeps everything in a folder: the next ` + "`forebay dev`" + ` with that folder goes
on where this one was ended or killed. --redis takes a Redis of your own. The endpoints are simulated, and bill nobody; --config takes those of a configuration, which are real, and its
http.listen. Of the configuration's Redis nothing but the prefix is used here.

` + reloadNote,
		Example: `  forebay dev
  forebay dev --data ./forebay-data
  forebay dev --redis redis://localhost:6379/0
  forebay dev --config forebay.yaml --listen 127.0.0.1:0`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := sandbox.CheckListen(listen); err != nil {
				return refuseUsage(cmd, "--listen: %s", err)
			}
			if cmd.Flags().Changed("listen") && listen == "" {
				return refuseUsage(cmd, "--listen must be an address such as 127.0.0.1:8080, or off")
			}
			flag, _ := cmd.Flags().GetString(flagRedis)
			switch changed := cmd.Flags().Changed("data"); {
			case changed && data == "":
				return refuseUsage(cmd, "--data must be a folder")
			case changed && flag != "":
				return refuseUsage(cmd, "--data stands beside --redis; give one of them")
			}
			return runDev(cmd, listen, data)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "", "`address` of the HTTP interface; port 0 takes a free one, off none\n(default: http.listen of --config, else 127.0.0.1:8080)")
	cmd.Flags().StringVar(&data, "data", "", "`folder` in which everything is kept (default: nothing is)")
	return cmd
}

func runDev(cmd *cobra.Command, listen, data string) (err error) {
	file, d, err := devConfig(cmd)
	if err != nil {
		return err
	}
	if listen == "" {
		if listen = file.HTTP.Listen; sandbox.CheckListen(listen) != nil {
			return fmt.Errorf("%s: http.listen: %w; or give another with --listen", d.config, sandbox.CheckListen(listen))
		}
	}
	log := newLog(cmd, file.Log)
	d.slots, d.data = file.Worker.Slots, data
	settings := sandbox.Config{
		Prefix: file.Redis.Prefix, Shards: keyspace.Shards(file.Queues.Shards), Slots: file.Worker.Slots, DrainTimeout: file.Worker.DrainTimeout, Listen: listen,
		InboxOff: file.Inbox.Enabled == config.Off, MaxQueued: file.Inbox.MaxQueued, MaxRejected: file.Inbox.MaxRejected,
		FilesRetention: file.Files.Retention, MaxFileBytes: int64(file.Files.MaxBytes),
		BatchesOff: file.Batches.Enabled == config.Off, BatchesAtOnce: file.Batches.AtOnce,
		HealthInterval: healthInterval(file.Health), Alerts: file.AlertSettings(), Log: log, Data: data, Kind: fleet.Dev, Version: buildVersion().Version,
		Status: func(ctx context.Context, s *sandbox.Sandbox) (any, error) {
			return readStatus(ctx, deployment{client: s.Redis, redis: cmp.Or(d.redis, s.RedisURL), prefix: file.Redis.Prefix, catalog: s.Client.Catalog()})
		},
	}
	settings.TraceContent, settings.TraceUpstream = file.Tracing.Content == config.On, file.Tracing.Upstream == config.On
	flush, err := exportTraces(cmd.Context(), file, "dev", log)
	if err != nil {
		return err
	}
	defer flush()
	if settings.Sealer, err = sealerOf(file); err != nil {
		return err
	}
	var live *live
	if d.config != "" {
		live = newLive(cmd, d.config, file, fleet.Dev, log)
		settings.Catalog, settings.Tenants, settings.Schedules = &file.Catalog, tenantsOf(file), file.Recurring()
		if settings.TLS, err = tlsOf(file); err != nil {
			return fmt.Errorf("%s: %w", d.config, err)
		}
	}
	settings.Metrics = newRegistry(live)
	if flag, source := ownRedis(cmd); flag != "" && data == "" {
		options, err := parseRedisURL(flag, source)
		if err != nil {
			return err
		}
		client, err := openRedis(cmd.Context(), options, sandbox.Connections(1, d.slots, keyspace.Shards(file.Queues.Shards)))
		if err != nil {
			return err
		}
		defer client.Close()
		settings.FilesURL = file.Files.URL // as what is known of them
		settings.Redis, d.redis = client, redisAddress(options)
		if source != envRedis && options.Password == "" {
			d.redisFlag = " --" + flagRedis + " " + quote(flag)
		}
	}
	if d.sandbox, err = sandbox.Start(cmd.Context(), settings); err != nil {
		if cmd.Context().Err() != nil {
			return errors.New("interrupted while starting")
		}
		return err
	}
	defer func() { err = errors.Join(err, d.sandbox.Close(context.WithoutCancel(cmd.Context()))) }()
	defer secondSignal(cmd.Context(), d.sandbox.Workers[0], log)()
	defer live.watch(cmd.Context(), d.sandbox.Member, func(file *config.File) error {
		return d.sandbox.Reload(planOf(file), tenantsOf(file))
	})()
	return stay(cmd, d, cmd.OutOrStdout())
}

// devConfig reads the configuration, if one is named. Only the flag does it: real endpoints cost money, and are not
// called because a file happens to lie here.
func devConfig(cmd *cobra.Command) (*config.File, running, error) {
	path, _ := cmd.Flags().GetString(flagConfig)
	if path == "" {
		file, err := config.Parse("the defaults", config.Example())
		return file, running{}, err
	}
	file, err := config.Load(path)
	if err != nil {
		return nil, running{}, err
	}
	var problems []config.Problem
	for _, problem := range config.Check(file) {
		if !strings.HasPrefix(problem.Path, "redis") { // it is not used
			problems = append(problems, problem)
		}
	}
	if len(problems) > 0 {
		tellProblems(cmd, problems)
		return nil, running{}, errTold
	}
	return file, running{config: path}, nil
}

// ownRedis is the URL of the user's Redis, and where it was given; empty for the embedded one.
func ownRedis(cmd *cobra.Command) (url, source string) {
	if url, _ = cmd.Flags().GetString(flagRedis); url != "" {
		return url, "--" + flagRedis
	}
	return os.Getenv(envRedis), envRedis
}

// stay prints the deployment's addresses and waits for a signal.
func stay(cmd *cobra.Command, d running, out io.Writer) error {
	path, remove, err := d.writeConfig()
	if err != nil {
		return err
	}
	defer remove()
	if wantsJSON(cmd) {
		err = printJSON(cmd, d.reply(path))
	} else {
		err = d.tell(out, path)
	}
	if err != nil {
		return err
	}
	select {
	case <-cmd.Context().Done():
		return nil
	case err := <-d.sandbox.Failed():
		return err
	}
}

// writeConfig writes a configuration by which other commands take part, where the user has none.
func (d running) writeConfig() (path string, remove func(), err error) {
	if d.config != "" {
		path, err = filepath.Abs(d.config)
		return path, func() {}, err
	}
	dir, err := os.MkdirTemp("", "forebay-")
	if err != nil {
		return "", nil, fmt.Errorf("make a folder for the configuration: %w", err)
	}
	remove = func() { _ = os.RemoveAll(dir) } // a folder of its own in the system's temporary one
	path = filepath.Join(dir, defaultConfigPath)
	if err := os.WriteFile(path, d.sandbox.File, 0o600); err != nil {
		remove()
		return "", nil, fmt.Errorf("write the configuration: %w", err)
	}
	return path, remove, nil
}

func (d running) reply(path string) devReply {
	reply := devReply{
		Redis: cmp.Or(d.redis, d.sandbox.RedisURL), Embedded: d.redis == "" && d.data == "", Data: d.data, HTTP: d.sandbox.HTTPURL, SecretFile: d.sandbox.SecretFile, Config: path, Slots: d.slots,
	}
	for _, e := range d.sandbox.EndpointOrder() {
		reply.Endpoints = append(reply.Endpoints, devEndpoint{Endpoint: e.Name, Region: e.Region, URL: e.URL, Simulated: e.Simulated})
	}
	return reply
}

// tell prints addresses, and commands to copy.
func (d running) tell(out io.Writer, path string) error {
	fmt.Fprint(out, "\nA whole deployment runs in this process:\n\n")
	list := table(out)
	if d.data != "" {
		row(list, "  redis", d.sandbox.RedisURL, "durable: everything is kept in "+d.data)
	} else if d.redis == "" {
		row(list, "  redis", d.sandbox.RedisURL, "embedded, not durable: all jobs are gone when this ends")
	} else {
		row(list, "  redis", d.redis, "your own")
	}
	if d.sandbox.HTTPURL != "" {
		row(list, "  http", d.sandbox.HTTPURL, "the dashboard; /docs/ is a page to try the API, /monitor shows the queues")
	}
	if d.sandbox.SecretFile != "" {
		row(list, "  webhooks", "to this machine, too", "signed with the secret in "+d.sandbox.SecretFile)
	}
	for _, e := range d.sandbox.EndpointOrder() {
		note := "real: calls are billed"
		if e.Simulated {
			note = "simulated: nothing is billed"
		}
		row(list, "  endpoint", labelled(e.Name, e.Simulated), note)
	}
	if d.sandbox.Simulator != nil {
		row(list, "  counters", d.sandbox.SimulatorURL+"/_simulator/counters", "of the simulated endpoints")
	}
	if err := list.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\nFrom another terminal%s:\n\n%s\nCtrl-C ends it.\n", d.condition(), d.commands(path))
	return err
}

// condition is what the commands need that is not printed.
func (d running) condition() string {
	if d.redis != "" && d.redisFlag == "" {
		return ", with " + envRedis + " set to your Redis"
	}
	return ""
}

func (d running) commands(path string) string {
	flags := " --" + flagConfig + " " + quote(path) + d.redisFlag
	// The environment goes before a configuration, and the flag before both.
	if d.redis == "" && (d.config != "" || os.Getenv(envRedis) != "") {
		flags += " --" + flagRedis + " " + d.sandbox.RedisURL
	}
	id := fmt.Sprintf("try-%d", time.Now().Unix()%100_000)
	var text strings.Builder
	line := func(command, rest string) { fmt.Fprintf(&text, "  %s %s%s%s\n", program(), command, flags, rest) }
	line("enqueue", fmt.Sprintf(" --type %s --id %s --wait %s", d.taskType(), id, someInput()))
	line("status", "")
	line("get", " "+cmp.Or(d.job, id))
	if d.sandbox.HTTPURL != "" {
		fmt.Fprintf(&text, "  curl %s/v1/jobs/%s\n", d.sandbox.HTTPURL, cmp.Or(d.job, id))
	}
	return text.String()
}

// taskType is the example's, or the first of the user's configuration.
func (d running) taskType() string {
	const usual = "fast_summary"
	known := d.sandbox.Catalog.TaskTypes
	if known[usual] != nil || len(known) == 0 {
		return usual
	}
	return slices.Min(slices.Collect(maps.Keys(known)))
}

// someInput is a document that is there, or a text.
func someInput() string {
	const usual = "README.md"
	if _, err := os.Stat(usual); err == nil {
		return "--file " + usual
	}
	return "--input " + quote("A forebay is the pool where water waits in front of the turbines until a gate lets it through.")
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// quote writes a word so that a shell takes it as it stands.
func quote(word string) string {
	if plainWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// program is how the user calls this program, for commands to copy.
func program() string {
	path, err := os.Executable()
	if err != nil {
		return "forebay"
	}
	if strings.Contains(path, string(filepath.Separator)+"go-build") {
		return "go run ."
	}
	if found, err := exec.LookPath("forebay"); err == nil && found == path {
		return "forebay"
	}
	return quote(os.Args[0])
}
