package config

import (
	_ "embed" // for example.yaml
	"slices"
)

//go:embed example.yaml
var example []byte

// Example is a commented forebay.yaml that documents every value, as `forebay config init` writes it: a deployment
// over three regional endpoints and two accounts.
func Example() []byte { return slices.Clone(example) }
