package asynqredis

import (
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/envelope"
)

// role is what a script of asynq's is to this package.
type role int

const (
	dequeue role = iota + 1
	ack
	complete // an ack that travels with others of its kind
	forward
)

// script is a script of asynq v0.26.0 that does not simply pass through.
type script struct {
	role role
	// task is the index in KEYS of the task's hash, for an ack. Its ARGV[1] is the task's id.
	task int
	// repeats says that an ack may be sent again when its outcome is unknown: it deletes or rewrites the task's
	// message, which tells whether it has worked.
	repeats bool
}

// asynqScripts are the recognised scripts of asynq v0.26.0 (internal/rdb/rdb.go) by SHA1. All others pass through.
var asynqScripts = map[string]script{
	"a8153319360adc71cdc370107f8ab9786f204765": {role: dequeue},                          // dequeueCmd
	"1241eaa1c73409baaf1fea0c08d203a4911bda15": {role: ack, task: 2, repeats: true},      // doneCmd
	"a2631c71357a54b4c3e7450b1757e7f3f49d6c81": {role: ack, task: 2, repeats: true},      // doneUniqueCmd
	"117dca952700588e559c7ace20b925096d587974": {role: complete, task: 3, repeats: true}, // markAsCompleteCmd
	"ce6833ccce362a8c0ee53beee413341daf52e39c": {role: ack, task: 3, repeats: true},      // markAsCompleteUniqueCmd
	"65fa409c88198a681c53e0892d8276eca0145694": {role: ack, task: 0, repeats: true},      // retryCmd
	"9c3b1eb9947ce2ee5304ac013a0a365ec364fd2d": {role: ack, task: 0, repeats: true},      // archiveCmd
	"f34cbfd11d1fc8019af55b50c447fc68eb8b29e5": {role: ack, task: 3, repeats: false},     // requeueCmd
	"522b1a6ae66fe79ea2f24a9af58798ab71879035": {role: forward},                          // forwardCmd
}

// recognise returns what asynq asks for with a script's SHA1; the zero script for all that passes through.
func recognise(sha string) script { return asynqScripts[sha] }

// recogniseSource is recognise for the text of a script, which asynq sends when Redis does not know its SHA1.
func recogniseSource(source string) script {
	sum := sha1.Sum([]byte(source))
	return recognise(hex.EncodeToString(sum[:]))
}

// lost reports whether an ack found that its task is no longer active.
func lost(err error) bool { return answered(err) && strings.Contains(err.Error(), "NOT FOUND") }

// answered reports whether an error is Redis's own reply. After any other error a command may have been executed
// or not.
func answered(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

// The scripts that this package adds.
var (
	//go:embed claim.lua
	claimSource string
	//go:embed complete.lua
	completeSource string
	//go:embed putback.lua
	putBackSource string
	//go:embed setaside.lua
	setAsideSource string
	//go:embed due.lua
	dueSource string
	//go:embed forward.lua
	forwardSource string

	claimScript    = redis.NewScript(claimSource)
	completeScript = redis.NewScript(completeSource)
	putBackScript  = redis.NewScript(putBackSource)
	setAsideScript = redis.NewScript(setAsideSource)
	dueScript      = redis.NewScript(dueSource)
	forwardScript  = redis.NewScript(forwardSource)
)

// keys are asynq's keys of one queue (internal/base of v0.26.0), and ours. All share the queue's hash tag.
type keys struct {
	pending, paused, active, lease, scheduled, retry, archived string
	// lanes are the queue's, by tenant.
	lanes envelope.LaneKeys
	// claim remembers the last claim of one client.
	claim string
	// tasks is the prefix of the tasks' hashes.
	tasks string
}

func newKeys(queue, token string) keys {
	prefix := "asynq:{" + queue + "}:"
	return keys{
		pending: prefix + "pending", paused: prefix + "paused", active: prefix + "active", lease: prefix + "lease",
		scheduled: prefix + "scheduled", retry: prefix + "retry", archived: prefix + "archived",
		lanes: envelope.Lanes(queue),
		claim: prefix + "forebay:claim:" + token,
		tasks: prefix + "t:",
	}
}
