package main_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	testDeclared = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Z0-9]\w*)\(`)
	testNamed    = regexp.MustCompile("`((?:Test|Fuzz)[A-Z0-9]\\w*)`")
)

// Every test that a page names is one that there is, and every promise names one.
func TestPagesNameTestsThatExist(t *testing.T) {
	t.Parallel()
	declared := map[string]bool{}
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, found := range testDeclared.FindAllSubmatch(text, -1) {
			declared[string(found[1])] = true
		}
		return err
	}))
	pages, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	for _, page := range pages {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, named := range testNamed.FindAllStringSubmatch(string(text), -1) {
			assert.True(t, declared[named[1]], "%s names %s, and there is no such test", page, named[1])
		}
		if filepath.Base(page) != "guarantees.md" {
			continue
		}
		promises := regexp.MustCompile(`(?m)^\*\*`).Split(string(text), -1)
		for _, promise := range promises[1:] {
			assert.Regexp(t, "(?m)^Held by `", promise, "a promise without a test")
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// Every link of the pages to a file of the repository, and to a heading, leads somewhere.
func TestPagesLinkToWhatExists(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	more, err := filepath.Glob("docs/*/*.md")
	require.NoError(t, err)
	for _, page := range append(append(pages, more...), "README.md") {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, found := range link.FindAllStringSubmatch(string(text), -1) {
			target, anchor, _ := strings.Cut(found[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := page
			if target != "" {
				path = filepath.Join(filepath.Dir(page), target)
			}
			there, err := os.ReadFile(path)
			if info, stat := os.Stat(path); stat == nil && info.IsDir() {
				continue
			}
			if assert.NoError(t, err, "%s links to %s", page, found[1]) && anchor != "" {
				assert.Contains(t, anchors(string(there)), anchor, "%s links to %s", page, found[1])
			}
		}
	}
}

// anchors are those that a page's headings have where they are shown.
func anchors(page string) map[string]bool {
	found := map[string]bool{}
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(page, -1) {
		name := regexp.MustCompile(`[^\w\- ]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		found[strings.ReplaceAll(name, " ", "-")] = true
	}
	return found
}
