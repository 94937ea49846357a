package httpapi

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/forebay-queue/forebay/producer/files"
)

const (
	filesPath = "/v1/files"
	filePath  = filesPath + "/{id}"
)

// fileObject is a file as OpenAI's clients read it.
type fileObject struct {
	ID        string `json:"id" doc:"The file's id"`
	Object    string `json:"object" enum:"file" doc:"file"`
	Bytes     int64  `json:"bytes" doc:"How large it is"`
	CreatedAt int64  `json:"created_at" doc:"When it came, in seconds since 1970"`
	ExpiresAt int64  `json:"expires_at" doc:"When it is deleted, in seconds since 1970"`
	Filename  string `json:"filename" doc:"Its name, as it was sent"`
	Purpose   string `json:"purpose" enum:"batch,batch_output" doc:"batch is a batch's input, batch_output what a batch has written"`
	Status    string `json:"status" enum:"processed" doc:"processed"`
}

func shownFile(file files.File) fileObject {
	return fileObject{
		ID: file.ID, Object: "file", Bytes: file.Bytes, CreatedAt: file.CreatedAt.Unix(), ExpiresAt: file.ExpiresAt.Unix(),
		Filename: file.Filename, Purpose: file.Purpose, Status: "processed",
	}
}

type fileInput struct {
	ID string `path:"id" maxLength:"4096" doc:"The file's id"`
}

type fileOutput struct{ Body fileObject }

type fileDeleted struct {
	ID      string `json:"id" doc:"The file's id"`
	Object  string `json:"object" enum:"file" doc:"file"`
	Deleted bool   `json:"deleted" doc:"true"`
}

type fileDeletedOutput struct{ Body fileDeleted }

type filesInput struct {
	Purpose string `query:"purpose" doc:"Only files of this purpose"`
	Limit   int    `query:"limit" default:"10000" minimum:"1" maximum:"10000" doc:"How many files a page has"`
	Order   string `query:"order" default:"desc" enum:"asc,desc" doc:"By their creation; desc has the newest first"`
	After   string `query:"after" maxLength:"4096" doc:"The last_id of the page before"`
}

type fileList struct {
	Object  string       `json:"object" enum:"list" doc:"list"`
	Data    []fileObject `json:"data" doc:"The files"`
	FirstID string       `json:"first_id" doc:"The first one's id"`
	LastID  string       `json:"last_id" doc:"The last one's id"`
	HasMore bool         `json:"has_more" doc:"There are more behind last_id"`
}

type filesOutput struct{ Body fileList }

func (a *API) registerFiles(api huma.API) {
	upload := operation(http.MethodPost, filesPath, "uploadFile", groupBatches, "Send a file", `
A form (multipart/form-data) with file and purpose, which is batch, in any order; and expires_after[anchor], which is created_at,
with expires_after[seconds], 3600 to 2592000. The file is kept for that long, or as long as the configuration says.`, 400, 403, 408, 413, 415, 503)
	form := &huma.Schema{Type: huma.TypeObject, Required: []string{"file", "purpose"}, Properties: map[string]*huma.Schema{
		"file":                   {Type: huma.TypeString, Format: "binary", Description: "The file"},
		"purpose":                {Type: huma.TypeString, Enum: []any{files.PurposeBatch}, Description: "batch"},
		"expires_after[anchor]":  {Type: huma.TypeString, Enum: []any{anchorCreated}, Description: "created_at"},
		"expires_after[seconds]": {Type: huma.TypeInteger, Description: "3600 to 2592000"},
	}}
	upload.Responses = map[string]*huma.Response{"200": {
		Description: "The file is there", Content: content(schemaOf[fileObject](api.OpenAPI().Components.Schemas)),
	}}
	huma.Register(api, upload, a.uploadFile)
	// Afterwards: huma would read the form itself, into memory.
	api.OpenAPI().Paths[filesPath].Post.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{mediaForm: {Schema: form}}}
	huma.Register(api, operation(http.MethodGet, filesPath, "listFiles", groupBatches, "List files", "", 400, 403, 503), a.listFiles)
	huma.Register(api, operation(http.MethodGet, filePath, "getFile", groupBatches, "What is known of a file", "", 404, 503), a.getFile)
	huma.Register(api, operation(http.MethodDelete, filePath, "deleteFile", groupBatches, "Delete a file", `
A batch that has begun with it goes on: it has a copy.`, 403, 404, 503), a.deleteFile)
	text := operation(http.MethodGet, filePath+"/content", "getFileContent", groupBatches, "Read a file", "A Range is honoured.", 404, 416, 503)
	text.Responses = map[string]*huma.Response{"200": {
		Description: "The file, as it came", Content: map[string]*huma.MediaType{mediaBytes: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}},
	}}
	huma.Register(api, text, a.getFileContent)
}

// readsAs is the tenant whose files and batches a request sees; the operator's is empty, and all are seen.
func readsAs(ctx context.Context) (tenant string, seen bool) {
	identity := IdentityOf(ctx)
	return identity.Tenant, identity.Operator || identity.Tenant != ""
}

// file reads a file that the request may see. Another tenant's is answered as one that is not there.
func (a *API) file(ctx context.Context, id string) (files.File, error) {
	tenant, seen := readsAs(ctx)
	if !seen {
		return files.File{}, errNoFile(id)
	}
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	file, err := a.config.Files.Get(ctx, id, tenant)
	if err != nil {
		return files.File{}, a.fileFailure(id, err)
	}
	return file, nil
}

func errNoFile(id string) *apiError {
	return &apiError{
		status: http.StatusNotFound, code: "file_not_found", param: "id",
		message: "No such File object: " + shortened(id) + ". It was never there, was deleted, or has expired.",
	}
}

// shortened is an id as it is repeated in an error.
func shortened(id string) string { return id[:min(len(id), 100)] }

// fileFailure says over HTTP what an error of files is. What the storage says is the operator's to know.
func (a *API) fileFailure(id string, err error) *apiError {
	if errors.Is(err, files.ErrNotFound) {
		return errNoFile(id)
	}
	if errors.Is(err, files.ErrStorage) {
		a.config.Log.Error().Err(err).Msg("a file could not be read or written")
	}
	return errStore()
}

func (a *API) getFile(ctx context.Context, input *fileInput) (*fileOutput, error) {
	file, err := a.file(ctx, input.ID)
	if err != nil {
		return nil, err
	}
	return &fileOutput{shownFile(file)}, nil
}

func (a *API) listFiles(ctx context.Context, input *filesInput) (*filesOutput, error) {
	tenant, seen := readsAs(ctx)
	if !seen {
		return nil, errNobody()
	}
	if input.After != "" && !files.ValidID(input.After) {
		return nil, badParam("after", "is no file's id")
	}
	ctx, cancel := context.WithTimeout(ctx, listWithin)
	defer cancel()
	found, more, err := a.config.Files.List(ctx, files.Query{
		Tenant: tenant, Purpose: input.Purpose, After: input.After, OldestFirst: input.Order == "asc", Limit: input.Limit,
	})
	if err != nil {
		return nil, a.fileFailure("", err)
	}
	list := fileList{Object: "list", Data: make([]fileObject, len(found)), HasMore: more}
	for i, file := range found {
		list.Data[i] = shownFile(file)
	}
	if len(found) > 0 {
		list.FirstID, list.LastID = found[0].ID, found[len(found)-1].ID
	}
	return &filesOutput{list}, nil
}

func errNobody() *apiError {
	return &apiError{status: http.StatusForbidden, code: "tenant_forbidden", message: "this key belongs to no tenant"}
}

func (a *API) deleteFile(ctx context.Context, input *fileInput) (*fileDeletedOutput, error) {
	if _, err := a.file(ctx, input.ID); err != nil {
		return nil, err
	}
	if err := mayWrite(ctx); err != nil {
		return nil, err
	}
	tenant, _ := readsAs(ctx)
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	if err := a.config.Files.Delete(ctx, input.ID, tenant); err != nil {
		return nil, a.fileFailure(input.ID, err)
	}
	return &fileDeletedOutput{fileDeleted{ID: input.ID, Object: "file", Deleted: true}}, nil
}

const mediaBytes = "application/octet-stream"

// getFileContent streams a file, or the part of it that a Range names.
func (a *API) getFileContent(ctx context.Context, input *fileInput) (*huma.StreamResponse, error) {
	file, err := a.file(ctx, input.ID)
	if err != nil {
		return nil, err
	}
	reader, err := a.config.Files.Open(ctx, file)
	if err != nil {
		return nil, a.fileFailure(file.ID, err)
	}
	return &huma.StreamResponse{Body: func(answer huma.Context) {
		defer reader.Close()
		request, w := humago.Unwrap(answer)
		header := w.Header()
		header.Set("Content-Type", mediaBytes)
		header.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": file.Filename}))
		http.ServeContent(&steadyWriter{w, http.NewResponseController(w)}, request, "", file.CreatedAt, reader)
	}}, nil
}

// steadyWriter gives a client time for as long as it takes something in.
type steadyWriter struct {
	http.ResponseWriter
	limits *http.ResponseController
}

// Write implements http.ResponseWriter.
func (w *steadyWriter) Write(data []byte) (int, error) {
	_ = w.limits.SetWriteDeadline(time.Now().Add(answerWithin)) // a writer that knows no deadlines has its own
	return w.ResponseWriter.Write(data)
}
