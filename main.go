// Forebay is a durable queue for LLM work. See README.md.
package main

import (
	"context"
	"os"

	"github.com/forebay-queue/forebay/deploy/command"
)

func main() {
	os.Exit(command.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
