package batchlines

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
)

// MaxProblems is how many problems of a file are told.
const MaxProblems = 100

// Check reads a whole file: how many requests it has, and what is wrong with it, line by line and up to MaxProblems. An
// error is the reading's.
func Check(file io.Reader, endpoint string) (total int, problems []Problem, err error) {
	reader, seen := NewReader(file, endpoint), newIDs()
	for {
		line, err := reader.Next()
		var problem *Problem
		switch {
		case errors.Is(err, io.EOF):
			if total == 0 && len(problems) == 0 {
				problems = []Problem{{Code: CodeEmptyFile, Message: "The batch input file is empty. It must have at least one request."}}
			}
			return total, problems, nil
		case errors.As(err, &problem):
		case err != nil:
			return 0, nil, err
		}
		if total++; total > MaxLines {
			return total, append(problems, Problem{
				Code:    CodeTooManyTasks,
				Message: fmt.Sprintf("The batch input file has more than the %d requests that a batch may have. Send them in several batches.", MaxLines),
			}), nil
		}
		if problem == nil {
			problem = seen.add(line)
		}
		if problem != nil {
			if problems = append(problems, *problem); len(problems) == MaxProblems {
				return total, problems, nil
			}
		}
	}
}

// ids knows which custom_ids there were, by two hashes of 64 bits: of 50,000 lines two are taken for the same once in 10^29
// files.
type ids struct {
	seeds [2]maphash.Seed
	lines map[[2]uint64]int
}

func newIDs() *ids {
	return &ids{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, lines: map[[2]uint64]int{}}
}

// add reports a custom_id that an earlier line has.
func (s *ids) add(line Line) *Problem {
	hash := [2]uint64{maphash.String(s.seeds[0], line.CustomID), maphash.String(s.seeds[1], line.CustomID)}
	if first, found := s.lines[hash]; found {
		return &Problem{
			Code: CodeDuplicate, Param: fieldCustomID, Line: line.Number,
			Message: fmt.Sprintf("The custom_id %.100q of this request is that of line %d, too. It must be unique in a batch.", line.CustomID, first),
		}
	}
	s.lines[hash] = line.Number
	return nil
}
