package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/forebay-queue/forebay/producer/files"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

const (
	mediaForm     = "multipart/form-data"
	anchorCreated = "created_at"
	// aroundFile is how much a form may have beside its file, maxField how long one of its other parts may be, and maxParts
	// how many there may be.
	aroundFile = 1 << 20
	maxField   = 1 << 10
	maxParts   = 20
	// maxFilename is in bytes.
	maxFilename = 255
	// uploadWithin bounds a whole upload, each piece of which has to come within bodyWithin.
	uploadWithin = time.Hour
	// OpenAI's bounds of how long a file may be asked to be kept.
	shortestKept, longestKept = 3600, 2_592_000
)

// uploadFile takes a file in. Its bytes go where they are kept as they come; whether they stay is decided at the form's end.
func (a *API) uploadFile(ctx context.Context, _ *struct{}) (*huma.StreamResponse, error) {
	if err := mayWrite(ctx); err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(answer huma.Context) {
		request, w := humago.Unwrap(answer)
		ctx, cancel := context.WithTimeout(request.Context(), uploadWithin)
		defer cancel()
		limits := http.NewResponseController(w)
		body := http.MaxBytesReader(w, request.Body, a.config.Files.MaxBytes()+aroundFile)
		u := upload{api: a, keep: 0}
		defer u.abort()
		file, err := u.take(ctx, request, &steadyBody{body, limits})
		if err == nil {
			_ = limits.SetWriteDeadline(time.Now().Add(answerWithin)) // a writer that knows no deadlines has its own
			writeJSON(w, http.StatusOK, shownFile(file))
			return
		}
		problem := a.uploadFailure(err)
		// A client that is still sending would see a broken connection, and not why.
		_, _ = io.Copy(io.Discard, &steadyBody{io.LimitReader(request.Body, a.config.Files.MaxBytes()), limits})
		_ = limits.SetWriteDeadline(time.Now().Add(answerWithin))
		writeError(w, *problem)
	}}, nil
}

// steadyBody gives a client time for as long as it sends something.
type steadyBody struct {
	io.Reader
	limits *http.ResponseController
}

// Read implements io.Reader.
func (b *steadyBody) Read(data []byte) (int, error) {
	_ = b.limits.SetReadDeadline(time.Now().Add(bodyWithin)) // a writer that knows no deadlines has its own
	return b.Reader.Read(data)
}

// upload is a form as far as it has come.
type upload struct {
	api     *API
	file    *files.Writer // nil until it has come
	name    string
	purpose string
	anchor  string
	keep    int // in seconds; 0 is the default
}

func (u *upload) abort() {
	if u.file != nil {
		u.file.Abort()
	}
}

// take reads a form, in whatever order its parts come.
func (u *upload) take(ctx context.Context, request *http.Request, body io.Reader) (files.File, error) {
	media, params, err := mime.ParseMediaType(request.Header.Get("Content-Type"))
	if err != nil || media != mediaForm || params["boundary"] == "" {
		return files.File{}, &apiError{
			status: http.StatusUnsupportedMediaType, code: "unsupported_media_type", param: "Content-Type",
			message: "send a form, with the header Content-Type: multipart/form-data; boundary=...",
		}
	}
	form := multipart.NewReader(body, params["boundary"])
	for parts := 0; ; parts++ {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && parts == maxParts {
			err = badParam("form", fmt.Sprintf("has more than %d parts", maxParts))
		}
		if err != nil {
			return files.File{}, err
		}
		if err := u.part(ctx, part); err != nil {
			return files.File{}, err
		}
	}
	if err := u.check(); err != nil {
		return files.File{}, err
	}
	known := files.File{Tenant: IdentityOf(ctx).Tenant, Filename: u.name, Purpose: u.purpose}
	if known.Tenant == "" {
		known.Tenant = catalog.DefaultTenant
	}
	return u.file.Commit(ctx, known, time.Duration(u.keep)*time.Second)
}

func (u *upload) part(ctx context.Context, part *multipart.Part) error {
	name := part.FormName()
	if name == "file" {
		return u.takeFile(ctx, part)
	}
	text, err := io.ReadAll(io.LimitReader(part, maxField+1))
	if err != nil {
		return err
	}
	value := string(text)
	if len(value) > maxField {
		return badParam(shortened(name), "is too long")
	}
	switch name {
	case "purpose":
		u.purpose = value
	case "expires_after[anchor]", "expires_after.anchor":
		u.anchor = value
	case "expires_after[seconds]", "expires_after.seconds":
		if u.keep, err = strconv.Atoi(value); err != nil || u.keep < shortestKept || u.keep > longestKept {
			return badParam("expires_after", fmt.Sprintf("seconds must be %d to %d", shortestKept, longestKept))
		}
	default:
		return &apiError{
			status: http.StatusBadRequest, code: "unknown_parameter", param: shortened(name),
			message: fmt.Sprintf("Unknown parameter: %.100q. A form has file, purpose and expires_after.", name),
		}
	}
	return nil
}

func (u *upload) takeFile(ctx context.Context, part *multipart.Part) error {
	if u.file != nil {
		return badParam("file", "is given twice; send one file in a request")
	}
	u.name = strings.ToValidUTF8(part.FileName(), "\ufffd")
	if u.name == "" {
		u.name = "file"
	}
	if len(u.name) > maxFilename {
		return badParam("file", fmt.Sprintf("its name is longer than %d bytes", maxFilename))
	}
	var err error
	if u.file, err = u.api.config.Files.Create(ctx, "", u.api.config.Files.MaxBytes()); err != nil {
		return err
	}
	_, err = io.Copy(u.file, part)
	return err
}

// check looks whether the form has what it needs.
func (u *upload) check() error {
	missing := func(param string) error {
		return &apiError{
			status: http.StatusBadRequest, code: "missing_required_parameter", param: param,
			message: "Missing required parameter: '" + param + "'.",
		}
	}
	switch {
	case u.file == nil:
		return missing("file")
	case u.purpose == "":
		return missing("purpose")
	case u.purpose != files.PurposeBatch:
		return &apiError{
			status: http.StatusBadRequest, code: "invalid_value", param: "purpose",
			message: fmt.Sprintf("purpose: %.100q is not supported here; 'batch' is", u.purpose),
		}
	case (u.anchor != "") != (u.keep != 0) || (u.anchor != "" && u.anchor != anchorCreated):
		return badParam("expires_after", "needs anchor, which is created_at, and seconds")
	}
	return nil
}

// uploadFailure says over HTTP why a file was not taken.
func (a *API) uploadFailure(err error) *apiError {
	var known *apiError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, files.ErrTooLarge), errors.As(err, &tooLarge):
		return &apiError{
			status: http.StatusRequestEntityTooLarge, code: "file_too_large", param: "file",
			message: fmt.Sprintf("The file is larger than the %d bytes that are taken. Send it in several files.", a.config.Files.MaxBytes()),
		}
	case errors.Is(err, files.ErrStorage):
		return a.fileFailure("", err)
	case errors.Is(err, context.DeadlineExceeded):
		return &apiError{status: http.StatusRequestTimeout, code: "body_timeout", message: "the file did not come within " + uploadWithin.String()}
	case errors.Is(err, io.ErrUnexpectedEOF), strings.HasPrefix(err.Error(), "multipart:"), strings.HasPrefix(err.Error(), "mime:"):
		return &apiError{status: http.StatusBadRequest, code: "body_incomplete", message: "the form could not be read to its end"}
	}
	return errStore()
}
