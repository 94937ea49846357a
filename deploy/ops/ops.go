// Package ops is the listener of a process for those who run it: whether it works, whether it takes work, and what it
// counts. It asks for no key, and shows nothing of tenants, jobs or secrets.
package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// The addresses of the listener.
const (
	HealthPath  = "/healthz"
	ReadyPath   = "/readyz"
	MetricsPath = "/metrics"
)

const (
	// readyWithin bounds what is asked before an answer is due: kubelet gives up after a second or some more.
	readyWithin = time.Second
	// headerWithin, answerWithin and idleFor bound clients that are slow.
	headerWithin = 5 * time.Second
	answerWithin = 30 * time.Second
	idleFor      = 2 * time.Minute
	// maxHeaderBytes is far more than a probe or a scrape needs.
	maxHeaderBytes = 16 << 10
	// shutdownWithin is how long a scrape may still take at the end.
	shutdownWithin = time.Second
)

// Config configures a Server. A zero field means its documented default.
type Config struct {
	// Process is what the process is: worker, scheduler or producer.
	Process string
	// Healthy says why the process has to be started anew. It asks nobody else: that Redis is away is cured by no new
	// start. Defaults to a process that works for as long as it answers.
	Healthy func() error
	// Ready says why the process takes no work at the moment. Required.
	Ready func(ctx context.Context) error
	// Metrics are shown at /metrics. Required.
	Metrics prometheus.Gatherer
	// Log takes where the Server listens, and what could not be gathered. The zero value discards it.
	Log zerolog.Logger
}

// Server answers on a listener.
type Server struct {
	http     *http.Server
	listener net.Listener
	log      zerolog.Logger
	stopped  chan struct{}
}

// Start answers on a listener until Close.
func Start(listener net.Listener, config Config) *Server {
	s := &Server{
		listener: listener, log: config.Log, stopped: make(chan struct{}),
		http: &http.Server{
			Handler: Handler(config), ReadHeaderTimeout: headerWithin, WriteTimeout: answerWithin, IdleTimeout: idleFor,
			MaxHeaderBytes: maxHeaderBytes, ErrorLog: log.New(io.Discard, "", 0),
		},
	}
	s.log.Info().Str("address", listener.Addr().String()).Msg("health and metrics are served")
	go func() {
		defer close(s.stopped)
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error().Err(err).Str("address", listener.Addr().String()).
				Msg("health and metrics are served no more; the process goes on, start it anew when that suits")
		}
	}()
	return s
}

// Close ends it, and cuts off what does not end within a second.
func (s *Server) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownWithin)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close() // whoever is cut off asks again
	}
	<-s.stopped
}

// Handler answers what a Server does.
func Handler(config Config) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+HealthPath, func(w http.ResponseWriter, _ *http.Request) {
		var err error
		if config.Healthy != nil {
			err = config.Healthy()
		}
		answer(w, "ok", "not healthy", err)
	})
	mux.HandleFunc("GET "+ReadyPath, func(w http.ResponseWriter, r *http.Request) {
		answer(w, "ready", "not ready", inTime(r.Context(), config.Ready))
	})
	mux.Handle("GET "+MetricsPath, MetricsHandler(config.Metrics, config.Log))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "forebay %s\n%s\n%s\n%s\n", config.Process, HealthPath, ReadyPath, MetricsPath)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		mux.ServeHTTP(w, r)
	})
}

// inTime asks, and answers in time even when what is asked does not look at its context.
func inTime(ctx context.Context, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	checked := make(chan error, 1)
	go func() { checked <- ready(ctx) }()
	select {
	case err := <-checked:
		return err
	case <-ctx.Done():
		return errors.New("Redis has not answered within " + readyWithin.String())
	}
}

// state is what the probes are answered with.
type state struct {
	Status string `json:"status"`
	// Reason is absent where all is well.
	Reason string `json:"reason,omitempty"`
}

func answer(w http.ResponseWriter, well, ill string, problem error) {
	status, said := http.StatusOK, state{Status: well}
	if problem != nil {
		status, said = http.StatusServiceUnavailable, state{ill, problem.Error()}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(said) // a client that has left needs no answer
}
