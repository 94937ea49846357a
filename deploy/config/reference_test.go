package config

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/catalog"
)

//go:generate go test -run ^TestReference$ -update-reference .

var updateReference = flag.Bool("update-reference", false, "write docs/configuration.md anew")

const referencePage = "../../docs/configuration.md"

// The page is made of the types, of what they say of themselves, and of what Parse puts in the place of what is left out.
func TestReference(t *testing.T) {
	t.Parallel()
	r := newReference(t)
	page := r.page()
	if *updateReference {
		require.NoError(t, os.WriteFile(referencePage, []byte(page), 0o644))
	}
	written, err := os.ReadFile(referencePage)
	require.NoError(t, err)
	require.Equal(t, string(written), page, "docs/configuration.md is stale; `go generate ./deploy/config` writes it anew")
	assert.Empty(t, regexp.MustCompile(`(?m)^.*\|  ?\|$`).FindAllString(page, -1), "fields without a comment that says what they are")
	assert.Empty(t, regexp.MustCompile(`\b[A-Z][a-z]+[A-Z][A-Za-z]+\b`).FindAllString(strings.NewReplacer("OpenAI", "", "OpenTelemetry", "").Replace(page), -1),
		"names of Go's; have `words` know them, or write the comments without them")
}

// smallest is the smallest of each thing that a file may have: what stands here is required.
const smallest = `
accounts: {a: {key_env: A_KEY}}
endpoints: {e: {account: a, url: "http://127.0.0.1:8000/v1", priority: 1}}
models: {m: {output: 1}, v: {kind: embedding, input: 1}}
tiers: [{name: t, models: [m]}]
task_types: {k: {model: m}}
webhooks:
  secrets: [{keys: [{env: A_SECRET}]}]
  subscriptions: [{url: "https://example.com/hook"}]
schedules: [{name: s, cron: "@daily", job: {task_type: k, input: text}}]
encryption: {keys: [{id: i, env: AN_ENV}]}
tenants: {n: {}}
alerts: {channels: [{name: c, type: slack, url_env: A_URL}]}
`

// eitherOr are fields of which one of two is required.
var eitherOr = map[string]string{
	"accounts.*.key_env": "key_file", "encryption.keys.*.env": "file", "webhooks.secrets.*.keys.*.env": "file",
	"alerts.channels.*.url_env": "url_file",
}

// required are the fields that stand in smallest.
func required(t *testing.T) map[string]bool {
	t.Helper()
	bare := parseSmallest(t)
	found := map[string]bool{}
	for key := range bare.places {
		found[key] = true
	}
	return found
}

func parseSmallest(t *testing.T) *File {
	t.Helper()
	file, err := Parse("forebay.yaml", []byte(smallest))
	require.NoError(t, err)
	return file
}

// What the page calls required is: without it the file is refused.
func TestSmallestIsSmallest(t *testing.T) {
	t.Parallel()
	for _, without := range []string{
		"{key_env: A_KEY}", "account: a, ", `url: "http://127.0.0.1:8000/v1", `, ", priority: 1", "output: 1", ", input: 1", "name: t, ", "{model: m}",
		"keys: [{env: A_SECRET}]", "{env: A_SECRET}", `{url: "https://example.com/hook"}`, "name: s, ", `cron: "@daily", `,
		", job: {task_type: k, input: text}", "id: i, ", ", env: AN_ENV",
		"name: c, ", "type: slack, ", ", url_env: A_URL",
	} {
		require.Contains(t, smallest, without)
		instead := ""
		if strings.HasPrefix(without, "{") {
			instead = "{}"
		}
		_, err := Parse("forebay.yaml", []byte(strings.Replace(smallest, without, instead, 1)))
		assert.Error(t, err, without)
	}
}

// reference writes the page.
type reference struct {
	docs  map[string]string // of Type and of Type.Field
	file  *File
	needs map[string]bool
	told  map[reflect.Type]string // where the fields of a type stand
	text  strings.Builder
}

func newReference(t *testing.T) *reference {
	t.Helper()
	r := &reference{docs: map[string]string{}, told: map[reflect.Type]string{}, file: parseSmallest(t), needs: required(t)}
	for _, folder := range []string{".", "../../tasks/catalog"} {
		files, err := filepath.Glob(filepath.Join(folder, "*.go"))
		require.NoError(t, err)
		for _, name := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
			require.NoError(t, err)
			if !strings.HasSuffix(name, "_test.go") {
				r.read(parsed)
			}
		}
	}
	return r
}

// read collects the comments of a file's structs. A field without one is told of by the one before.
func (r *reference) read(file *ast.File) {
	for _, declared := range file.Decls {
		general, ok := declared.(*ast.GenDecl)
		if !ok || general.Tok != token.TYPE {
			continue
		}
		for _, spec := range general.Specs {
			named := spec.(*ast.TypeSpec) //nolint:forcetypeassert // a declaration of types has nothing else
			structure, ok := named.Type.(*ast.StructType)
			if !ok {
				continue
			}
			of := file.Name.Name + "." + named.Name.Name
			r.docs[of] = flat(general.Doc.Text())
			for _, field := range structure.Fields.List {
				for _, name := range field.Names {
					r.docs[of+"."+name.Name] = flat(field.Doc.Text())
				}
			}
		}
	}
}

func flat(text string) string { return strings.Join(strings.Fields(text), " ") }

const referenceHead = `# Configuration

Every field of ` + "`forebay.yaml`" + `, made from the types that it is read into: ` + "`go generate ./deploy/config`" + ` writes this page, and a test
fails where it is stale. ` + "[example.yaml](../deploy/config/example.yaml), which `forebay config init` writes," + ` is a whole file with the
same fields. ` + "`forebay config check`" + ` names every mistake by line and column. What is not known is refused, never ignored. How
changes are taken up while processes run: [operations.md](operations.md#changing-the-configuration).

Durations are written as ` + "`500ms`, `30s`, `5m` or `1h30m`" + `. ` + "`NAME`" + ` stands for a name that you choose, 1 to 64 characters of
A-Z a-z 0-9 _ . - (for models any printable ones), and ` + "`[]`" + ` for each entry of a list. A default of – is none, or the one that the text names. Secrets never stand in the
file: it names the environment variables or files that hold them.
`

func (r *reference) page() string {
	r.text.WriteString(referenceHead)
	root := reflect.TypeFor[File]()
	r.sections(root, "config.File")
	return r.text.String()
}

// sections writes one for each field at the top, and for those of the catalog.
func (r *reference) sections(typ reflect.Type, of string) {
	for field := range typ.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		switch {
		case !field.IsExported() || name == "-":
			continue
		case options == "inline":
			r.sections(field.Type, "catalog.Catalog")
			continue
		}
		inner := elem(field.Type)
		intro := subject(r.docs[inner.String()], inner.Name())
		switch own := r.docs[of+"."+field.Name]; {
		case own == "" || field.Type.Kind() == reflect.Struct:
		case field.Type.Kind() == reflect.Map: // the type's is of one of them
			intro = strings.TrimSpace(subject(own, field.Name) + " " + intro)
		default:
			intro = subject(own, field.Name)
		}
		fmt.Fprintf(&r.text, "\n## %s\n\n%s\n\n%s\n", name, r.prose(intro, typ), r.live(name))
		if inner.Kind() != reflect.Struct {
			continue
		}
		r.text.WriteString("| field | type | default | may be | what it is |\n|---|---|---|---|---|\n")
		r.rows(inner, step(field.Type, []string{name}))
	}
}

// elem is what the lists and mappings of a type hold in the end.
func elem(typ reflect.Type) reflect.Type {
	for {
		switch {
		case typ == servedType:
			return typ
		case typ.Kind() == reflect.Pointer, typ.Kind() == reflect.Map, typ.Kind() == reflect.Slice:
			typ = typ.Elem()
		default:
			return typ
		}
	}
}

// step goes on below lists and mappings that hold structs.
func step(typ reflect.Type, path []string) []string {
	for elem(typ).Kind() == reflect.Struct {
		switch typ.Kind() {
		case reflect.Pointer:
		case reflect.Map:
			path = child(path, "NAME")
		case reflect.Slice:
			path = child(path, "[]")
		default:
			return path
		}
		typ = typ.Elem()
	}
	return path
}

// rows writes those of a struct's fields. A field without a comment is told of by that of the one before.
func (r *reference) rows(typ reflect.Type, path []string) {
	shared, teller := "", ""
	for field := range typ.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if !field.IsExported() || name == "-" {
			continue
		}
		own := r.docs[typ.String()+"."+field.Name]
		var doc string
		switch {
		case own != "":
			shared, teller = own, name
			doc = r.prose(subject(own, field.Name), typ)
		case regexp.MustCompile(`\b` + field.Name + `\b`).MatchString(shared):
			doc = "See `" + teller + "`."
		default:
			shared, teller = r.docs[elem(field.Type).String()], name
			doc = r.prose(subject(shared, elem(field.Type).Name()), typ)
		}
		at, inner := child(path, name), elem(field.Type)
		if inner.Kind() != reflect.Struct {
			r.row(at, field.Type, doc)
			continue
		}
		below := step(field.Type, at)
		before, told := r.told[inner]
		if told {
			doc += " Fields as of `" + before + "`."
		}
		fmt.Fprintf(&r.text, "| `%s` | %s | | | %s |\n", shown(at), kindOf(field.Type), cell(doc))
		if !told {
			r.told[inner] = strings.Join(at, ".")
			r.rows(inner, below)
		}
	}
}

// row writes one field that holds a value.
func (r *reference) row(path []string, typ reflect.Type, doc string) {
	key := starred(path)
	may := allowed[key]
	if may == "" {
		may = unset[key]
	}
	byDefault, known := r.byDefault(path, key)
	may = strings.TrimSuffix(may, ".")
	doc = withoutRange(doc, may)
	if known {
		doc = withoutDefault(doc)
	}
	fmt.Fprintf(&r.text, "| `%s` | %s | %s | %s | %s |\n", shown(path), kindOf(typ), byDefault, cell(may), cell(strings.TrimSpace(doc)))
}

// byDefault is what Parse puts in the place of a field that is left out; false where that is nothing.
func (r *reference) byDefault(path []string, key string) (string, bool) {
	concrete := r.concrete(path)
	if r.needs[strings.Join(concrete, pathSeparator)] {
		if other := eitherOr[key]; other != "" {
			return "required, or `" + other + "`", true
		}
		return "required", true
	}
	value, ok := fieldAt(reflect.ValueOf(r.file).Elem(), concrete)
	if !ok || value.IsZero() || key == "models.*.input" {
		return "–", false
	}
	return "`" + written(value) + "`", true
}

// concrete is the path in smallest.
func (r *reference) concrete(path []string) []string {
	names := map[string]string{
		"accounts": "a", "endpoints": "e", "models": "m", "task_types": "k", "tenants": "n",
	}
	concrete := slices.Clone(path)
	for i, part := range concrete {
		switch {
		case part == "[]":
			concrete[i] = catalog.ListIndex(0)
		case part == "NAME" && i == 1:
			concrete[i] = names[path[0]]
		}
	}
	return concrete
}

func starred(path []string) string {
	parts := slices.Clone(path)
	for i, part := range parts {
		if part == "NAME" || part == "[]" {
			parts[i] = "*"
		}
	}
	return strings.Join(parts, ".")
}

func shown(path []string) string {
	return strings.ReplaceAll(strings.Join(path[1:], "."), ".[]", "[]")
}

func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
