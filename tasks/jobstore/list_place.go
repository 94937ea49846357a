package jobstore

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"github.com/forebay-queue/forebay/tasks"
)

// stage is a part of a list that has an order of its own.
type stage string

// The stages, in their order.
const (
	stageOpen  stage = "o"
	stageEnded stage = "e"
	// stageMembers is all of a list of the members of a batch.
	stageMembers stage = "m"
)

// sets are those of the index whose jobs a stage lists.
func (s stage) sets(filter Filter) []string {
	if s == stageOpen {
		return []string{indexOpen}
	}
	var sets []string
	if filter.means(tasks.StatusFailed) {
		sets = append(sets, indexDead)
	}
	if filter.means(tasks.StatusSucceeded) || filter.means(tasks.StatusCancelled) || filter.means(tasks.StatusExpired) {
		sets = append(sets, indexEnded)
	}
	return sets
}

// stages are those that a filter needs.
func (f Filter) stages() []stage {
	if f.Batch != "" {
		return []stage{stageMembers}
	}
	var stages []stage
	if f.means(tasks.StatusQueued) || f.means(tasks.StatusRunning) || f.means(tasks.StatusRetrying) {
		stages = append(stages, stageOpen)
	}
	if len(stageEnded.sets(f)) > 0 {
		stages = append(stages, stageEnded)
	}
	return stages
}

// place is one in a list: behind the job of that score and id. All sets together have one order, the highest score
// first and of one score the greatest id, so that one place says for each of them what is still to come, whatever has
// been added or taken away since.
type place struct {
	stage stage
	score int64
	id    string
}

// beginning is before every score.
const beginning = 1 << 53

// cursor writes a place as users carry it around.
func (p place) cursor() string {
	return base64.RawURLEncoding.EncodeToString([]byte(string(p.stage) + strconv.FormatInt(p.score, 10) + "." + p.id))
}

// parseCursor reads a place in a list of the given stages. An empty one is the beginning.
func parseCursor(cursor string, stages []stage) (place, error) {
	if cursor == "" {
		return place{stage: stages[0], score: beginning}, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil && len(text) > 1 {
		score, id, found := strings.Cut(string(text[1:]), ".")
		p := place{stage: stage(text[:1]), id: id}
		p.score, err = strconv.ParseInt(score, 10, 64)
		if found && err == nil && p.cursor() == cursor && (id == "" || tasks.ValidID(id)) && slices.Contains(stages, p.stage) {
			return p, nil
		}
	}
	return place{}, errCursor()
}

func errCursor() error {
	return &tasks.FieldError{Field: "cursor", Problem: "is none of this list; take the `next` of the page before, or leave it out to begin"}
}
