package tasks

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// Fingerprint is the hash of what the job asks for: the models, the prompt and the kind, for whom, and where the answer
// goes - not when, how urgently or how often. Two jobs with one id and one fingerprint are the same job. It is taken from
// the job as its user wrote it, before a template is rendered, so that a changed template makes no conflict.
// The request counts without its white space.
func Fingerprint(job Job) (string, error) {
	asked := Job{
		TaskType: job.TaskType, Model: job.Model, Profile: job.Profile, Tier: job.Tier,
		Input: job.Input, Kind: job.Kind, Tenant: job.Tenant, Webhook: job.Webhook, ReplyStream: job.ReplyStream,
	}
	if len(job.Request) > 0 {
		var compact bytes.Buffer
		if err := json.Compact(&compact, job.Request); err != nil {
			return "", err
		}
		asked.Request = compact.Bytes()
	}
	encoded, err := Encode(asked)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(encoded)
	return hex.EncodeToString(sum[:16]), nil
}
