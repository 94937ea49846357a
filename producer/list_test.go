package producer_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
)

func TestListAndGroup(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		for _, id := range []string{"a", "b", "c"} {
			_, err := b.Enqueue(t.Context(), summary(id))
			require.NoError(t, err)
		}
		b.work(t, "b", tasks.StatusSucceeded)
		page, err := b.List(t.Context(), producer.Filter{Statuses: []tasks.Status{tasks.StatusQueued}}, "", 1)
		require.NoError(t, err)
		require.Len(t, page.Jobs, 1)
		page, err = b.List(t.Context(), producer.Filter{Statuses: []tasks.Status{tasks.StatusQueued}}, page.Next, 1)
		require.NoError(t, err)
		require.Len(t, page.Jobs, 1)
		require.Empty(t, page.Next)
		groups, err := b.Group(t.Context(), producer.Filter{}, "status")
		require.NoError(t, err)
		require.Equal(t, "queued", groups.Groups[0].Key)
		require.Equal(t, 2, groups.Groups[0].Jobs)
		_, err = b.Group(t.Context(), producer.Filter{}, "colour")
		require.ErrorIs(t, err, tasks.ErrInvalidJob)
	})
}
