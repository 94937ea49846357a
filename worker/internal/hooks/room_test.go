package hooks

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestARoomLeavesPlacesForOthers(t *testing.T) {
	t.Parallel()
	room := NewRoom(4)
	require.Equal(t, []int{1, 2, 0}, []int{room.Enter("a"), room.Enter("a"), room.Enter("a")}, "half of them are one target's")
	require.Equal(t, []int{1, 2}, []int{room.Enter("b"), room.Enter("b")})
	require.Zero(t, room.Enter("c"))
	room.Leave("a")
	require.Equal(t, 1, room.Enter("c"))
	room.Leave("a")
	require.NotContains(t, room.by, "a")
}
