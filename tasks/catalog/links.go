package catalog

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/forebay-queue/forebay/tasks"
)

// ErrLink is wrapped by what is wrong with a link to a result.
var ErrLink = errors.New("the link is not valid")

// ResultPath is the path of the HTTP interface at which a job's result is read by a link.
func ResultPath(job string) string { return "/v1/jobs/" + job + "/result" }

// ResultLink is an address at which whoever has it reads the result of a job's run, without a key, until it expires. It is
// signed with a secret that the tenant's webhooks are signed with. Empty where no public_url is configured.
func (c *Catalog) ResultLink(tenant, secret, job string, run int, now time.Time) (string, error) {
	if c.Webhooks.PublicURL == "" {
		return "", nil
	}
	keys, err := c.WebhookKeys(tenant, secret)
	if err != nil {
		return "", err
	}
	fill(&secret, tasks.DefaultSecret)
	expires := now.Add(c.Webhooks.LinkExpires).Unix()
	query := url.Values{
		"run": {strconv.Itoa(run)}, "expires": {strconv.FormatInt(expires, 10)}, "secret": {secret},
		"signature": {signLink(keys[0], tenant, job, run, expires)},
	}
	return c.Webhooks.PublicURL + ResultPath(job) + "?" + query.Encode(), nil
}

// CheckResultLink says whether a link to the result of a tenant's job is good, and which run it is of. The error wraps
// ErrLink and says what is wrong.
func (c *Catalog) CheckResultLink(tenant, job string, query url.Values, now time.Time) (run int, err error) {
	run, err = strconv.Atoi(query.Get("run"))
	expires, problem := strconv.ParseInt(query.Get("expires"), 10, 64)
	keys, unknown := c.WebhookKeys(tenant, query.Get("secret"))
	if err != nil || problem != nil || unknown != nil {
		return 0, fmt.Errorf("%w: it is not as it was sent", ErrLink)
	}
	good := false
	for _, key := range keys { // all, so that links outlive a change of the secret
		good = hmac.Equal([]byte(query.Get("signature")), []byte(signLink(key, tenant, job, run, expires))) || good
	}
	switch {
	case !good:
		return 0, fmt.Errorf("%w: it is not as it was sent", ErrLink)
	case now.Unix() > expires:
		return 0, fmt.Errorf("%w any more: it has expired; read the job with an API key, or have the webhook delivered again", ErrLink)
	}
	return run, nil
}

// signLink signs under a key that is derived from the secret, so that no link can stand for the signature of a message.
func signLink(secret, tenant, job string, run int, expires int64) string {
	derived := hmac.New(sha256.New, []byte(secret))
	derived.Write([]byte("forebay result links v1"))
	mac := hmac.New(sha256.New, derived.Sum(nil))
	fmt.Fprintf(mac, "%s\n%s\n%d\n%d", tenant, job, run, expires)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
