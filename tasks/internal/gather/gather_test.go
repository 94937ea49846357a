package gather

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Two questions may be out. Who comes meanwhile asks with the others, but never too many at once.
func TestWhoComesMeanwhileAsksTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var sizes []int
		release := make(chan struct{})
		group := New(6, func(subject string, questions []int) ([]int, error) {
			mu.Lock()
			sizes = append(sizes, len(questions))
			mu.Unlock()
			if subject == "a" {
				<-release
			}
			answers := make([]int, len(questions))
			for i, question := range questions {
				answers[i] = 2 * question
			}
			return answers, nil
		})
		var callers sync.WaitGroup
		ask := func(question int) {
			callers.Go(func() {
				answer, err := group.Ask("a", question)
				assert.NoError(t, err)
				assert.Equal(t, 2*question, answer)
			})
			synctest.Wait()
		}
		for i := range 11 {
			ask(i)
		}
		require.Equal(t, []int{1, 1}, sizes)
		answer, err := group.Ask("b", 5)
		require.NoError(t, err)
		assert.Equal(t, 10, answer, "another subject does not wait")
		close(release)
		callers.Wait()
		require.ElementsMatch(t, []int{1, 1, 1, 6, 3}, sizes)
	})
}

func TestAnErrorIsThatOfAll(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	group := New(2, func(string, []int) ([]int, error) { return nil, broken })
	for range 3 {
		_, err := group.Ask("a", 1)
		require.ErrorIs(t, err, broken)
	}
}

// A goroutine for one question would cost as much as the question.
func TestWhoIsAloneAsksHimself(t *testing.T) {
	t.Parallel()
	group := New(2, func(string, []int) ([]int, error) { panic("here") })
	assert.PanicsWithValue(t, "here", func() { _, _ = group.Ask("a", 1) })
}
