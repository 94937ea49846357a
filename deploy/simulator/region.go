package simulator

import (
	"net/http"
	"strings"
	"sync/atomic"
)

// Region is one endpoint of the simulator, and its http.Handler: it serves the region below /v1.
type Region struct {
	sim     *Simulator
	config  RegionConfig
	luck    *luck
	limiter *limiter
	outages []*outage
	forced  atomic.Pointer[outage] // by SetOutage
	fixed   string                 // the answer to everybody; "" when answers are summaries
	seq     atomic.Uint64          // of calls
}

func newRegion(s *Simulator, config RegionConfig) *Region {
	r := &Region{
		sim:     s,
		config:  config,
		luck:    newLuck(s.config.Seed, config.Name),
		limiter: newLimiter(config.Limits, config.ModelLimits),
	}
	for _, o := range config.Outages {
		r.outages = append(r.outages, &outage{Outage: o})
	}
	if config.Answer == AnswerFixed {
		const line = "This text is the same for everybody. "
		r.fixed = strings.Repeat(line, config.AnswerBytes/len(line)+1)[:config.AnswerBytes]
	}
	return r
}

// Name returns the region's name.
func (r *Region) Name() string { return r.config.Name }

// ServeHTTP serves the region below /v1.
func (r *Region) ServeHTTP(w http.ResponseWriter, req *http.Request) { r.serve(w, req, req.URL.Path) }

// serve answers a request for the path below the region's own.
func (r *Region) serve(w http.ResponseWriter, req *http.Request, path string) {
	method := http.MethodPost
	var handle func()
	switch path {
	case "/v1/chat/completions":
		handle = func() { r.begin(w, req).run(readChat) }
	case "/v1/embeddings":
		handle = func() { r.begin(w, req).run(readEmbedding) }
	case "/v1/models":
		method, handle = http.MethodGet, func() { r.serveModels(w, req) }
	default:
		if rest, ok := strings.CutPrefix(path, "/"+segmentControl); ok {
			r.sim.serveControl(w, req, rest, r.config.Name)
			return
		}
		unknownURL(w, req)
		return
	}
	if req.Method != method {
		wrongMethod(w, req)
		return
	}
	handle()
}

// slowHeaders is the failure that holds up a list of models, too.
const slowHeaders = "slow-headers"

// serveModels lists the models. An outage strikes here too, but nothing is counted.
func (r *Region) serveModels(w http.ResponseWriter, req *http.Request) {
	c := &call{region: r, w: w, r: req}
	f, p := c.ordered()
	switch {
	case p != nil:
		refuse(w, p)
	case f != nil && f.act != nil:
		if f.Status == 0 || c.wait(r.config.Latency.Min) {
			f.act(c, f)
		}
	case f != nil && f.Name == slowHeaders && !c.wait(r.config.Slow):
	case !c.authorised():
		refuse(w, unauthorised)
	default:
		list := modelList{Object: "list", Data: []modelObject{}}
		for _, name := range r.sim.config.Models {
			list.Data = append(list.Data, modelObject{ID: name, Object: "model", Created: r.sim.started.Unix(), OwnedBy: Fingerprint})
		}
		writeJSON(w, http.StatusOK, encode(list))
	}
}
