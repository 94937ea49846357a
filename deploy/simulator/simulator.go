package simulator

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// The first segments of a path that are no region's name.
const (
	segmentAPI     = "v1"
	segmentControl = "_simulator"
)

// maxControlBody bounds what POST /_simulator/outage reads.
const maxControlBody = 1 << 20

// Simulator is the handler of all regions. It must be made by New, and closed when it is no longer needed.
type Simulator struct {
	config  Config
	keys    map[string]bool
	models  map[string]bool
	regions map[string]*Region
	order   []*Region // as configured
	started time.Time
	book    *book

	closing sync.Once
	closed  chan struct{}
}

// New checks the configuration and makes the simulator. Its clock starts now. The error names every field at fault.
func New(config Config) (*Simulator, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("the simulated provider cannot be made: %w", err)
	}
	s := &Simulator{
		config:  config,
		keys:    setOf(config.Keys),
		models:  setOf(config.Models),
		regions: map[string]*Region{},
		started: time.Now(),
		book:    newBook(config.MaxJobs, config.Regions),
		closed:  make(chan struct{}),
	}
	for _, c := range config.Regions {
		r := newRegion(s, c)
		s.regions[c.Name] = r
		s.order = append(s.order, r)
	}
	return s, nil
}

func setOf(names []string) map[string]bool {
	set := map[string]bool{}
	for _, n := range names {
		set[n] = true
	}
	return set
}

// Close ends all calls that hang or wait, without an answer, and all listeners of Listen. It may be called again.
func (s *Simulator) Close() error {
	s.closing.Do(func() { close(s.closed) })
	return nil
}

// Region returns the region of this name, nil when there is none.
func (s *Simulator) Region(name string) *Region { return s.regions[name] }

// Regions returns the regions in the order of the configuration.
func (s *Simulator) Regions() []*Region { return slices.Clone(s.order) }

// Handler returns the handler of one region, which serves it below /v1, and the control paths. For a name that no
// region has, it answers 404 to everything.
func (s *Simulator) Handler(region string) http.Handler {
	if r := s.regions[region]; r != nil {
		return r
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { s.unknownRegion(w, region) })
}

// ServeHTTP hands the request to the region that the first segment of its path names.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	first, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch region := s.regions[first]; {
	case first == segmentControl:
		s.serveControl(w, r, "/"+rest, "")
	case region != nil:
		region.serve(w, r, "/"+rest)
	case first == segmentAPI && len(s.order) == 1:
		s.order[0].serve(w, r, r.URL.Path)
	default:
		s.unknownRegion(w, first)
	}
}

func (s *Simulator) unknownRegion(w http.ResponseWriter, name string) {
	names := make([]string, len(s.order))
	for i, r := range s.order {
		names[i] = r.config.Name
	}
	refuse(w, unknown(fmt.Sprintf("There is no simulated region %q; the first segment of the path must be one of: %s.",
		name, strings.Join(names, ", "))))
}

// serveControl answers below /_simulator. Region is the one that an outage is for when its body names none.
func (s *Simulator) serveControl(w http.ResponseWriter, r *http.Request, path, region string) {
	switch {
	case path == "/counters" && r.Method == http.MethodGet:
		body, err := s.countersJSON(r.URL.Query().Get("jobs") != "false")
		if err != nil {
			refuse(w, &problem{http.StatusInternalServerError, "", err.Error(), "server_error", "", ""})
			return
		}
		writeJSON(w, http.StatusOK, body)
	case path == "/outage" && r.Method == http.MethodPost:
		s.serveOutage(w, r, region)
	case path == "/counters" || path == "/outage":
		wrongMethod(w, r)
	default:
		unknownURL(w, r)
	}
}

// outageOrder is the body of POST /_simulator/outage, and its answer.
type outageOrder struct {
	Region string   `json:"region"`
	Kinds  []string `json:"kinds"`
}

func (s *Simulator) serveOutage(w http.ResponseWriter, r *http.Request, region string) {
	order := outageOrder{Region: region}
	d := json.NewDecoder(io.LimitReader(r.Body, maxControlBody))
	d.DisallowUnknownFields()
	if err := d.Decode(&order); err != nil {
		refuse(w, invalid("", "", `The body must be {"region": "<name>", "kinds": ["<kind>", ...]}: `+err.Error()))
		return
	}
	if order.Region == "" && len(s.order) == 1 {
		order.Region = s.order[0].config.Name
	}
	target := s.regions[order.Region]
	if target == nil {
		s.unknownRegion(w, order.Region)
		return
	}
	if len(order.Kinds) == 0 {
		target.ClearOutage()
		order.Kinds = []string{}
	} else if err := target.SetOutage(order.Kinds...); err != nil {
		refuse(w, invalid("kinds", "invalid_value", err.Error()))
		return
	}
	writeJSON(w, http.StatusOK, encode(order))
}

func wrongMethod(w http.ResponseWriter, r *http.Request) {
	refuse(w, &problem{
		http.StatusMethodNotAllowed, "", fmt.Sprintf("Not allowed to %s on %s.", r.Method, r.URL.Path),
		invalidRequest, "", "method_not_supported",
	})
}

func unknownURL(w http.ResponseWriter, r *http.Request) {
	refuse(w, unknown(fmt.Sprintf("Unknown request URL: %s %s. Please check the URL for typos.", r.Method, r.URL.Path)))
}

func unknown(message string) *problem {
	return &problem{http.StatusNotFound, "", message, invalidRequest, "", "unknown_url"}
}

func refuse(w http.ResponseWriter, p *problem) { writeJSON(w, p.status, p.body()) }

// writeJSON answers a request that no counter counts.
func writeJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set(HeaderSimulated, "true")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
