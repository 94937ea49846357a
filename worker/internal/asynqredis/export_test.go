package asynqredis

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// OwnSources are the scripts that this package adds.
var OwnSources = []string{claimSource, putBackSource, setAsideSource, dueSource, completeSource, forwardSource}

// AsynqSources returns the scripts of asynq's broker by the names of their variables, read from its source.
var AsynqSources = sync.OnceValue(func() map[string]string {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/hibiken/asynq").Output()
	if err != nil {
		panic(fmt.Sprintf("find asynq's source: %v", err))
	}
	path := filepath.Join(strings.TrimSpace(string(dir)), "internal", "rdb", "rdb.go")
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		panic(err)
	}
	scripts := make(map[string]string)
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		call, ok := spec.Values[0].(*ast.CallExpr)
		if !ok {
			return true
		}
		if fun, ok := call.Fun.(*ast.SelectorExpr); ok && fun.Sel.Name == "NewScript" {
			source, err := strconv.Unquote(call.Args[0].(*ast.BasicLit).Value)
			if err != nil {
				panic(err)
			}
			scripts[spec.Names[0].Name] = source
		}
		return true
	})
	return scripts
})

// CompleteSource and CompleteSHA are complete.lua and its name, which stand for asynq's markAsComplete.
var (
	CompleteSource = completeSource
	CompleteSHA    = completeScript.Hash()
)
