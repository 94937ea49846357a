package gate

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// Stands tells of a call that was admitted to begin later, at the time when it is to begin, whether it may: not when the
// breaker has changed since, or the model rests on the account. One that does not stand is to be settled with Release
// and asked for anew, which says what is in its way.
func (g *Gate) Stands(ctx context.Context, admission Admission) (bool, error) {
	route := admission.Route
	var clock *redis.TimeCmd
	var generation, rests *redis.StringCmd
	_, err := g.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		clock = pipe.Time(ctx)
		generation = pipe.HGet(ctx, g.keys.Endpoint(route.Account, route.Endpoint), "generation")
		rests = pipe.HGet(ctx, g.keys.ModelLimits(route.Account, route.Model), "cooldown_until_ms")
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) { // neither needs to be there
		return false, fmt.Errorf("look at the admission of %s in Redis: %w", route, err)
	}
	stands, err := number(generation)
	if err != nil {
		return false, fmt.Errorf("look at the admission of %s: generation: %w", route, err)
	}
	until, err := number(rests)
	if err != nil {
		return false, fmt.Errorf("look at the admission of %s: cooldown: %w", route, err)
	}
	return stands == admission.Generation && until <= clock.Val().UnixMilli(), nil
}

// number reads a whole number; what is not there is 0.
func number(read *redis.StringCmd) (int64, error) {
	if read.Val() == "" {
		return 0, nil
	}
	return strconv.ParseInt(read.Val(), 10, 64)
}
