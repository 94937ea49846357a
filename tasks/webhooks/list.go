package webhooks

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/seal"
)

const (
	// MaxListLimit is how many webhooks a List has at most.
	MaxListLimit = 1000
	// defaultListLimit is how many it has that does not say.
	defaultListLimit = 100
	// listPart is how many records are read in one round trip, listMost how many in one List.
	listPart, listMost = 200, 10_000
	// goneAfter is how old an entry of a list is, at least, that has no record because it has no more.
	goneAfter = time.Minute
)

// Filter says which webhooks are listed. An empty field is any.
type Filter struct {
	Tenant string
	State  State
	Event  string
	Job    string
	Batch  string
	// Reason is why a webhook is dead.
	Reason string
	// Target is a host, an origin such as https://example.com:443, or a URL.
	Target string
	// Before and Since bound when what the webhooks tell of happened.
	Since, Before time.Time
	// After is the Next of the page before.
	After string
	// Limit is how many are listed. Defaults to 100, and is at most MaxListLimit.
	Limit int
}

// Page is a part of a list of webhooks, the newest first.
type Page struct {
	Webhooks []*Record
	// Next is where the list goes on; empty at its end. A page may be short, or empty, and have a Next all the same: no
	// more than 10,000 records are looked at for one.
	Next string
}

// List lists webhooks, the newest first.
func (s *Store) List(ctx context.Context, filter Filter) (Page, error) {
	if filter.Limit == 0 {
		filter.Limit = defaultListLimit
	}
	limit := max(1, min(filter.Limit, MaxListLimit))
	place, err := parsePlace(filter.After)
	if err != nil {
		return Page{}, err
	}
	list := ""
	if filter.State != "" {
		list = filter.State.list()
	}
	page := Page{}
	for looked := 0; looked < listMost; looked += listPart {
		entries, err := s.behind(ctx, s.keys.Webhooks(list, filter.Tenant), place, filter)
		if err != nil {
			return Page{}, err
		}
		found, err := s.readAll(ctx, entries, filter.Tenant)
		if err != nil {
			return Page{}, err
		}
		for i, record := range found {
			place = &entries[i]
			if record == nil || !filter.matches(record) {
				continue
			}
			if page.Webhooks = append(page.Webhooks, record); len(page.Webhooks) == limit {
				page.Next = placeText(*place)
				return page, nil
			}
		}
		if len(entries) < listPart {
			return page, nil
		}
	}
	page.Next = placeText(*place)
	return page, nil
}

// behind reads the entries of a list that follow a place; nil is its beginning.
func (s *Store) behind(ctx context.Context, key string, place *redis.Z, filter Filter) ([]redis.Z, error) {
	from, to := "+inf", "-inf"
	if !filter.Before.IsZero() {
		from = "(" + strconv.FormatInt(filter.Before.UnixMilli(), 10)
	}
	if !filter.Since.IsZero() {
		to = strconv.FormatInt(filter.Since.UnixMilli(), 10)
	}
	if place != nil {
		from = strconv.FormatFloat(place.Score, 'f', -1, 64)
	}
	var list []redis.Z
	// Those of the place's own millisecond that stand before it are passed over.
	for offset := int64(0); len(list) < listPart; offset += listPart {
		entries, err := s.redis.ZRevRangeByScoreWithScores(ctx, key, &redis.ZRangeBy{
			Max: from, Min: to, Offset: offset, Count: listPart,
		}).Result()
		if err != nil {
			return nil, fmt.Errorf("list the webhooks: %w", err)
		}
		for _, entry := range entries {
			if place == nil || entry.Score < place.Score || fmt.Sprint(entry.Member) < fmt.Sprint(place.Member) {
				list = append(list, entry)
			}
		}
		if len(entries) < listPart {
			break
		}
	}
	return list[:min(len(list), listPart)], nil
}

// readAll reads the records of entries, in one round trip: nil where there is none. Entries whose records have expired
// are taken out of the lists.
func (s *Store) readAll(ctx context.Context, entries []redis.Z, tenant string) ([]*Record, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	pipe := s.redis.Pipeline()
	reads := make([]*redis.MapStringStringCmd, len(entries))
	for i, entry := range entries {
		reads[i] = pipe.HGetAll(ctx, s.keys.Webhook(fmt.Sprint(entry.Member)))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("read %d webhooks: %w", len(entries), err)
	}
	records := make([]*Record, len(entries))
	var gone []any
	for i, entry := range entries {
		fields := reads[i].Val()
		if fields["state"] == "" {
			if time.Since(time.UnixMilli(int64(entry.Score))) > goneAfter {
				gone = append(gone, entry.Member)
			}
			continue
		}
		record, err := s.parse(fmt.Sprint(entry.Member), fields)
		if err != nil && !errors.Is(err, seal.ErrUnreadable) { // one that cannot be opened is listed without its address
			return nil, err
		}
		records[i] = record
	}
	return records, s.forget(ctx, tenant, gone)
}

// forget takes webhooks that are known no longer out of the lists of everybody and of a tenant.
func (s *Store) forget(ctx context.Context, tenant string, ids []any) error {
	if len(ids) == 0 {
		return nil
	}
	pipe := s.redis.Pipeline()
	for _, list := range []string{"", "pending", "dead", "ended"} {
		pipe.ZRem(ctx, s.keys.Webhooks(list, ""), ids...)
		if tenant != "" {
			pipe.ZRem(ctx, s.keys.Webhooks(list, tenant), ids...)
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("take webhooks that are known no longer out of the lists: %w", err)
	}
	return nil
}

// Sweep takes up to so many webhooks out of the lists whose records have expired, and tells how many there were.
func (s *Store) Sweep(ctx context.Context, most int) (int, error) {
	now := strconv.FormatInt(time.Now().UnixMilli(), 10)
	entries, err := s.redis.ZRangeByScore(ctx, s.keys.WebhooksExpiring(), &redis.ZRangeBy{Min: "-inf", Max: now, Count: int64(most)}).Result()
	if err != nil {
		return 0, fmt.Errorf("list the webhooks that expire: %w", err)
	}
	byTenant := map[string][]any{}
	for _, entry := range entries {
		tenant, id, _ := strings.Cut(entry, "/")
		byTenant[tenant] = append(byTenant[tenant], id)
	}
	for tenant, ids := range byTenant {
		if err := s.forget(ctx, tenant, ids); err != nil {
			return 0, err
		}
	}
	for _, entry := range entries {
		if err := s.redis.ZRem(ctx, s.keys.WebhooksExpiring(), entry).Err(); err != nil {
			return 0, fmt.Errorf("take a webhook out of those that expire: %w", err)
		}
	}
	return len(entries), nil
}

// Count is how many webhooks of a tenant, or of all with an empty one, are in a state, Pending or Dead, and since when
// the oldest; zero when there is none.
func (s *Store) Count(ctx context.Context, state State, tenant string) (count int64, oldest time.Time, err error) {
	key := s.keys.Webhooks(state.list(), tenant)
	pipe := s.redis.Pipeline()
	size, first := pipe.ZCard(ctx, key), pipe.ZRangeWithScores(ctx, key, 0, 0)
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, time.Time{}, fmt.Errorf("count the webhooks that are %s: %w", state, err)
	}
	if entries := first.Val(); len(entries) > 0 {
		oldest = time.UnixMilli(int64(entries[0].Score)).UTC()
	}
	return size.Val(), oldest, nil
}

func (f Filter) matches(r *Record) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	return is(string(f.State), string(r.State)) && is(f.Event, r.Event) && is(f.Job, r.Job) && is(f.Batch, r.Batch) &&
		is(f.Reason, r.Reason) && is(f.Tenant, r.Tenant) && (f.Target == "" || atTarget(f.Target, r.To.URL))
}

// atTarget tells whether a URL is what somebody calls by a URL, an origin, or a host.
func atTarget(target, address string) bool {
	if target == address || strings.EqualFold(target, Host(address)) {
		return true
	}
	origin, err := Origin(address)
	return err == nil && strings.EqualFold(strings.TrimSuffix(target, "/"), origin)
}

// placeText and parsePlace write and read a place in a list: "<score>.<id>".
func placeText(place redis.Z) string {
	return strconv.FormatFloat(place.Score, 'f', -1, 64) + "." + fmt.Sprint(place.Member)
}

func parsePlace(text string) (*redis.Z, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // no place is the beginning
	}
	score, id, found := strings.Cut(text, ".")
	at, err := strconv.ParseInt(score, 10, 64)
	if !found || err != nil || id == "" {
		return nil, errors.Join(ErrCursor)
	}
	return &redis.Z{Score: float64(at), Member: id}, nil
}
