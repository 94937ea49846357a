package filerun

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/forebay-queue/forebay/deploy/batchio"
	"github.com/forebay-queue/forebay/tasks"
)

const (
	planName    = "plan.jsonl"
	answersName = "answers.jsonl"
	linesName   = "lines.jsonl"
	lockName    = "lock"
	// version is that of the journal's files.
	version = 1
)

// mark is the fingerprint of what a line asks; see tasks.Fingerprint.
type mark [16]byte

// entry is a member of a batch. It is known by its place in the journal, from 0.
type entry struct {
	mark   mark
	batch  int32 // among Journal.batches
	number int32
	// limitUSD is what its calls may cost, as it was enqueued; 0 is any.
	limitUSD float64
	// size is that of its answer, which stands at a place of the answers; 0 where there is none yet.
	size   int32
	at     int64
	status tasks.Status
	cost   float64
}

func (e *entry) answered() bool { return e.size > 0 }

// Journal is what is known of a run on the disk. One process has it at a time.
type Journal struct {
	dir  string
	lock *os.File

	mu      sync.Mutex
	plan    *log
	answers *log
	batches []string
	entries []entry
	numbers []int32 // by batch: how many members it has
}

// The lines of the journal's files.
type (
	planLine struct {
		V     int    `json:"v,omitempty"`
		Batch string `json:"batch,omitempty"`
		Print string `json:"print,omitempty"`
		// Limits are those of entries that were planned before.
		Limits map[int]float64 `json:"limits,omitempty"`
	}
	answerLine struct {
		Entry  int             `json:"e"`
		Status tasks.Status    `json:"status"`
		Cost   float64         `json:"cost_usd"`
		Result json.RawMessage `json:"result"`
	}
)

// OpenJournal opens the journal in a folder, or begins one. Its error says where another process has it.
func OpenJournal(dir string) (*Journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder %s for the journal: %w", dir, err)
	}
	lock, err := lockFile(filepath.Join(dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	j := &Journal{dir: dir, lock: lock}
	if j.plan, err = openLog(filepath.Join(dir, planName), j.readPlan); err == nil {
		j.answers, err = openLog(filepath.Join(dir, answersName), j.readAnswer)
	}
	if err == nil && j.plan.size == 0 {
		if _, _, err = j.plan.add(planLine{V: version}); err == nil {
			err = errors.Join(j.plan.sync(), batchio.SyncFolder(dir), batchio.SyncFolder(filepath.Dir(dir)))
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the journal in %s: %w; restore the folder from a copy, or name another file with -o: without its journal everything is asked, and paid for, again", dir, err), j.Close())
	}
	return j, nil
}

// Close gives the journal up.
func (j *Journal) Close() error {
	var problems []error
	for _, l := range []*log{j.plan, j.answers} {
		if l != nil {
			problems = append(problems, l.close())
		}
	}
	return errors.Join(append(problems, j.lock.Close())...)
}

func (j *Journal) readPlan(text []byte, _ int64) error {
	var line planLine
	if err := json.Unmarshal(text, &line); err != nil {
		return err
	}
	switch {
	case line.V > version:
		return fmt.Errorf("it was written by a newer build (version %d); use that one", line.V)
	case line.Batch != "":
		j.enterBatch(line.Batch)
	case line.Print != "":
		var p mark
		if n, err := hex.Decode(p[:], []byte(line.Print)); err != nil || n != len(p) || len(j.batches) == 0 {
			return fmt.Errorf("the entry %d is damaged", len(j.entries))
		}
		j.enter(p)
	}
	for at, limit := range line.Limits {
		if at < 0 || at >= len(j.entries) {
			return fmt.Errorf("a limit of the entry %d is damaged", at)
		}
		j.entries[at].limitUSD = limit
	}
	return nil
}

func (j *Journal) readAnswer(text []byte, at int64) error {
	var line answerLine
	if err := json.Unmarshal(text, &line); err != nil {
		return err
	}
	if line.Entry < 0 || line.Entry >= len(j.entries) {
		return fmt.Errorf("an answer belongs to the entry %d, which the plan does not have", line.Entry)
	}
	j.entries[line.Entry].answer(line, at, len(text))
	return nil
}

func (e *entry) answer(line answerLine, at int64, size int) {
	e.at, e.size, e.status, e.cost = at, int32(size), line.Status, line.Cost
}

func (j *Journal) enterBatch(id string) {
	j.batches, j.numbers = append(j.batches, id), append(j.numbers, 0)
}

func (j *Journal) enter(p mark) int {
	batch := len(j.batches) - 1
	j.entries = append(j.entries, entry{mark: p, batch: int32(batch), number: j.numbers[batch]})
	j.numbers[batch]++
	return len(j.entries) - 1
}

// begin has further entries belong to a new batch.
func (j *Journal) begin(id string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.enterBatch(id)
	_, _, err := j.plan.add(planLine{Batch: id})
	return err
}

// add plans a member of the last batch.
func (j *Journal) add(p mark) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	at := j.enter(p)
	_, _, err := j.plan.add(planLine{Print: hex.EncodeToString(p[:])})
	return at, err
}

// limit notes what members may cost, on the disk.
func (j *Journal) limit(limits map[int]float64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for at, usd := range limits {
		j.entries[at].limitUSD = usd
	}
	_, _, err := j.plan.add(planLine{Limits: limits})
	return errors.Join(err, j.plan.sync())
}

// syncPlan has the plan on the disk.
func (j *Journal) syncPlan() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.plan.sync()
}

// ended notes what came of members, on the disk. An answer goes before an earlier one.
func (j *Journal) ended(results map[int]tasks.Result) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for at, result := range results {
		result.Attempts, result.Metadata = lastOf(result.Attempts), nil // what no output has
		text, err := tasks.Encode(result)
		if err != nil {
			return fmt.Errorf("write the answer of job %s: %w", result.ID, err)
		}
		line := answerLine{Entry: at, Status: result.Status, Cost: result.CostUSD, Result: text}
		place, size, err := j.answers.add(line)
		if err != nil {
			return err
		}
		j.entries[at].answer(line, place, size)
	}
	return j.answers.sync()
}

func lastOf(attempts []tasks.Attempt) []tasks.Attempt {
	if len(attempts) == 0 {
		return nil
	}
	return attempts[len(attempts)-1:]
}

// result reads an answer.
func (j *Journal) result(at int) (tasks.Result, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var result tasks.Result
	e := &j.entries[at]
	text, err := j.answers.readAt(e.at, int(e.size))
	if err == nil {
		var line answerLine
		if err = json.Unmarshal(text, &line); err == nil {
			err = json.Unmarshal(line.Result, &result)
		}
	}
	if err != nil {
		return result, fmt.Errorf("read the answer of entry %d from the journal in %s: %w", at, j.dir, err)
	}
	return result, nil
}

// entry returns a copy.
func (j *Journal) entry(at int) entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.entries[at]
}

// id is that of an entry's job.
func (j *Journal) id(at int) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := &j.entries[at]
	return memberID(j.batches[e.batch], int(e.number))
}
