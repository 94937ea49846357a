package command

import (
	"context"
	"crypto/tls"
	"fmt"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/producer/httpapi"
)

// serveHTTP takes the address, and returns what serves the HTTP interface there, and the keys behind which it does.
func (s *settings) serveHTTP(ctx context.Context, client redis.UniversalClient, api httpapi.Config, address string) (part, *httpapi.Auth, error) {
	secure, err := tlsOf(s.file)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", s.path, err)
	}
	listener, err := httpapi.Listen(ctx, address)
	if err != nil {
		return nil, nil, err
	}
	auth, err := httpapi.NewAuth(ctx, httpapi.AuthConfig{
		Redis: client, Prefix: s.prefix, Address: listener.Addr().String(), Tenants: tenantsOf(s.file),
	})
	if err != nil {
		_ = listener.Close() // nobody has come
		return nil, nil, err
	}
	api.Authenticate = auth.Authenticate
	handler, err := httpapi.Handler(api)
	if err != nil {
		auth.Close()
		_ = listener.Close() // nobody has come
		return nil, nil, err
	}
	server := httpapi.NewServer(handler, api.Log)
	return func(ctx context.Context) error {
		defer auth.Close()
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error { return server.Serve(listener, secure) })
		group.Go(func() error {
			<-ctx.Done()
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), producerDrain)
			defer cancel()
			return server.Shutdown(ctx)
		})
		return group.Wait()
	}, auth, nil
}

// tlsOf is what the HTTP interface of a configuration is served over; nil for no TLS.
func tlsOf(file *config.File) (*tls.Config, error) {
	files := file.HTTP.TLS
	if files.CertFile == "" {
		return nil, nil //nolint:nilnil // no TLS is what was asked for
	}
	secure, err := httpapi.TLS(files.CertFile, files.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("http.tls: %w", err)
	}
	return secure, nil
}

// tenantsOf are the limits of tenants in a configuration.
func tenantsOf(file *config.File) map[string]httpapi.TenantLimits {
	limits := make(map[string]httpapi.TenantLimits, len(file.Tenants))
	for name, tenant := range file.Tenants {
		limits[name] = httpapi.TenantLimits(tenant)
	}
	return limits
}
