package apikeys_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/forebay-queue/forebay/tasks/apikeys"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var keys = keyspace.New("")

func openBook(t *testing.T, client redis.UniversalClient) *apikeys.Book {
	t.Helper()
	book, err := apikeys.OpenBook(t.Context(), client, keys)
	require.NoError(t, err)
	t.Cleanup(book.Close)
	return book
}

func TestKeys(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) redis.UniversalClient{
		"embedded": func(t *testing.T) redis.UniversalClient { client, _ := redistest.Embedded(t); return client },
		"real":     func(t *testing.T) redis.UniversalClient { client, _ := redistest.Real(t); return client },
		"cluster":  func(t *testing.T) redis.UniversalClient { client, _ := redistest.Cluster(t); return client },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, client := t.Context(), start(t)
			store, book := apikeys.New(client, keys), openBook(t, client)
			known, err := book.Any()
			require.NoError(t, err)
			require.False(t, known)

			in := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
			acme, text, err := store.Create(ctx, apikeys.Key{Tenant: "acme", Write: true, Name: "the crawler's", ExpiresAt: &in})
			require.NoError(t, err)
			require.Regexp(t, `^fbk_[a-z2-7]{16}_[a-z2-7]{59}$`, text)
			require.True(t, apikeys.ValidID(acme.ID))
			operator, operatorText, err := store.Create(ctx, apikeys.Key{Operator: true})
			require.NoError(t, err)

			// Every Book hears of it long before it looks by itself.
			require.Eventually(t, func() bool {
				found, err := book.Verify(operatorText)
				return err == nil && assert.ObjectsAreEqual(operator, found)
			}, 10*time.Second, time.Millisecond)
			found, err := book.Verify(text)
			require.NoError(t, err)
			require.Equal(t, acme, found)
			found, err = book.Find(acme.ID)
			require.NoError(t, err)
			require.Equal(t, acme, found)
			list, err := store.List(ctx)
			require.NoError(t, err)
			require.ElementsMatch(t, []apikeys.Key{acme, operator}, list)

			for _, wrong := range []string{
				"", "fbk_", "sk-proj-0123456789", text[:len(text)-1], text + "a", strings.ToUpper(text), " " + text,
				text[:25] + otherLetter(text[25]) + text[26:], strings.Replace(text, acme.ID, operator.ID, 1), strings.Repeat("x", 1<<20),
			} {
				_, err := book.Verify(wrong)
				require.ErrorIs(t, err, apikeys.ErrUnknown, "%.100q", wrong)
			}
			_, otherText, err := apikeys.New(client, keyspace.New("other:")).Create(ctx, apikeys.Key{Operator: true})
			require.NoError(t, err)
			require.NoError(t, book.Refresh(ctx))
			_, err = book.Verify(otherText)
			require.ErrorIs(t, err, apikeys.ErrUnknown, "a key of another deployment")

			revoked, err := store.Revoke(ctx, acme.ID)
			require.NoError(t, err)
			require.True(t, revoked)
			require.Eventually(t, func() bool { _, err := book.Verify(text); return err != nil }, 10*time.Second, time.Millisecond)
			_, err = book.Find(acme.ID)
			require.ErrorIs(t, err, apikeys.ErrUnknown)
			revoked, err = store.Revoke(ctx, acme.ID)
			require.NoError(t, err)
			require.False(t, revoked, "there is none any more")
		})
	}
}

func otherLetter(letter byte) string {
	if letter == 'a' {
		return "b"
	}
	return "a"
}

// Who reads Redis finds no key's text in it.
func TestTheSecretIsNotKept(t *testing.T) {
	t.Parallel()
	client, server := redistest.Embedded(t)
	key, text, err := apikeys.New(client, keys).Create(t.Context(), apikeys.Key{Tenant: "acme"})
	require.NoError(t, err)
	secret := strings.TrimPrefix(text, "fbk_"+key.ID+"_")
	dump := server.Dump()
	require.Contains(t, dump, key.ID)
	for part := range len(secret) - 8 {
		require.NotContains(t, dump, secret[part:part+8])
	}
}

func TestKeysThatCannotBe(t *testing.T) {
	t.Parallel()
	client, server := redistest.Embedded(t)
	past := time.Now().Add(-time.Hour)
	for want, key := range map[string]apikeys.Key{
		"the tenant of a key":         {},
		`got "a b"`:                   {Tenant: "a b"},
		"not both":                    {Tenant: "acme", Operator: true},
		"a text of one line":          {Tenant: "acme", Name: "a\nb"},
		"up to 100 characters":        {Tenant: "acme", Name: strings.Repeat("ü", 101)},
		"expired before it is made":   {Tenant: "acme", ExpiresAt: &past},
		"must be a text of one line,": {Tenant: "acme", Name: "\xff"},
	} {
		_, text, err := apikeys.New(client, keys).Create(t.Context(), key)
		require.ErrorContains(t, err, want)
		require.Empty(t, text)
	}
	require.False(t, server.Exists(keys.Keys()), "nothing is written")
}

// What somebody else wrote into the hash lets nobody in, and opens no door by its being no key.
func TestWhatIsNoKey(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Embedded(t)
	ctx, store := t.Context(), apikeys.New(client, keys)
	good, text, err := store.Create(ctx, apikeys.Key{Operator: true, Write: true})
	require.NoError(t, err)
	value := client.HGet(ctx, keys.Keys(), good.ID).Val()
	_, digest, _ := strings.Cut(value, `"hash":"`)
	for id, bad := range map[string]string{
		"aaaaaaaaaaaaaaaa": "not JSON",
		"bbbbbbbbbbbbbbbb": value, // another's
		"cccccccccccccccc": `{"id":"cccccccccccccccc","operator":true}`,
		"dddddddddddddddd": `{"id":"dddddddddddddddd","hash":"00","operator":true}`,
		"eeeeeeeeeeeeeeee": `{"id":"eeeeeeeeeeeeeeee","hash":"` + digest[:64] + `"}`,
	} {
		require.NoError(t, client.HSet(ctx, keys.Keys(), id, bad).Err())
	}
	list, err := store.List(ctx)
	require.Equal(t, []apikeys.Key{good}, list)
	require.ErrorContains(t, err, `"aaaaaaaaaaaaaaaa" cannot be read; revoke it`)
	require.ErrorContains(t, err, `"eeeeeeeeeeeeeeee"`)
	require.NotContains(t, err.Error(), digest[:64])
	book := openBook(t, client)
	_, err = book.Verify(text)
	require.NoError(t, err)
	_, err = book.Find("bbbbbbbbbbbbbbbb")
	require.ErrorIs(t, err, apikeys.ErrUnknown)

	_, err = store.Revoke(ctx, good.ID)
	require.NoError(t, err)
	require.NoError(t, book.Refresh(ctx))
	known, err := book.Any()
	require.NoError(t, err)
	require.True(t, known)
}

// With every message lost, a revocation holds within seconds; with Redis away, so does doubt.
func TestABookByTheClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, server := redistest.InBubble(t)
		ctx, store := t.Context(), apikeys.New(client, keys)
		in := time.Now().Add(10 * time.Minute)
		brief, briefText, err := store.Create(ctx, apikeys.Key{Tenant: "acme", ExpiresAt: &in})
		require.NoError(t, err)
		key, text, err := store.Create(ctx, apikeys.Key{Tenant: "acme"})
		require.NoError(t, err)
		book, err := apikeys.OpenBook(ctx, client, keys)
		require.NoError(t, err)
		defer book.Close()

		require.NoError(t, client.HDel(ctx, keys.Keys(), key.ID).Err()) // told to nobody
		_, err = book.Verify(text)
		require.NoError(t, err, "the copy is not asked anew for each request")
		time.Sleep(apikeys.ReadEvery + time.Millisecond)
		synctest.Wait()
		_, err = book.Verify(text)
		require.ErrorIs(t, err, apikeys.ErrUnknown)

		_, err = book.Verify(briefText)
		require.NoError(t, err)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		_, err = book.Verify(briefText)
		require.ErrorIs(t, err, apikeys.ErrExpired)
		_, err = book.Find(brief.ID)
		require.ErrorIs(t, err, apikeys.ErrExpired)
		known, err := book.Any()
		require.NoError(t, err)
		require.True(t, known, "one that has expired is still one")

		server.SetError("LOADING for the test")
		time.Sleep(apikeys.StaleAfter + apikeys.ReadEvery + time.Second)
		synctest.Wait()
		for _, text := range []string{text, briefText} {
			_, err = book.Verify(text)
			require.ErrorIs(t, err, apikeys.ErrStale)
		}
		_, err = book.Find(brief.ID)
		require.ErrorIs(t, err, apikeys.ErrStale)
		_, err = book.Any()
		require.ErrorIs(t, err, apikeys.ErrStale)
		server.SetError("")
		time.Sleep(apikeys.ReadEvery)
		synctest.Wait()
		_, err = book.Verify(text)
		require.ErrorIs(t, err, apikeys.ErrUnknown, "it goes on when Redis is back")
	})
}

// Neither a good key nor a guess costs a round trip.
func TestVerifyingAsksNobody(t *testing.T) {
	t.Parallel()
	client, server := redistest.Embedded(t)
	_, text, err := apikeys.New(client, keys).Create(t.Context(), apikeys.Key{Tenant: "acme"})
	require.NoError(t, err)
	book := openBook(t, client)
	before := server.CommandCount()
	for range 10_000 {
		for _, presented := range []string{text, "fbk_guess", strings.Replace(text, "fbk_", "fbk_x", 1)} {
			_, _ = book.Verify(presented)
		}
	}
	require.Less(t, server.CommandCount()-before, 100, "the Book's own reading")
}

func BenchmarkVerify(b *testing.B) {
	client, _ := redistest.Embedded(b)
	_, text, err := apikeys.New(client, keys).Create(b.Context(), apikeys.Key{Tenant: "acme"})
	require.NoError(b, err)
	book, err := apikeys.OpenBook(b.Context(), client, keys)
	require.NoError(b, err)
	b.Cleanup(book.Close)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = book.Verify(text)
	}
}
