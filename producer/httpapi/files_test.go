package httpapi_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer/internal/openaitest"
)

// fileObject is a file as a client reads it.
type fileObject struct {
	ID, Object, Filename, Purpose, Status string
	Bytes                                 int64
	CreatedAt                             int64 `json:"created_at"`
	ExpiresAt                             int64 `json:"expires_at"`
}

// form writes a form of pairs of names and values; a file's value begins with the file's name and a colon.
func form(t testing.TB, pairs ...string) (body, contentType string) {
	t.Helper()
	var text bytes.Buffer
	w := multipart.NewWriter(&text)
	for i := 0; i < len(pairs); i += 2 {
		if name, content, found := strings.Cut(pairs[i+1], ":"); pairs[i] == "file" && found {
			part, err := w.CreateFormFile("file", name)
			require.NoError(t, err)
			_, _ = io.WriteString(part, content)
			continue
		}
		require.NoError(t, w.WriteField(pairs[i], pairs[i+1]))
	}
	require.NoError(t, w.Close())
	return text.String(), w.FormDataContentType()
}

func (b bundle) upload(pairs []string, headers ...string) *httptest.ResponseRecorder {
	b.t.Helper()
	body, contentType := form(b.t, pairs...)
	return b.ask("POST", "/v1/files", body, append([]string{"Content-Type", contentType}, headers...)...)
}

func (b bundle) uploaded(text string, headers ...string) fileObject {
	b.t.Helper()
	answer := b.upload([]string{"purpose", "batch", "file", "in.jsonl:" + text}, headers...)
	require.Equal(b.t, 200, answer.Code, answer.Body)
	return decoded[fileObject](b.t, answer)
}

func decoded[T any](t testing.TB, answer *httptest.ResponseRecorder) T {
	t.Helper()
	var value T
	require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &value), answer.Body)
	return value
}

func TestFilesComeAndGo(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	const text = "{\"a\": 1}\r\n{\"b\": \"\u00e9\"}"
	// The parts come in any order.
	for _, pairs := range [][]string{
		{"purpose", "batch", "file", "in.jsonl:" + text},
		{"file", "in.jsonl:" + text, "purpose", "batch", "expires_after[seconds]", "3600", "expires_after[anchor]", "created_at"},
	} {
		answer := b.upload(pairs)
		require.Equal(t, 200, answer.Code, answer.Body)
		file := decoded[fileObject](t, answer)
		require.Equal(t, fileObject{
			ID: file.ID, Object: "file", Filename: "in.jsonl", Purpose: "batch", Status: "processed", Bytes: int64(len(text)),
			CreatedAt: file.CreatedAt, ExpiresAt: file.ExpiresAt,
		}, file)
		require.InDelta(t, time.Now().Unix(), file.CreatedAt, 60)
		keep := int64(30 * 24 * 3600)
		if len(pairs) > 4 {
			keep = 3600
		}
		require.Equal(t, keep, file.ExpiresAt-file.CreatedAt)
		read := b.ask("GET", "/v1/files/"+file.ID, "")
		require.JSONEq(t, answer.Body.String(), read.Body.String())
		got := b.ask("GET", "/v1/files/"+file.ID+"/content", "")
		require.Equal(t, text, got.Body.String()) //nolint:testifylint // byte for byte
		require.Equal(t, `attachment; filename=in.jsonl`, got.Header().Get("Content-Disposition"))
		part := b.ask("GET", "/v1/files/"+file.ID+"/content", "", "Range", "bytes=2-4")
		require.Equal(t, 206, part.Code)
		require.Equal(t, text[2:5], part.Body.String())
		require.Equal(t, 416, b.ask("GET", "/v1/files/"+file.ID+"/content", "", "Range", "bytes=1000-").Code)
	}
	list := decoded[struct {
		Data    []fileObject
		HasMore bool   `json:"has_more"`
		FirstID string `json:"first_id"`
		LastID  string `json:"last_id"`
	}](t, b.ask("GET", "/v1/files?limit=1&order=asc", ""))
	require.Len(t, list.Data, 1)
	require.True(t, list.HasMore)
	require.Equal(t, list.FirstID, list.LastID)
	rest := b.ask("GET", "/v1/files?purpose=batch&order=asc&after="+list.LastID, "")
	require.Contains(t, rest.Body.String(), `"has_more":false`)
	require.NotContains(t, rest.Body.String(), list.LastID)
	require.JSONEq(t, `{"object":"list","data":[],"first_id":"","last_id":"","has_more":false}`, b.ask("GET", "/v1/files?purpose=batch_output", "").Body.String())

	gone := b.ask("DELETE", "/v1/files/"+list.FirstID, "")
	require.JSONEq(t, `{"id":"`+list.FirstID+`","object":"file","deleted":true}`, gone.Body.String())
	for _, row := range [][2]string{{"GET", ""}, {"GET", "/content"}, {"DELETE", ""}} {
		assertError(t, row[0], b.ask(row[0], "/v1/files/"+list.FirstID+row[1], ""), "file_not_found")
	}
}

// A form that is refused says why, and leaves no file.
func TestUploadsThatAreRefused(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	for _, row := range []struct {
		name   string
		pairs  []string
		status int
		code   string
	}{
		{"nothing", nil, 400, "missing_required_parameter"},
		{"no file", []string{"purpose", "batch"}, 400, "missing_required_parameter"},
		{"no purpose", []string{"file", "a:b"}, 400, "missing_required_parameter"},
		{"another purpose", []string{"file", "a:b", "purpose", "fine-tune"}, 400, "invalid_value"},
		{"an output", []string{"file", "a:b", "purpose", "batch_output"}, 400, "invalid_value"},
		{"two files", []string{"file", "a:b", "file", "a:c", "purpose", "batch"}, 400, "invalid_request"},
		{"unknown", []string{"file", "a:b", "purpose", "batch", "prompt", "x"}, 400, "unknown_parameter"},
		{"too short", []string{"file", "a:b", "purpose", "batch", "expires_after[anchor]", "created_at", "expires_after[seconds]", "3599"}, 400, "invalid_request"},
		{"too long", []string{"file", "a:b", "purpose", "batch", "expires_after[anchor]", "created_at", "expires_after[seconds]", "2592001"}, 400, "invalid_request"},
		{"no anchor", []string{"file", "a:b", "purpose", "batch", "expires_after[seconds]", "3600"}, 400, "invalid_request"},
		{"another anchor", []string{"file", "a:b", "purpose", "batch", "expires_after[anchor]", "last_active_at", "expires_after[seconds]", "3600"}, 400, "invalid_request"},
		{"too large", []string{"purpose", "batch", "file", "a:" + strings.Repeat("x", maxFile+1)}, 413, "file_too_large"},
		{"far too large", []string{"purpose", "batch", "file", "a:" + strings.Repeat("x", 3*maxFile)}, 413, "file_too_large"},
		{"a long field", []string{"purpose", strings.Repeat("x", 2000)}, 400, "invalid_request"},
		{"a long name", []string{"purpose", "batch", "file", strings.Repeat("x", 300) + ":b"}, 400, "invalid_request"},
	} {
		answer := b.upload(row.pairs)
		require.Equal(t, row.status, answer.Code, "%s: %s", row.name, answer.Body)
		assertError(t, row.name, answer, row.code)
	}
	body, contentType := form(t, "purpose", "batch", "file", "a:b")
	assertError(t, "cut off", b.ask("POST", "/v1/files", body[:len(body)-20], "Content-Type", contentType), "body_incomplete")
	assertError(t, "no form", b.ask("POST", "/v1/files", "{}"), "unsupported_media_type")
	assertError(t, "no boundary", b.ask("POST", "/v1/files", body, "Content-Type", "multipart/form-data"), "unsupported_media_type")
	assertError(t, "a reader", b.ask("POST", "/v1/files", body, "Content-Type", contentType, "X-Reads", "1"), "write_forbidden")
	for _, query := range []string{"limit=0", "limit=10001", "order=up", "after=x", "unknown=1"} {
		assertError(t, query, b.ask("GET", "/v1/files?"+query, ""), "invalid_request")
	}
	require.Contains(t, b.ask("GET", "/v1/files", "").Body.String(), `"data":[]`)
	require.Equal(t, 200, b.upload([]string{"purpose", "batch", "file", "a:" + strings.Repeat("x", maxFile)}).Code, "as large as may be")
}

// A tenant sees nothing of another's files, and what is answered to nobody is nothing.
func TestFilesOfTenantsAreApart(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	file := b.uploaded("{}", "X-Tenant", "acme")
	for _, row := range [][2]string{{"GET", ""}, {"GET", "/content"}, {"DELETE", ""}} {
		for _, headers := range [][]string{{"X-Tenant", "other"}, {"X-Nobody", "1"}} {
			there := b.ask(row[0], "/v1/files/"+file.ID+row[1], "", headers...)
			assertError(t, row[0], there, "file_not_found")
		}
	}
	require.Contains(t, b.ask("GET", "/v1/files", "", "X-Tenant", "other").Body.String(), `"data":[]`)
	assertError(t, "nobody", b.ask("GET", "/v1/files", "", "X-Nobody", "1"), "tenant_forbidden")
	require.Contains(t, b.ask("GET", "/v1/files", "").Body.String(), file.ID, "an operator sees all")
	assertError(t, "a reader", b.ask("DELETE", "/v1/files/"+file.ID, "", "X-Tenant", "acme", "X-Reads", "1"), "write_forbidden")
	require.Equal(t, 200, b.ask("DELETE", "/v1/files/"+file.ID, "", "X-Tenant", "acme").Code)
}

// Over a connection: a large form is streamed, one that is too large is told so, and one that breaks off leaves nothing.
func TestUploadsOverAConnection(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	url := serve(t, b.API)
	body, contentType := form(t, "purpose", "batch", "file", "a:"+strings.Repeat("x", 3*maxFile))
	answer, err := http.Post(url+"/v1/files", contentType, strings.NewReader(body))
	require.NoError(t, err)
	require.Equal(t, 413, answer.StatusCode)
	_ = answer.Body.Close()

	body, contentType = form(t, "file", "a:"+strings.Repeat("x", maxFile-10), "purpose", "batch")
	broken, breaks := io.Pipe()
	go func() {
		_, _ = io.WriteString(breaks, body[:maxFile/2])
		_ = breaks.CloseWithError(errors.New("gone"))
	}()
	_, err = http.Post(url+"/v1/files", contentType, broken)
	require.Error(t, err)
	answer, err = http.Post(url+"/v1/files", contentType, io.LimitReader(strings.NewReader(body), int64(len(body)))) // without a length
	require.NoError(t, err)
	require.Equal(t, 200, answer.StatusCode)
	_ = answer.Body.Close()
	require.Equal(t, 1, strings.Count(b.ask("GET", "/v1/files", "").Body.String(), `"object":"file"`))
}

func TestFilesAreOpenAIs(t *testing.T) {
	t.Parallel()
	schemas := openaitest.Open(t)
	b := embedded(t)
	answer := b.upload([]string{"purpose", "batch", "file", "in.jsonl:{}"})
	schemas.Check(t, "OpenAIFile", answer.Body.Bytes())
	schemas.Check(t, "ListFilesResponse", b.ask("GET", "/v1/files", "").Body.Bytes())
	schemas.Check(t, "ErrorResponse", b.ask("GET", "/v1/files/file-x", "").Body.Bytes())
	schemas.Check(t, "DeleteFileResponse", b.ask("DELETE", "/v1/files/"+decoded[fileObject](t, answer).ID, "").Body.Bytes())
	schemas.Check(t, "ListFilesResponse", b.ask("GET", "/v1/files", "").Body.Bytes())
}

// FuzzUpload sends anything as a form: it is a file, or an error that says why.
func FuzzUpload(f *testing.F) {
	b := embedded(f)
	body, _ := form(f, "purpose", "batch", "file", "a:b")
	f.Add(strings.ReplaceAll(body, body[2:strings.Index(body, "\r\n")], "edge"))
	f.Add("--edge\r\n\r\n--edge--")
	f.Fuzz(func(t *testing.T, body string) {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/files", strings.NewReader(body))
		request.Header.Set("Content-Type", "multipart/form-data; boundary=edge")
		answer := httptest.NewRecorder()
		b.ServeHTTP(answer, request)
		switch answer.Code {
		case 200, 400, 413:
			require.True(t, json.Valid(answer.Body.Bytes()))
		default:
			t.Fatal(fmt.Sprint(answer.Code, answer.Body))
		}
	})
}
