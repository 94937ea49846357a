package simulator

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// job is what a call asks for, once it is understood.
type job interface {
	modelName() string
	charge() int // tokens that the limits count on arrival
	answer(r *Region, seq uint64) *reply
}

// reader understands a body. The model comes back even where the rest is refused, for the counters.
type reader func(body []byte, fixed bool) (j job, model string, p *problem)

// reply is a good answer; one of the two is set.
type reply struct {
	chat       *chatCompletion
	embeddings *embeddingList
	in, out    int // tokens
}

func (r *reply) body() []byte {
	if r.chat != nil {
		return encode(r.chat)
	}
	return encode(r.embeddings)
}

// call is one request on its way through a region.
type call struct {
	region  *Region
	w       http.ResponseWriter
	r       *http.Request
	entry   *entry // nil for what is not counted
	seq     uint64 // of the region's calls
	latency time.Duration
	roll    float64
}

var unauthorised = &problem{
	http.StatusUnauthorized, KindUnauthorized,
	"Incorrect API key provided. This simulated provider accepts only the keys of its configuration.",
	invalidRequest, "", "invalid_api_key",
}

// begin counts the call and throws its dice.
func (r *Region) begin(w http.ResponseWriter, req *http.Request) *call {
	c := &call{region: r, w: w, r: req, seq: r.seq.Add(1)}
	c.latency, c.roll = r.luck.draw(r.config.Latency)
	id := req.Header.Get(HeaderRequestID)
	c.entry = r.sim.book.ask(r.config.Name, id)
	if id == "" {
		id = fmt.Sprintf("req_%s_%08d", r.config.Name, c.seq)
	}
	w.Header().Set(HeaderRequestID, id)
	return c
}

// run takes the call to its end.
func (c *call) run(read reader) {
	body, p, ok := c.readBody()
	switch {
	case !ok:
		c.entry.abandon()
		return
	case p != nil:
		c.refuse(p)
		return
	}
	j, model, bad := read(body, c.region.fixed != "")
	if model != "" {
		c.entry.name(model)
	} else if bad == nil {
		bad = invalid("model", "missing_required_parameter", "Missing required parameter: 'model'.")
	}
	f, p := c.ordered()
	switch {
	case p != nil:
		c.refuse(p)
	case f != nil && f.act != nil:
		c.strike(f)
	case !c.authorised():
		c.refuse(unauthorised)
	case bad != nil:
		c.refuse(bad)
	case !c.served(model):
		c.refuse(&problem{
			http.StatusNotFound, KindUnknownModel,
			fmt.Sprintf("The model `%s` does not exist or you do not have access to it.", model),
			invalidRequest, "", "model_not_found",
		})
	default:
		c.admit(j, f)
	}
}

// admit asks the limits and lets the call through to its answer, or to the failure that chance has for it.
func (c *call) admit(j job, f *failure) {
	verdict := c.region.limiter.admit(time.Now(), c.key(), j.modelName(), j.charge())
	verdict.header(c.w.Header())
	if !verdict.granted {
		c.refuse(verdict.problem(j.modelName(), j.charge()))
		return
	}
	if f == nil && c.roll < c.region.config.FailureRate {
		f = failures[c.region.config.Failure]
		if f.act != nil {
			c.strike(f)
			return
		}
	}
	if !c.wait(c.latency) {
		c.entry.abandon()
		return
	}
	answer := j.answer(c.region, c.seq)
	if f == nil {
		c.send(outcome{KindOK, true, answer.in, answer.out}, http.StatusOK, answer.body())
		return
	}
	f.bend(c, f, answer)
}

// strike lets a failure happen in place of an answer.
func (c *call) strike(f *failure) {
	if f.Status != 0 && !c.wait(c.latency) {
		c.entry.abandon()
		return
	}
	f.act(c, f)
}

// ordered returns the failure that the request's header asks for or an outage has for it, or nil.
func (c *call) ordered() (*failure, *problem) {
	if kind := c.r.Header.Get(HeaderFailure); kind != "" {
		if failures[kind] == nil {
			return nil, invalid("", "invalid_value", fmt.Sprintf("The header %s names no failure: %q; the kinds are: %s.",
				HeaderFailure, kind, strings.Join(failureNames(), ", ")))
		}
		return failures[kind], nil
	}
	if kind := c.region.struck(); kind != "" {
		c.entry.strike()
		return failures[kind], nil
	}
	return nil, nil
}

// readBody reads the request to its end, without which the server would not notice that the client goes away. It
// tells false when the client has gone.
func (c *call) readBody() ([]byte, *problem, bool) {
	limit := c.region.sim.config.MaxBody
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, limit))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, &problem{
			http.StatusRequestEntityTooLarge, KindTooLarge, fmt.Sprintf("The request is larger than %d bytes.", limit),
			invalidRequest, "messages", "context_length_exceeded",
		}, true
	}
	return body, nil, err == nil
}

// key returns the API key that the request carries.
func (c *call) key() string {
	if key, ok := strings.CutPrefix(c.r.Header.Get("Authorization"), "Bearer "); ok {
		return key
	}
	return c.r.Header.Get("Api-Key")
}

func (c *call) authorised() bool {
	return len(c.region.sim.keys) == 0 || c.region.sim.keys[c.key()]
}

func (c *call) served(model string) bool {
	return len(c.region.sim.models) == 0 || c.region.sim.models[model]
}

// wait lets time pass, and tells false when the client went away meanwhile. It does not return when the simulator is
// closed: the connection ends.
func (c *call) wait(d time.Duration) bool {
	if d <= 0 {
		return c.r.Context().Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.r.Context().Done():
		return false
	case <-c.region.sim.closed:
		c.entry.abandon()
		panic(http.ErrAbortHandler)
	}
}

// refuse answers with a problem of the request's own.
func (c *call) refuse(p *problem) { c.send(outcome{kind: p.kind}, p.status, p.body()) }

// send writes an answer whole. The call is settled before, so that who has read the answer finds it counted, and
// abandoned after all when it cannot be written.
func (c *call) send(o outcome, status int, body []byte) {
	if c.r.Context().Err() != nil {
		c.entry.abandon()
		return
	}
	c.head(status, len(body))
	c.entry.settle(o)
	if !c.write(body) {
		c.entry.abandon()
	}
}

// head sets the headers that every answer has, unless they are set already, and the status.
func (c *call) head(status, length int) {
	h := c.w.Header()
	h.Set(HeaderSimulated, "true")
	h.Set("Content-Length", strconv.Itoa(length))
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/json")
	}
	c.w.WriteHeader(status)
}

// write sends some bytes on their way, and tells whether the connection took them.
func (c *call) write(part []byte) bool {
	if _, err := c.w.Write(part); err != nil {
		return false
	}
	err := http.NewResponseController(c.w).Flush()
	return err == nil || errors.Is(err, http.ErrNotSupported)
}
