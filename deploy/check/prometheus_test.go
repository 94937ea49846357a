package check_test

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// alerts are the rules as Prometheus itself reads them: unknown fields, expressions and templates that it would refuse are
// errors.
func alerts(t *testing.T) []rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.ParseFile(filepath.Join(root, "deploy/prometheus/alerts.yaml"), false, model.UTF8Validation, promql, slog.Default())
	require.Empty(t, errs)
	var rules []rulefmt.Rule
	for _, group := range groups.Groups {
		rules = append(rules, group.Rules...)
	}
	require.NotEmpty(t, rules)
	return rules
}

func TestAlertsAskForWhatIsServed(t *testing.T) {
	t.Parallel()
	known := series(t)
	for _, rule := range alerts(t) {
		assert.Empty(t, unknown(rule.Expr, known), rule.Alert)
		assert.Contains(t, []string{"critical", "warning", "info"}, rule.Labels["severity"], rule.Alert)
		for _, match := range labelsOf.FindAllStringSubmatch(rule.Annotations["summary"], -1) {
			if strings.Contains(rule.Expr, " by (") {
				assert.Contains(t, rule.Expr, match[1], "%s names a label that its expression does not keep", rule.Alert)
			}
		}
	}
}

// TestEveryAlertHasItsRunbook, and every runbook its alert.
func TestEveryAlertHasItsRunbook(t *testing.T) {
	t.Parallel()
	runbooks := map[string]bool{}
	files, err := filepath.Glob(filepath.Join(root, "docs/runbooks/Forebay*.md"))
	require.NoError(t, err)
	for _, file := range files {
		runbooks[strings.TrimSuffix(filepath.Base(file), ".md")] = true
	}
	index := string(read(t, "docs/runbooks/README.md"))
	for _, rule := range alerts(t) {
		name := rule.Alert
		assert.Equal(t, "https://github.com/forebay-queue/forebay/blob/main/docs/runbooks/"+name+".md", rule.Annotations["runbook_url"])
		assert.NotEmpty(t, rule.Annotations["summary"], name)
		assert.NotEmpty(t, rule.Annotations["description"], name)
		require.True(t, runbooks[name], "%s has no runbook", name)
		delete(runbooks, name)
		text := string(read(t, "docs/runbooks", name+".md"))
		assert.True(t, strings.HasPrefix(text, "# "+name+"\n"), name)
		assert.Contains(t, text, "\n## Look\n", name)
		assert.Contains(t, text, "\n## Do\n", name)
		assert.Contains(t, index, "["+name+"]("+name+".md) | "+rule.Labels["severity"]+" |", name)
	}
	assert.Empty(t, runbooks, "runbooks of no alert")
}

// TestPrometheusFindsTheProcesses holds the jobs of prometheus.yml against the services of the compose file, and the
// addresses at which those listen. Prometheus' own reader of that file takes too long to build.
func TestPrometheusFindsTheProcesses(t *testing.T) {
	t.Parallel()
	var config struct {
		Global        map[string]string `json:"global"`
		RuleFiles     []string          `json:"rule_files"`
		ScrapeConfigs []struct {
			JobName string `json:"job_name"`
			DNS     []struct {
				Names    []string `json:"names"`
				Type     string   `json:"type"`
				Port     int      `json:"port"`
				Interval string   `json:"refresh_interval"`
			} `json:"dns_sd_configs"`
		} `json:"scrape_configs"`
	}
	require.NoError(t, yaml.UnmarshalStrict(read(t, "deploy/prometheus/prometheus.yml"), &config))
	services := project(t).Services
	for _, scraped := range config.ScrapeConfigs {
		for _, target := range scraped.DNS {
			require.Len(t, target.Names, 1)
			name := target.Names[0]
			assert.Equal(t, "forebay-"+name, scraped.JobName)
			require.Contains(t, services, name)
			assert.Contains(t, services[name].Command, "0.0.0.0:9464")
			assert.Equal(t, 9464, target.Port)
		}
	}
	assert.Len(t, config.ScrapeConfigs, 3)
	for _, file := range config.RuleFiles {
		_, err := os.Stat(filepath.Join(root, "deploy/prometheus", filepath.Base(file)))
		assert.NoError(t, err)
	}
}

// dashboard is what is looked at of Grafana's.
type dashboard struct {
	UID    string
	Panels []struct {
		ID          int
		Type, Title string
		Description string
		GridPos     struct{ H, W, X, Y int }
		Targets     []struct{ Expr, LegendFormat string }
	}
	Templating struct {
		List []struct {
			Name  string
			Type  string
			Query any
		}
	}
}

func TestDashboardAsksForWhatIsServed(t *testing.T) {
	t.Parallel()
	var shown dashboard
	require.NoError(t, json.Unmarshal(read(t, "deploy/grafana/dashboards/forebay.json"), &shown))
	known, asked := series(t), ""
	ids := map[int]bool{}
	for _, panel := range shown.Panels {
		assert.False(t, ids[panel.ID], "two panels %d", panel.ID)
		ids[panel.ID] = true
		assert.LessOrEqual(t, panel.GridPos.X+panel.GridPos.W, 24, panel.Title)
		if panel.Type == "row" {
			continue
		}
		assert.NotEmpty(t, panel.Description, panel.Title)
		require.NotEmpty(t, panel.Targets, panel.Title)
		for _, target := range panel.Targets {
			assert.Empty(t, unknown(target.Expr, known), panel.Title)
			asked += target.Expr + "\n"
		}
	}
	for _, rule := range alerts(t) {
		asked += rule.Expr + "\n"
	}
	for name := range known {
		name = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		assert.Contains(t, asked, name, "a series that neither the dashboard nor an alert uses")
	}
}

// TestGrafanaFindsTheDashboard holds the provisioning against what the compose file mounts.
func TestGrafanaFindsTheDashboard(t *testing.T) {
	t.Parallel()
	mounted := map[string]string{}
	for _, volume := range project(t).Services["grafana"].Volumes {
		mounted[volume.Target] = volume.Source
	}
	var providers struct {
		APIVersion int `json:"apiVersion"`
		Providers  []struct {
			Name            string            `json:"name"`
			Type            string            `json:"type"`
			DisableDeletion bool              `json:"disableDeletion"`
			AllowUIUpdates  bool              `json:"allowUiUpdates"`
			Options         map[string]string `json:"options"`
		} `json:"providers"`
	}
	require.NoError(t, yaml.UnmarshalStrict(read(t, "deploy/grafana/provisioning/dashboards/forebay.yaml"), &providers))
	require.Len(t, providers.Providers, 1)
	source := mounted[providers.Providers[0].Options["path"]]
	require.NotEmpty(t, source, "the folder of dashboards is not mounted")
	_, err := os.Stat(filepath.Join(source, "forebay.json"))
	require.NoError(t, err)
	assert.Contains(t, mounted, "/etc/grafana/provisioning")
	var sources struct {
		APIVersion  int              `json:"apiVersion"`
		Datasources []map[string]any `json:"datasources"`
	}
	require.NoError(t, yaml.UnmarshalStrict(read(t, "deploy/grafana/provisioning/datasources/prometheus.yaml"), &sources))
	require.Len(t, sources.Datasources, 1)
	assert.Equal(t, "http://prometheus:9090", sources.Datasources[0]["url"])
}
