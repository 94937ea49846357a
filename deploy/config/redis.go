package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/catalog"
)

// Redis is where jobs, results and breakers are kept.
type Redis struct {
	// URL is where it is: see RedisURLForms. It holds no password. Defaults to redis://127.0.0.1:6379/0.
	URL string `yaml:"url"`
	// URLEnv names the environment variable that holds the URL; that one may hold a password.
	URLEnv string `yaml:"url_env"`
	// Username is the user of Redis' ACL, where the URL names none. Defaults to Redis' own, "default".
	Username string `yaml:"username"`
	// PasswordEnv names the environment variable that holds the password, PasswordFile the file. At most one.
	PasswordEnv  string `yaml:"password_env"`
	PasswordFile string `yaml:"password_file"`
	// Sentinel is how the Sentinels are asked, where the URL names them.
	Sentinel Sentinel `yaml:"sentinel"`
	// TLS is how the servers are trusted, and Sentinels with them. It needs a URL with TLS.
	TLS RedisTLS `yaml:"tls"`
	// Prefix stands before every key of this deployment. Defaults to "forebay:".
	Prefix string `yaml:"prefix"`
	// WaitReplicas is how many replicas must have a job before it counts as accepted, 0 to 16. Defaults to 0: none.
	WaitReplicas int `yaml:"wait_replicas"`
	// WaitTimeout is how long they are waited for, 10ms to 1m. Defaults to 1s.
	WaitTimeout time.Duration `yaml:"wait_timeout"`
	// MemoryLimit is the share of Redis' maxmemory from which no job is accepted any more, more than 0 to 1. Defaults to
	// 0.7. 1 leaves it to Redis, which then refuses the results of running jobs as well.
	MemoryLimit float64 `yaml:"memory_limit"`
}

// Sentinel is the user of the Sentinels' own ACL, and its password: they are not those of Redis.
type Sentinel struct {
	// Username is the user, PasswordEnv the environment variable that holds the password, PasswordFile the file. At most one
	// of the two. Defaults to none.
	Username     string `yaml:"username"`
	PasswordEnv  string `yaml:"password_env"`
	PasswordFile string `yaml:"password_file"`
}

// RedisTLS is what a client shows to Redis, and what it trusts.
type RedisTLS struct {
	// CAFile is the certificates in PEM of those who may have signed the servers'. Defaults to the system's.
	CAFile string `yaml:"ca_file"`
	// CertFile and KeyFile are the client's own certificate and private key in PEM, for servers that want one. Both, or
	// neither.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// ServerName is the name in the servers' certificates, where it is not their address's.
	ServerName string `yaml:"server_name"`
}

// RedisURLForms are the URLs by which Redis is named.
const RedisURLForms = "redis://host:port/database, redis-sentinel://host:port,host:port/database?master=name, " +
	"redis-cluster://host:port,host:port (each with rediss in the place of redis for TLS), or unix:///path"

const (
	defaultWaitTimeout = time.Second
	minWaitTimeout     = 10 * time.Millisecond
	maxWaitTimeout     = time.Minute
	maxWaitReplicas    = 16
	defaultMemoryLimit = 0.7

	redisPort    = "6379"
	sentinelPort = "26379"
)

var errRedisURL = errors.New("must be " + RedisURLForms)

// ParseRedisURL reads a URL of RedisURLForms. Its error says what is wrong and repeats nothing of the URL, which may hold
// a password.
func ParseRedisURL(raw string) (*redis.UniversalOptions, error) {
	scheme, rest, found := strings.Cut(raw, "://")
	if !found {
		return nil, errRedisURL
	}
	switch base, encrypted := strings.CutPrefix(scheme, "rediss"); {
	case scheme == "redis", scheme == "rediss", scheme == "unix":
		return parseSingle(raw)
	case encrypted && (base == "-sentinel" || base == "-cluster"):
		return parseMany(base, rest, true)
	case scheme == "redis-sentinel", scheme == "redis-cluster":
		return parseMany(strings.TrimPrefix(scheme, "redis"), rest, false)
	}
	return nil, errRedisURL
}

func parseSingle(raw string) (*redis.UniversalOptions, error) {
	o, err := redis.ParseURL(raw)
	if err != nil {
		return nil, errRedisURL
	}
	return &redis.UniversalOptions{
		Addrs: []string{o.Addr}, DB: o.DB, Username: o.Username, Password: o.Password, TLSConfig: o.TLSConfig, ClientName: o.ClientName,
		Protocol: o.Protocol, MaxRetries: o.MaxRetries, MinRetryBackoff: o.MinRetryBackoff, MaxRetryBackoff: o.MaxRetryBackoff,
		PoolFIFO: o.PoolFIFO, PoolSize: o.PoolSize, PoolTimeout: o.PoolTimeout, MinIdleConns: o.MinIdleConns, MaxIdleConns: o.MaxIdleConns,
		MaxActiveConns: o.MaxActiveConns, ConnMaxIdleTime: o.ConnMaxIdleTime, ConnMaxLifetime: o.ConnMaxLifetime,
	}, nil
}

// authority is what a URL of several servers begins with: a user, their addresses, and what follows them.
var authority = regexp.MustCompile(`^(?:([^/?#]*)@)?([^/?#@]+)(?:/([^?#]*))?(?:\?([^#]*))?$`)

// parseMany reads what names several servers, which net/url does not.
func parseMany(kind, rest string, encrypted bool) (*redis.UniversalOptions, error) {
	parts := authority.FindStringSubmatch(rest)
	if parts == nil {
		return nil, errRedisURL
	}
	options := &redis.UniversalOptions{IsClusterMode: kind == "-cluster"}
	if user, password, _ := strings.Cut(parts[1], ":"); parts[1] != "" {
		var errUser, errPassword error
		options.Username, errUser = url.PathUnescape(user)
		options.Password, errPassword = url.PathUnescape(password)
		if errUser != nil || errPassword != nil {
			return nil, errors.New("has a user or a password that is not percent-encoded; " + errRedisURL.Error())
		}
	}
	port := sentinelPort
	if options.IsClusterMode {
		port = redisPort
	}
	for host := range strings.SplitSeq(parts[2], ",") {
		address, err := withPort(host, port)
		if err != nil {
			return nil, err
		}
		options.Addrs = append(options.Addrs, address)
	}
	if encrypted {
		options.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	query, err := url.ParseQuery(parts[4])
	if err != nil {
		return nil, errRedisURL
	}
	return options, setMany(options, parts[3], query)
}

// setMany reads what stands behind the addresses.
func setMany(options *redis.UniversalOptions, path string, query url.Values) error {
	options.MasterName = query.Get("master")
	query.Del("master")
	switch {
	case options.IsClusterMode && path != "":
		return errors.New("names a database, and a cluster has only the one; leave it out")
	case options.IsClusterMode && options.MasterName != "":
		return errors.New("names a master, which is for redis-sentinel://; leave it out")
	case !options.IsClusterMode && options.MasterName == "":
		return errors.New("does not say what the Sentinels call the master: add ?master=name, as in their `sentinel monitor name ...`")
	case len(query) > 0:
		return errors.New("has an option that is not known; there is ?master=name for Sentinels")
	case strings.ContainsAny(options.MasterName, "/?#@ "):
		return errors.New("names a master with a character that no name has; the database stands before the ?")
	case path == "":
		return nil
	}
	database, err := strconv.Atoi(path)
	if err != nil || database < 0 {
		return errors.New("names a database that is no number from 0")
	}
	options.DB = database
	return nil
}

func withPort(host, port string) (string, error) {
	address := host
	if _, _, err := net.SplitHostPort(address); err != nil {
		address = net.JoinHostPort(strings.Trim(host, "[]"), port)
	}
	name, number, err := net.SplitHostPort(address)
	if value, bad := strconv.Atoi(number); err != nil || bad != nil || value < 1 || value > 65535 || name == "" || strings.ContainsAny(name, " []") {
		return "", errors.New("has an address that is not host:port; separate several by commas")
	}
	return address, nil
}

// RedisOptions are those of a client for the file's Redis, with its passwords and certificates. The error is a
// *catalog.PathError and holds neither password nor URL.
func (f *File) RedisOptions() (*redis.UniversalOptions, error) {
	r := f.Redis
	address, field := r.URL, "url"
	if r.URLEnv != "" {
		field = "url_env"
		if address = f.env(r.URLEnv); address == "" {
			return nil, refuse(fmt.Sprintf("the environment variable %s is not set or empty; put Redis' URL there", r.URLEnv), "redis", field)
		}
	}
	options, err := ParseRedisURL(address)
	if err != nil {
		return nil, refuse(fmt.Sprintf("the environment variable %s holds no URL of Redis: it %s", r.URLEnv, err), "redis", field)
	}
	if err := f.credentials(options, field); err != nil {
		return nil, err
	}
	return options, r.Trust(options)
}

// credentials puts users and passwords into the options of the URL in a field.
func (f *File) credentials(options *redis.UniversalOptions, field string) error {
	r := f.Redis
	password, source, err := f.password("Redis'", r.PasswordEnv, r.PasswordFile, "redis")
	switch {
	case err != nil:
		return err
	case source != "" && options.Password != "":
		return refuse(fmt.Sprintf("the URL in %s has a password already; remove one of them", r.URLEnv), "redis", source)
	case source != "":
		options.Password = password
	}
	switch {
	case r.Username != "" && options.Username != "":
		return refuse(fmt.Sprintf("redis.%s names a user already; remove one of them", field), "redis", "username")
	case r.Username != "":
		options.Username = r.Username
	}
	s := r.Sentinel
	if s != (Sentinel{}) && options.MasterName == "" {
		return refuse(fmt.Sprintf("stands beside a redis.%s that names no Sentinels; remove it, or write redis-sentinel://", field), "redis", "sentinel")
	}
	options.SentinelUsername = s.Username
	options.SentinelPassword, _, err = f.password("the Sentinels'", s.PasswordEnv, s.PasswordFile, "redis", "sentinel")
	return err
}

// password reads a password, and says which field names its source; none has none.
func (f *File) password(whose, env, file string, section ...string) (password, source string, err error) {
	at := func(field string) []string { return append(slices.Clone(section), field) }
	switch {
	case env != "":
		if password = f.env(env); password == "" {
			return "", "", refuse(fmt.Sprintf("the environment variable %s is not set or empty; put %s password there", env, whose), at("password_env")...)
		}
		return password, "password_env", nil
	case file != "":
		content, err := os.ReadFile(file)
		if err != nil {
			return "", "", refuse(fmt.Sprintf("%s cannot be read: %s", file, cause(err)), at("password_file")...)
		}
		if password = strings.TrimRight(string(content), "\r\n"); password == "" {
			return "", "", refuse(fmt.Sprintf("%s is empty; put %s password there", file, whose), at("password_file")...)
		}
		return password, "password_file", nil
	}
	return "", "", nil
}

// cause is an error of a file without its name.
func cause(err error) error {
	var failed *fs.PathError
	if errors.As(err, &failed) {
		return failed.Err
	}
	return err
}

// Trust reads the certificates of the section tls into the options of a URL.
func (r Redis) Trust(options *redis.UniversalOptions) error {
	t := r.TLS
	if t == (RedisTLS{}) {
		return nil
	}
	if options.TLSConfig == nil {
		return refuse("stands beside a URL without TLS: write rediss in the place of redis", "redis", "tls")
	}
	if t.ServerName != "" {
		options.TLSConfig.ServerName = t.ServerName
	}
	if t.CAFile != "" {
		content, err := os.ReadFile(t.CAFile)
		if err != nil {
			return refuse(fmt.Sprintf("%s cannot be read: %s", t.CAFile, cause(err)), "redis", "tls", "ca_file")
		}
		options.TLSConfig.RootCAs = x509.NewCertPool()
		if !options.TLSConfig.RootCAs.AppendCertsFromPEM(content) {
			return refuse(t.CAFile+" holds no certificate in PEM", "redis", "tls", "ca_file")
		}
	}
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return refuse(fmt.Sprintf("%s and %s are no certificate with its private key: %s", t.CertFile, t.KeyFile, err), "redis", "tls", "cert_file")
		}
		options.TLSConfig.Certificates = []tls.Certificate{pair}
	}
	return nil
}

func (r Redis) validate() []error {
	var problems []error
	add := func(bad bool, problem string, path ...string) {
		if bad {
			problems = append(problems, refuse(problem, append([]string{"redis"}, path...)...))
		}
	}
	if r.URL != "" {
		if problem := redisURLProblem(r.URL); problem != "" {
			add(true, problem, "url")
		}
	}
	add(r.URL != "" && r.URLEnv != "", "stands beside url; give one of them", "url_env")
	add(r.URLEnv != "" && !envPattern.MatchString(r.URLEnv),
		"must be the name of an environment variable, such as REDIS_URL; the URL itself stands in url", "url_env")
	const passwordEnv = "must be the name of an environment variable, such as REDIS_PASSWORD; the password itself never stands in the file"
	add(r.PasswordEnv != "" && !envPattern.MatchString(r.PasswordEnv), passwordEnv, "password_env")
	add(r.PasswordEnv != "" && r.PasswordFile != "", "stands beside password_env; give one of them", "password_file")
	s := r.Sentinel
	add(s.PasswordEnv != "" && !envPattern.MatchString(s.PasswordEnv), passwordEnv, "sentinel", "password_env")
	add(s.PasswordEnv != "" && s.PasswordFile != "", "stands beside password_env; give one of them", "sentinel", "password_file")
	add((r.TLS.CertFile == "") != (r.TLS.KeyFile == ""), "needs both, cert_file and key_file, or neither", "tls")
	add(!prefixPattern.MatchString(r.Prefix), fmt.Sprintf("must be 1 to 64 characters of A-Z a-z 0-9 _ . : -, got %q", r.Prefix), "prefix")
	add(r.WaitReplicas < 0 || r.WaitReplicas > maxWaitReplicas, fmt.Sprintf("must be 0 to %d, got %d", maxWaitReplicas, r.WaitReplicas), "wait_replicas")
	add(r.WaitTimeout < minWaitTimeout || r.WaitTimeout > maxWaitTimeout, fmt.Sprintf("must be %s to %s, got %s", catalog.FormatDuration(minWaitTimeout),
		catalog.FormatDuration(maxWaitTimeout), catalog.FormatDuration(r.WaitTimeout)), "wait_timeout")
	add(!(r.MemoryLimit > 0 && r.MemoryLimit <= 1), fmt.Sprintf("must be more than 0 and at most 1, a share of Redis' maxmemory, got %v", r.MemoryLimit), "memory_limit")
	return problems
}

// redisURLProblem says what is wrong with a URL and repeats nothing of it: it may hold a password.
func redisURLProblem(raw string) string {
	options, err := ParseRedisURL(raw)
	switch {
	case err != nil:
		return err.Error()
	case options.Password != "":
		return "holds a password, and secrets never stand in the file: name its environment variable in password_env, or its file in password_file"
	}
	return ""
}
