package command

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"

	"github.com/redis/go-redis/v9"
)

// redisProblem is an error less the address, which stands beside it, and less what only Redis' own scripts say.
func redisProblem(err error) error {
	var network *net.OpError
	var name *net.DNSError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %s", redisTimeout)
	case strings.Contains(err.Error(), "all sentinels specified") && strings.Contains(err.Error(), "redis: nil"):
		return errors.New("no Sentinel knows a master of that name")
	case errors.Is(err, io.EOF):
		return errors.New("it closed the connection without a word")
	case strings.HasPrefix(err.Error(), "redis: can't parse"):
		return errors.New("what answers there is not Redis")
	case errors.As(err, &name):
		return errors.New(name.Err)
	case errors.As(err, &network):
		return network.Err
	}
	return err
}

// redisRemedy is what to do when Redis cannot be reached. It is one clause, without a semicolon.
func redisRemedy(options *redis.UniversalOptions, err error) string {
	other := fmt.Sprintf("name another with --%s or %s", flagRedis, envRedis)
	var name *net.DNSError
	var refused redis.Error
	text := err.Error()
	switch {
	case redis.IsAuthError(err):
		return fmt.Sprintf("give its user and password in the URL of %s or, for the configuration's own redis.url, by password_env", envRedis)
	case strings.Contains(text, "DB index is out of range"):
		return fmt.Sprintf("choose a database that it has, such as %s/0, or raise its setting `databases`", options.Addrs[0])
	case strings.Contains(text, "cluster support disabled"):
		return "write redis:// instead of redis-cluster://"
	case options.MasterName != "" && strings.Contains(text, "sentinel"):
		return fmt.Sprintf("check the Sentinels' addresses, and that they watch a master of the name %s (SENTINEL MASTERS lists them)", options.MasterName)
	case errors.As(err, &refused) && remedyOf(text) != "":
		return remedyOf(text)
	case errors.As(err, new(tls.RecordHeaderError)):
		return "there is no TLS there, so write redis:// instead of rediss://, or check host and port"
	case errors.As(err, new(x509.HostnameError)):
		return "name Redis by a name that its certificate has, or put that name into redis.tls.server_name"
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return "check the host's name and its certificate, whose authority must be in redis.tls.ca_file, or known to this machine"
	case strings.Contains(text, "tls: ") && len(options.TLSConfig.Certificates) == 0:
		return "it wants a certificate of its clients, so name one in redis.tls.cert_file and key_file"
	case strings.Contains(text, "tls: "):
		return "it does not take our certificate, so give it in redis.tls.cert_file one that its authority (tls-ca-cert-file) has signed and that has not expired"
	case strings.HasPrefix(text, "redis: can't parse"):
		return "check host and port, or " + other
	case errors.Is(err, io.EOF):
		return "check host and port, and write rediss:// instead of redis:// if it wants TLS"
	case errors.As(err, &name):
		return "check the host's name, or " + other
	case errors.Is(err, context.DeadlineExceeded) && options.TLSConfig != nil:
		return "write redis:// instead of rediss:// if there is no TLS there, or check host, port and firewall"
	case errors.Is(err, context.DeadlineExceeded):
		return "check host, port and firewall, or " + other
	}
	return "start it there, or " + other
}

// remedies are what to do about errors of Redis, by their first word.
var remedies = map[string]string{
	"OOM":         "Redis is full, so raise its maxmemory, or shorten retentions and wait",
	"MISCONF":     "Redis cannot write to its disk, so look into its log and free some space",
	"MOVED":       "this Redis is a node of a cluster, so write redis-cluster:// in the place of redis://",
	"CLUSTERDOWN": "a part of the cluster has no master, so look at CLUSTER NODES and wait for its failover",
	"READONLY":    "this Redis is a replica, so name its primary",
	"LOADING":     "Redis still loads its data, so try again in a moment",
	"NOPERM":      "allow this user the command and the keys in Redis' ACL",
	"WRONGTYPE":   "something else writes under the same prefix, so choose another redis.prefix or clear that one",
}

// remedyOf is the remedy for an error as Redis writes it, or "".
func remedyOf(text string) string {
	word, _, _ := strings.Cut(text, " ")
	return remedies[word]
}

// scriptNoise is what Redis says of the script in which an error came up: its hash and line, which help nobody but
// its author.
var scriptNoise = regexp.MustCompile(`\.? ?script: [0-9a-f]{40}, on @?user_script:\d+\.?` +
	`|Error running script \(call to f_[0-9a-f]{40}\): |@?user_script: ?\d+: `)

// withoutScripts takes the hashes and lines of scripts out of an error's text, and adds what to do about an error of
// Redis.
func withoutScripts(err error) string {
	short := strings.ReplaceAll(scriptNoise.ReplaceAllString(err.Error(), ""), ".; ", "; ")
	var refused redis.Error
	if !errors.As(err, &refused) {
		return short
	}
	remedy := remedyOf(strings.TrimPrefix(scriptNoise.ReplaceAllString(refused.Error(), ""), "ERR "))
	if remedy == "" || strings.Contains(short, remedy) {
		return short
	}
	return strings.TrimRight(short, ".\n") + "; " + remedy
}
