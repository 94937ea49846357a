package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/rs/zerolog"
)

const (
	// headerWithin is how long a client may take to send the head of a request, idleFor how long a connection may stand
	// without one.
	headerWithin = 10 * time.Second
	idleFor      = 2 * time.Minute
	// maxHeaderBytes is far more than a key and a request need.
	maxHeaderBytes = 32 << 10
)

// Server serves an API on a listener, with limits against clients that are slow.
type Server struct {
	api  *API
	http *http.Server
	log  zerolog.Logger
}

// NewServer returns a server of an API. It logs where it listens and that it stops; of requests it logs nothing.
func NewServer(api *API, logger zerolog.Logger) *Server {
	return &Server{api: api, log: logger, http: &http.Server{
		Handler:           api,
		ReadHeaderTimeout: headerWithin,
		IdleTimeout:       idleFor,
		MaxHeaderBytes:    maxHeaderBytes,
		// What net/http would say is about single connections, and may quote what came over them.
		ErrorLog: log.New(io.Discard, "", 0),
	}}
}

// Serve answers requests until Shutdown, over TLS where there is a configuration of it, and closes the listener.
func (s *Server) Serve(listener net.Listener, secure *tls.Config) error {
	s.log.Info().Str("address", listener.Addr().String()).Bool("tls", secure != nil).Msg("HTTP interface listens")
	serve := s.http.Serve
	if secure != nil {
		s.http.TLSConfig = secure
		serve = func(listener net.Listener) error { return s.http.ServeTLS(listener, "", "") }
	}
	if err := serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown takes no new connection, has those who wait answered with what stands, and lets running requests end. What
// still runs when ctx ends is cut off.
func (s *Server) Shutdown(ctx context.Context) error {
	s.api.Drain()
	if err := s.http.Shutdown(ctx); err != nil {
		s.log.Warn().Msg("HTTP interface: requests were cut off that did not end in time")
		return s.http.Close()
	}
	return nil
}
