package catalog

import (
	"cmp"
	"slices"
)

// Order lists the endpoints that serve a model in the order in which they are asked: those that are not behind, then
// those that are, each by priority and name. The list must not be changed.
func (c *Catalog) Order(model string, behind func(endpoint string) bool) []*Endpoint {
	serving := c.EndpointsFor(model)
	rank := func(e *Endpoint) int {
		if behind(e.Name) {
			return 1
		}
		return 0
	}
	byRank := func(a, b *Endpoint) int { return cmp.Compare(rank(a), rank(b)) }
	if slices.IsSortedFunc(serving, byRank) {
		return serving
	}
	order := slices.Clone(serving)
	slices.SortStableFunc(order, byRank)
	return order
}
