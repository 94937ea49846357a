package command

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/deploy/ops"
	"github.com/forebay-queue/forebay/tasks/fleet"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

const (
	// lookAtConfig is how often the configuration is looked at. A change is taken up once two looks running have found the
	// same, so that no file is read that is only half written.
	lookAtConfig = 2 * time.Second
	// mostProblems is how many problems of a refused configuration are told.
	mostProblems = 10
)

// reloadNote says how a process of the configuration is told another.
const reloadNote = `SIGHUP reads the configuration again; a change of its file is taken up within some seconds, once the whole of it is
valid. What needs a restart is named in the log (docs/operations.md).`

// live keeps a process at work by the newest configuration that is valid.
type live struct {
	path string
	kind fleet.Kind
	log  zerolog.Logger
	// began is what the process was started by, holds what it works by now.
	began, holds *config.File
	// ownRedis tells that Redis is not the configuration's.
	ownRedis bool
	// apply hands the parts of the process another configuration. With an error they keep the one before.
	apply  func(*config.File) error
	member *fleet.Member
	shown  fleet.Config
	// seen is what the last look found, current what holds: digests of the file's text.
	seen, current [sha256.Size]byte
	hangups       chan os.Signal
	// reloads count what becomes of changes.
	reloads *ops.Reloads
}

// newLive catches SIGHUP, which reads the configuration again from now on. It is used once: see watch.
func newLive(cmd *cobra.Command, path string, file *config.File, kind fleet.Kind, log zerolog.Logger) *live {
	l := &live{
		path: path, kind: kind, log: log, began: file, holds: file, hangups: make(chan os.Signal, 1),
		ownRedis: kind == fleet.Dev || namesRedis(cmd), seen: file.Digest(), current: file.Digest(),
		shown: fleet.Config{Version: file.Version(), LoadedAt: time.Now().UTC()}, reloads: ops.NewReloads(nil),
	}
	if sealer, err := file.Sealer(); err == nil { // else the process does not start
		l.shown.Keys = sealer.Checks()
	}
	signal.Notify(l.hangups, syscall.SIGHUP)
	return l
}

// join makes this process one of the fleet.
func join(client redis.UniversalClient, prefix string, kind fleet.Kind) *fleet.Member {
	return fleet.Join(client, keyspace.New(prefix), fleet.Process{Kind: kind, Version: buildVersion().Version})
}

// counted has the registry of the process show what becomes of changes.
func (l *live) counted(registry prometheus.Registerer) {
	reloads := ops.NewReloads(registry)
	if l == nil {
		return
	}
	l.reloads = reloads
	reloads.Loaded(l.shown.LoadedAt)
}

// watch takes up what changes until the context ends. The function that it returns waits for that; from then on SIGHUP
// ends the process again. A nil l is a process without a configuration: it has nothing to take up.
func (l *live) watch(ctx context.Context, member *fleet.Member, apply func(*config.File) error) (stop func()) {
	if l == nil {
		return func() {}
	}
	l.member, l.apply = member, apply
	member.Update(l.shown)
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() {
		ticker := time.NewTicker(lookAtConfig)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-l.hangups:
				l.look(ctx, true)
			case <-ticker.C:
				l.look(ctx, false)
			}
		}
	})
	return func() {
		cancel()
		group.Wait()
		signal.Stop(l.hangups)
	}
}

// look takes up the configuration as it stands, where it has changed or somebody asks for it. One that is refused is
// looked at again and again: a secret may come later than the file that names it.
func (l *live) look(ctx context.Context, asked bool) {
	data, err := os.ReadFile(l.path)
	digest := sha256.Sum256(data)
	if err != nil {
		digest = sha256.Sum256([]byte(err.Error()))
	}
	stands := digest == l.seen
	l.seen = digest
	if !asked && (!stands || digest == l.current && l.shown.Refused == nil) {
		return
	}
	file, problems := l.read(data, err)
	if len(problems) == 0 && file.Version() != l.holds.Version() {
		if err := l.apply(file); err != nil {
			problems = []string{err.Error()}
		}
	}
	if len(problems) > 0 {
		l.refuse(ctx, problems, asked)
		return
	}
	l.take(ctx, file, digest, asked)
}

// read is the whole validation, that of the secrets with it.
func (l *live) read(data []byte, err error) (*config.File, []string) {
	if err != nil {
		var cause *fs.PathError
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return nil, []string{l.path + ": cannot be read: " + err.Error()}
	}
	file, err := config.Parse(l.path, data)
	var invalid *config.ParseError
	switch {
	case errors.As(err, &invalid):
		return nil, texts(invalid.Problems)
	case err != nil:
		return nil, []string{err.Error()}
	}
	return file, texts(slices.DeleteFunc(config.Check(file), l.ignores))
}

// ignores tells of a secret that is missing and that this process does not use: it would start without.
func (l *live) ignores(problem config.Problem) bool {
	section, _, _ := strings.Cut(problem.Path, ".")
	switch section {
	case "accounts", "webhooks":
		return !l.kind.Works()
	case "alerts":
		return l.kind != fleet.Scheduler && l.kind != fleet.Dev
	case "redis":
		return l.ownRedis
	}
	return false
}

func texts(problems []config.Problem) []string {
	list := make([]string, len(problems))
	for i, problem := range problems {
		list[i] = problem.String()
	}
	return list
}

// refuse keeps the configuration that holds, and says why, once.
func (l *live) refuse(ctx context.Context, problems []string, asked bool) {
	if more := len(problems) - mostProblems; more > 0 {
		problems = append(problems[:mostProblems:mostProblems], plural(more, "further problem"))
	}
	if before := l.shown.Refused; !asked && before != nil && slices.Equal(before.Problems, problems) {
		return
	}
	for _, problem := range problems {
		l.log.Error().Str("problem", problem).Str("holds", l.holds.Version()).Msg("the configuration is refused; the one before holds")
	}
	l.reloads.Failed()
	l.shown.Refused = &fleet.Refusal{At: time.Now().UTC(), Problems: problems}
	l.show(ctx)
}

// take says that a configuration holds.
func (l *live) take(ctx context.Context, file *config.File, digest [sha256.Size]byte, asked bool) {
	changed, wasRefused := file.Version() != l.holds.Version(), l.shown.Refused != nil
	l.holds, l.current = file, digest
	l.shown.Refused = nil
	if changed {
		l.shown.Version, l.shown.LoadedAt = file.Version(), time.Now().UTC()
		l.reloads.Loaded(l.shown.LoadedAt)
	}
	restart := slices.DeleteFunc(l.began.Restart(file, string(l.kind)), l.unused)
	switch {
	case changed:
		l.log.Info().Str("version", l.shown.Version).Msg("another configuration holds")
	case wasRefused:
		l.log.Info().Str("version", l.shown.Version).Msg("the configuration is valid again, and as it was")
	case asked:
		l.log.Info().Str("version", l.shown.Version).Msg("the configuration was read again: it has not changed")
	}
	for _, field := range restart {
		if asked || !slices.Contains(l.shown.Restart, field) {
			l.log.Warn().Str("field", field).Msg(field + " has changed: restart to use it")
		}
	}
	l.shown.Restart = restart
	l.show(ctx)
}

// unused tells of a field that says where Redis is, to a process that has another one.
func (l *live) unused(field string) bool {
	return l.ownRedis && strings.HasPrefix(field, "redis.") && field != "redis.prefix"
}

// show has the fleet know. What does not reach Redis now does with the next heartbeat.
func (l *live) show(ctx context.Context) {
	l.member.Update(l.shown)
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = l.member.Beat(ctx)
}

// beat has a process that does no jobs be known to the fleet until the function that it returns is called.
func beat(ctx context.Context, member *fleet.Member, log zerolog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var group sync.WaitGroup
	away := false
	group.Go(func() {
		member.Run(ctx, func(err error) {
			if err != nil && !away {
				log.Warn().Err(err).Msg("the fleet does not hear of this process at the moment; trying on")
			}
			away = err != nil
		})
	})
	return func() {
		cancel()
		group.Wait()
	}
}
