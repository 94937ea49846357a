package sandbox

import (
	"context"
	"fmt"

	"github.com/forebay-queue/forebay/deploy/ops"
	"github.com/forebay-queue/forebay/producer/httpapi"
)

// ListenOff as Config.Listen has nobody listened for.
const ListenOff = httpapi.ListenOff

// CheckListen refuses an address that cannot be read. Empty is the default, ListenOff is no address.
func CheckListen(address string) error { return httpapi.CheckListen(address) }

// listen takes the address before anything else is started.
func (s *Sandbox) listen(ctx context.Context) error {
	if s.config.Listen == ListenOff {
		return nil
	}
	listener, err := httpapi.Listen(ctx, s.config.Listen)
	if err != nil {
		return err
	}
	s.listener = listener
	s.onClose(func(context.Context) error {
		_ = listener.Close() // its server has closed it, if it came to that
		return nil
	})
	return nil
}

// openAuth reads the API keys, before whatever would be started in vain for an address that needs one.
func (s *Sandbox) openAuth(ctx context.Context) error {
	if s.listener == nil {
		return nil
	}
	auth, err := httpapi.NewAuth(ctx, httpapi.AuthConfig{
		Redis: s.Redis, Prefix: s.config.Prefix, Address: s.listener.Addr().String(), Tenants: s.config.Tenants,
	})
	if err != nil {
		return err
	}
	s.auth = auth
	s.onClose(func(context.Context) error {
		auth.Close()
		return nil
	})
	return nil
}

// httpURL is the base of the HTTP interface's addresses.
func (s *Sandbox) httpURL() string {
	scheme := "http://"
	if s.config.TLS != nil {
		scheme = "https://"
	}
	return scheme + s.listener.Addr().String()
}

// serveHTTP serves the HTTP interface.
func (s *Sandbox) serveHTTP(context.Context) error {
	if s.listener == nil {
		return nil
	}
	settings := httpapi.Config{Client: s.Client, Files: s.files, Log: s.config.Log, Authenticate: s.auth.Authenticate}
	if s.config.Status != nil {
		settings.Status = func(ctx context.Context) (any, error) { return s.config.Status(ctx, s) }
	}
	if s.config.Metrics != nil {
		settings.Metrics = ops.MetricsHandler(s.config.Metrics, s.config.Log)
	}
	api, err := httpapi.Handler(settings)
	if err != nil {
		return err
	}
	s.HTTPURL = s.httpURL()
	server := httpapi.NewServer(api, s.config.Log)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if err := server.Serve(s.listener, s.config.TLS); err != nil {
			s.failed <- fmt.Errorf("serve the HTTP interface on %s: %w", s.listener.Addr(), err)
		}
	}()
	s.onClose(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownServer)
		defer cancel()
		err := server.Shutdown(ctx)
		<-stopped
		return err
	})
	return nil
}
