package httpapi

import "context"

// Identity is who makes a request.
type Identity struct {
	// Key names the API key, not its secret; empty where the server asks for none.
	Key string
	// Tenant is whose jobs the request may see and make. An Operator's is empty: all tenants'.
	Tenant string
	// Operator may see all tenants, pause queues and look at the deployment.
	Operator bool
	// Write may change something.
	Write bool
}

// Sees tells whether the jobs of a tenant are shown to the identity.
func (i Identity) Sees(tenant string) bool {
	return i.Operator || (i.Tenant != "" && i.Tenant == tenant)
}

type identityKey struct{}

// WithIdentity returns a context of a request that this identity makes.
func WithIdentity(ctx context.Context, identity Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, identity)
}

// IdentityOf returns who makes the request. Without one, nobody does: it may see and change nothing.
func IdentityOf(ctx context.Context) Identity {
	identity, _ := ctx.Value(identityKey{}).(Identity)
	return identity
}
