package jobstore

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/forebay-queue/forebay/tasks"
)

// Whatever stands in the values that a worker writes, they read to the byte as encoding/json writes them. A field
// that is added to one of them is covered by itself.
func TestEncodeIsThatOfTheContract(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		encodesAlike[tasks.Attempt](t)
		encodesAlike[tasks.Result](t)
		encodesAlike[tasks.Waiting](t)
		encodesAlike[*tasks.Failure](t)
		encodesAlike[tasks.Job](t)
		encodesAlike[odd](t)
	})
}

func encodesAlike[T any](t *rapid.T) {
	var value T
	fill(t, reflect.ValueOf(&value).Elem())
	want, err := tasks.Encode(value)
	require.NoError(t, err)
	got, err := encode("write", "job-1", value)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

// odd has what the contract does not, or not yet.
type odd struct {
	Inner
	Hidden string `json:"-"`
}

// Inner has no names of its own.
type Inner struct {
	Any   any
	Bytes []byte
	Wide  float32
	Zero  time.Time `json:",omitzero"`
	Small uint8     `json:",string"`
}

// fill draws a value of any type that the contract uses.
func fill(t *rapid.T, value reflect.Value) {
	switch at := value.Addr().Interface().(type) {
	case *time.Time:
		zone := rapid.SampledFrom([]*time.Location{time.UTC, time.FixedZone("", 7200)}).Draw(t, "zone")
		*at = time.Unix(rapid.Int64Range(-1e9, 4e9).Draw(t, "second"), rapid.Int64Range(0, 999).Draw(t, "ms")*1e6).In(zone)
		return
	case *json.RawMessage:
		*at = json.RawMessage(rapid.SampledFrom([]string{"", "null", `{"a":["<b>"]}`}).Draw(t, "raw"))
		return
	}
	switch value.Kind() {
	case reflect.String:
		value.SetString(rapid.OneOf(rapid.Just(""), rapid.String(), rapid.SampledFrom([]string{
			"a\u2028b", "<&>", "\x00\x1f\x7f\b\f\n\r\t\"\\/", "\xff", "\xe2\x80", "ü \U0001f600 \ufffd",
		})).Draw(t, "text"))
	case reflect.Bool:
		value.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int, reflect.Int64:
		value.SetInt(rapid.OneOf(rapid.Just(int64(0)), rapid.Int64()).Draw(t, "int"))
	case reflect.Uint8:
		value.SetUint(uint64(rapid.Uint8().Draw(t, "byte")))
	case reflect.Float32, reflect.Float64:
		value.SetFloat(rapid.OneOf(rapid.SampledFrom([]float64{0, math.Copysign(0, -1), 1e-6, 1e-7, 1e21, 0.1}), rapid.Float64Range(-1e6, 1e6)).Draw(t, "float"))
	case reflect.Pointer:
		if rapid.Bool().Draw(t, "set") {
			value.Set(reflect.New(value.Type().Elem()))
			fill(t, value.Elem())
		}
	case reflect.Slice:
		value.Set(reflect.MakeSlice(value.Type(), rapid.IntRange(0, 2).Draw(t, "length"), 2))
		for i := range value.Len() {
			fill(t, value.Index(i))
		}
	case reflect.Map:
		value.Set(reflect.ValueOf(rapid.MapOfN(rapid.String(), rapid.String(), 0, 2).Draw(t, "map")))
	case reflect.Struct:
		for i := range value.NumField() {
			if value.Type().Field(i).IsExported() {
				fill(t, value.Field(i))
			}
		}
	case reflect.Interface:
		value.Set(reflect.ValueOf(rapid.SampledFrom([]any{"text", 1, []int{1}}).Draw(t, "any")))
	default:
		t.Fatalf("draw a %s", value.Type())
	}
}

func TestEncodeRefusesWhatIsNoJSON(t *testing.T) {
	t.Parallel()
	_, err := encode("write", "job-1", tasks.Attempt{StartedAt: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)})
	require.ErrorContains(t, err, "write job job-1: encode ")
	for _, value := range []tasks.Result{{CostUSD: math.Inf(1)}, {Response: json.RawMessage("{")}} {
		_, err := encode("write", "job-1", value)
		require.ErrorContains(t, err, "write job job-1: encode ")
	}
}

func BenchmarkEncodeAttempt(b *testing.B) {
	now := time.Now()
	attempt := tasks.Attempt{
		Seq: 1, Run: 1, Delivery: "0198c0de-0000-7000-8000-000000000000", Worker: "0198c0de-0000-7000-8000-000000000001",
		Model: "gemini-2.5-flash", Endpoint: "apac", Account: "relay", Region: "ap-northeast-1", StartedAt: now, CallDeadline: now,
		Ended: true, LatencyMS: 12, HTTPStatus: 200, Usage: &tasks.Usage{PromptTokens: 10, CompletionTokens: 20, TotalTokens: 30}, CostUSD: 0.01,
	}
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			_, _ = encodeAttempt("begin", "job-1", attempt)
		}
	})
	b.Run("contract", func(b *testing.B) {
		for b.Loop() {
			_, _ = tasks.Encode(attempt)
		}
	})
}
