package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/seal"
	"github.com/forebay-queue/forebay/tasks/servers"
)

const (
	envConfig         = "FOREBAY_CONFIG"
	envRedis          = "FOREBAY_REDIS_URL"
	defaultConfigPath = "forebay.yaml"
	defaultRedisURL   = "redis://127.0.0.1:6379/0"

	// redisTimeout bounds connecting to Redis, and every command.
	redisTimeout = 5 * time.Second
	// nodeTimeout is how soon a node of a cluster must answer to be begun with.
	nodeTimeout = time.Second
	// loadedPoll is how often a Redis is asked that still loads its data.
	loadedPoll = 100 * time.Millisecond
)

// settings are what the global flags, the environment and the configuration say together.
type settings struct {
	// file is nil where there is no configuration.
	file *config.File
	// path is the configuration's.
	path string
	// prefix stands before every key.
	prefix string
	redis  *redis.UniversalOptions
}

// loadSettings reads what a command needs that can do without a configuration.
func loadSettings(cmd *cobra.Command) (*settings, error) {
	s := &settings{path: configPath(cmd), prefix: keyspace.DefaultPrefix}
	if s.path != "" {
		file, err := config.Load(s.path)
		if err != nil {
			return nil, err
		}
		s.file, s.prefix = file, file.Redis.Prefix
	}
	options, err := redisOptions(cmd, s.file)
	if err != nil {
		return nil, err
	}
	s.redis = options
	return s, nil
}

// sealer is what encrypts by the configuration's keys; nil where it has none, or where there is no configuration.
func (s *settings) sealer() (*seal.Sealer, error) {
	if s.file == nil {
		return nil, nil //nolint:nilnil // no encryption
	}
	return sealerOf(s.file)
}

// sealerOf names the line of the configuration whose key is missing.
func sealerOf(file *config.File) (*seal.Sealer, error) {
	sealer, err := file.Sealer()
	if err == nil {
		return sealer, nil
	}
	for _, problem := range config.Check(file) {
		if strings.HasPrefix(problem.Path, "encryption") {
			return nil, errors.New(problem.String())
		}
	}
	return nil, err
}

// requireSettings reads what a command needs that works by the catalog.
func requireSettings(cmd *cobra.Command) (*settings, error) {
	if configPath(cmd) == "" {
		return nil, fmt.Errorf("`%s` needs a configuration: name it with --%s or %s, or write ./%s with `forebay config init`",
			cmd.CommandPath(), flagConfig, envConfig, defaultConfigPath)
	}
	return loadSettings(cmd)
}

// configPath is where the configuration stands; empty where there is none.
func configPath(cmd *cobra.Command) string {
	path, _ := cmd.Flags().GetString(flagConfig)
	if path = cmp.Or(path, os.Getenv(envConfig)); path != "" {
		return path
	}
	if _, err := os.Stat(defaultConfigPath); err == nil {
		return defaultConfigPath
	}
	return ""
}

// redisOptions are those of the flag's Redis, else of the environment's, the configuration's, or the default one. What the
// configuration trusts over TLS holds for all of them; its user and its password are for its own.
func redisOptions(cmd *cobra.Command, file *config.File) (*redis.UniversalOptions, error) {
	flag, _ := cmd.Flags().GetString(flagRedis)
	url, source := flag, "--"+flagRedis
	switch {
	case flag != "":
	case os.Getenv(envRedis) != "":
		url, source = os.Getenv(envRedis), envRedis
	case file == nil:
		url, source = defaultRedisURL, "the default"
	}
	if url != "" {
		options, err := parseRedisURL(url, source)
		if err == nil && file != nil && options.TLSConfig != nil {
			err = file.Redis.Trust(options)
		}
		return options, err
	}
	options, err := file.RedisOptions()
	if err == nil {
		return options, nil
	}
	for _, problem := range config.Check(file) { // the same, with its line
		if strings.HasPrefix(problem.Path, "redis") {
			return nil, errors.New(problem.String())
		}
	}
	return nil, err
}

// namesRedis tells that a flag or the environment say where Redis is.
func namesRedis(cmd *cobra.Command) bool {
	flag, _ := cmd.Flags().GetString(flagRedis)
	return cmp.Or(flag, os.Getenv(envRedis)) != ""
}

// parseRedisURL repeats nothing of the URL in its error: it may hold a password.
func parseRedisURL(url, source string) (*redis.UniversalOptions, error) {
	options, err := config.ParseRedisURL(url)
	if err != nil {
		return nil, fmt.Errorf("the URL of Redis in %s %w", source, err)
	}
	return options, nil
}

// connect returns a client of at least so many connections, once Redis has answered. Its error says within
// redisTimeout why Redis did not.
func (s *settings) connect(ctx context.Context, connections int) (redis.UniversalClient, error) {
	return openRedis(ctx, s.redis, connections)
}

// connectToServe is connect for what serves the deployment, which a Redis must be fit for.
func (s *settings) connectToServe(ctx context.Context, connections int, log zerolog.Logger) (redis.UniversalClient, error) {
	client, err := s.connect(ctx, connections)
	if err != nil {
		return nil, err
	}
	warnings, err := servers.Check(ctx, client)
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	for _, warning := range warnings {
		log.Warn().Msg(warning)
	}
	return client, nil
}

// clientConfig is that of a way in, by the configuration where there is one.
func (s *settings) clientConfig(client redis.UniversalClient, sealer *seal.Sealer) producer.Config {
	settings := producer.Config{Redis: client, Prefix: s.prefix, Sealer: sealer, Shards: s.shards()}
	if s.file != nil {
		settings.Catalog, settings.MemoryLimit = &s.file.Catalog, s.file.Redis.MemoryLimit
		settings.Replication = producer.Replication{Replicas: s.file.Redis.WaitReplicas, Timeout: s.file.Redis.WaitTimeout}
	}
	return settings
}

func openRedis(ctx context.Context, options *redis.UniversalOptions, connections int) (redis.UniversalClient, error) {
	options.DialTimeout = redisTimeout
	options.ReadTimeout = redisTimeout
	options.WriteTimeout = redisTimeout
	options.ContextTimeoutEnabled = true
	options.PoolSize = max(options.PoolSize, connections)
	// No server but Redis Enterprise knows them.
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	if options.IsClusterMode && len(options.Addrs) > 1 {
		options.Addrs = answering(ctx, options)
	}
	client := redis.NewUniversalClient(options)
	servers.Follow(client)
	ping, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	err := client.Ping(ping).Err()
	for redis.HasErrorPrefix(err, "LOADING") && awaitLoaded(ping) { // it was started a moment ago
		err = client.Ping(ping).Err()
	}
	if err == nil {
		return client, nil
	}
	_ = client.Close()
	if ctx.Err() != nil {
		return nil, errors.New("interrupted while connecting to Redis")
	}
	return nil, fmt.Errorf("cannot reach Redis at %s: %w; %s", redisAddress(options), redisProblem(err), redisRemedy(options, err))
}

// answering are the nodes of a cluster that answer at once, or all where none does: a client begins with any of them, and
// one that hangs would cost it all the time that it has.
func answering(ctx context.Context, options *redis.UniversalOptions) []string {
	answers := make([]bool, len(options.Addrs))
	var group sync.WaitGroup
	for i, addr := range options.Addrs {
		group.Go(func() {
			node := options.Simple()
			node.Addr, node.PoolSize, node.MaxRetries = addr, 1, -1
			node.DialTimeout, node.ReadTimeout = nodeTimeout, nodeTimeout
			client := redis.NewClient(node)
			defer client.Close()
			ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
			defer cancel()
			answers[i] = client.Ping(ctx).Err() == nil
		})
	}
	group.Wait()
	var found []string
	for i, addr := range options.Addrs {
		if answers[i] {
			found = append(found, addr)
		}
	}
	if len(found) == 0 {
		return options.Addrs
	}
	return found
}

// awaitLoaded waits a little, and tells whether Redis may be asked again.
func awaitLoaded(ctx context.Context) bool {
	if deadline, bounded := ctx.Deadline(); bounded && time.Until(deadline) < 2*loadedPoll {
		return false // so that what Redis said last stands in the error
	}
	select {
	case <-time.After(loadedPoll):
		return true
	case <-ctx.Done():
		return false
	}
}

// redisAddress names a Redis without its credentials.
func redisAddress(options *redis.UniversalOptions) string {
	addresses := strings.Join(options.Addrs, ",")
	switch {
	case options.IsClusterMode:
		return "the cluster of " + addresses
	case options.MasterName != "":
		return fmt.Sprintf("%s/%d by the Sentinels at %s", options.MasterName, options.DB, addresses)
	case strings.HasPrefix(addresses, "/"):
		return addresses // a socket
	}
	return fmt.Sprintf("%s/%d", addresses, options.DB)
}

// onRedisOf runs what needs Redis and can do without a configuration.
func onRedisOf(cmd *cobra.Command, do func(ctx context.Context, s *settings, client redis.UniversalClient) error) error {
	s, err := loadSettings(cmd)
	if err != nil {
		return err
	}
	return s.onRedis(cmd, do)
}

// onRedis runs what needs Redis.
func (s *settings) onRedis(cmd *cobra.Command, do func(ctx context.Context, s *settings, client redis.UniversalClient) error) error {
	client, err := s.connect(cmd.Context(), 2)
	if err != nil {
		return err
	}
	defer client.Close()
	return do(cmd.Context(), s, client)
}
