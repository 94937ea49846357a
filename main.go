// Forebay is a durable queue for LLM work. See README.md.
package main

import (
	"context"
	"embed"
	"os"

	"github.com/forebay-queue/forebay/deploy/command"
)

// documents are what `forebay demo` summarises where it finds no others. Only this package can embed them.
//
//go:embed README.md CHANGELOG.md docs
var documents embed.FS

func main() {
	command.Documents = documents
	os.Exit(command.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
