package check_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
)

// series are what processes serve, as deploy/prometheus/series.txt lists them: labels by name. A histogram stands with the
// three names under which it is asked for.
func series(t *testing.T) map[string][]string {
	t.Helper()
	known := map[string][]string{"up": nil} // Prometheus' own
	for line := range strings.Lines(string(read(t, "deploy/prometheus/series.txt"))) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		require.Len(t, fields, 3, line)
		var labels []string
		if fields[2] != "-" {
			labels = strings.Split(fields[2], ",")
		}
		require.NotContains(t, known, fields[0])
		switch name := fields[0]; fields[1] {
		case "histogram":
			known[name+"_bucket"] = append(slices.Clone(labels), "le")
			known[name+"_sum"], known[name+"_count"] = labels, labels
		case "counter":
			require.True(t, strings.HasSuffix(name, "_total"), name)
			known[name] = labels
		case "gauge":
			known[name] = labels
		default:
			require.Fail(t, "no such type", line)
		}
	}
	return known
}

var promql = parser.NewParser(parser.Options{})

// grafanas are the variables that Grafana puts into an expression before Prometheus sees it.
var grafanas = strings.NewReplacer("$__rate_interval", "5m", "$endpoint", ".*")

// unknown says what an expression asks for that nobody serves: series, labels that are matched, labels that are grouped by.
func unknown(expression string, known map[string][]string) (problems []string) {
	parsed, err := promql.ParseExpr(grafanas.Replace(expression))
	if err != nil {
		return []string{err.Error()}
	}
	targets := []string{"job", "instance"}
	// served are the labels of everything that is asked for below a node.
	served := func(node parser.Node) (labels []string) {
		parser.Inspect(node, func(node parser.Node, _ []parser.Node) error {
			if selector, ok := node.(*parser.VectorSelector); ok {
				labels = append(append(labels, known[selector.Name]...), targets...)
			}
			return nil
		})
		return labels
	}
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		switch node := node.(type) {
		case *parser.VectorSelector:
			if _, ok := known[node.Name]; !ok {
				problems = append(problems, "nobody serves "+node.Name)
			}
			for _, matcher := range node.LabelMatchers {
				if matcher.Name != "__name__" && !slices.Contains(served(node), matcher.Name) {
					problems = append(problems, fmt.Sprintf("%s has no label %q", node.Name, matcher.Name))
				}
			}
		case *parser.AggregateExpr:
			for _, label := range node.Grouping {
				if !slices.Contains(served(node.Expr), label) {
					problems = append(problems, fmt.Sprintf("%s has no label %q", node.Expr, label))
				}
			}
		}
		return nil
	})
	return problems
}

// labelsOf finds the labels that an annotation names.
var labelsOf = regexp.MustCompile(`\{\{-? ?\$labels\.([a-z_]+) ?-?\}\}`)

func TestUnknownSeriesAreSeen(t *testing.T) {
	t.Parallel()
	known := map[string][]string{"a_total": {"x"}, "b_bucket": {"le"}}
	for expression, want := range map[string][]string{
		`sum by (x) (rate(a_total[5m]))`:                            nil,
		`histogram_quantile(0.9, sum by (le) (rate(b_bucket[5m])))`: nil,
		`rate(c_total[5m])`:                                         {"nobody serves c_total"},
		`a_total{y="1"}`:                                            {`a_total has no label "y"`},
		`sum by (y) (a_total)`:                                      {`a_total has no label "y"`},
	} {
		require.Equal(t, want, unknown(expression, known), expression)
	}
	require.NotEmpty(t, unknown("sum(", known))
}
