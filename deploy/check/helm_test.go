package check_test

import (
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

const (
	chartDir     = root + "/deploy/helm/forebay"
	kubernetes   = "v1.33.0"
	smallestFile = "worker:\n  drain_timeout: 3m\n"
)

// values are those of one deployment, on top of the chart's.
type values = map[string]any

// deployments are what people install.
func deployments() map[string]values {
	keda := func(scaler string, addresses []any, more values) values {
		settings := values{"scaler": scaler, "addresses": addresses, "tls": true, "username": "keda", "passwordSecret": values{"name": "redis"}}
		for name, value := range more {
			settings[name] = value
		}
		return values{"autoscaling": values{"kind": "keda", "keda": settings}}
	}
	return map[string]values{
		"smallest": {"config": smallestFile},
		"everything": {
			"config": smallestFile, "secretRefs": []any{"forebay-keys"}, "restartOnConfigChange": true, "priorityClassName": "high",
			"secretMounts":     []any{values{"secretName": "forebay-keys", "mountPath": "/run/secrets/forebay"}},
			"env":              []any{values{"name": "A", "value": "b"}},
			"files":            values{"existingClaim": "files"},
			"imagePullSecrets": []any{values{"name": "registry"}},
			"image":            values{"digest": "sha256:" + strings.Repeat("a", 64)},
			"podAnnotations":   values{"a": "b"}, "podLabels": values{"team": "queues"},
			"nodeSelector": values{"disk": "ssd"}, "tolerations": []any{values{"key": "queues", "operator": "Exists"}},
			"affinity": values{"nodeAffinity": values{}},
			"networkPolicy": values{
				"producerFrom": []any{values{"namespaceSelector": values{"matchLabels": values{"a": "b"}}}},
				"metricsFrom":  []any{values{"podSelector": values{"matchLabels": values{"app": "prometheus"}}}},
				"redisTo":      []any{values{"ipBlock": values{"cidr": "10.0.0.0/8"}}}, "redisPorts": []any{6379, 26379},
				"outboundTo": []any{values{"ipBlock": values{"cidr": "0.0.0.0/0", "except": []any{"169.254.169.254/32"}}}},
				"dnsTo":      []any{values{"namespaceSelector": values{}}},
			},
			"monitoring": values{"podMonitor": values{"enabled": true, "labels": values{"release": "prometheus"}}},
			"service":    values{"annotations": values{"a": "b"}},
		},
		"existing ConfigMap": {"existingConfigMap": "mine", "assume": values{"drainTimeout": "1h30m"}, "serviceAccount": values{"create": false}, "networkPolicy": values{"enabled": false}},
		"hpa":                {"config": smallestFile, "worker": values{"autoscaling": values{"kind": "hpa"}}},
		"keda":               {"config": smallestFile, "worker": keda("redis", []any{"redis:6379"}, nil)},
		"keda, Sentinel": {
			"config": "redis: {url: \"redis-sentinel://a:26379/0?master=mine\"}\n",
			"worker": keda("redis-sentinel", []any{"a:26379", "b:26379"}, values{"sentinelMaster": "mine", "sentinelPasswordSecret": values{"name": "sentinel"}}),
		},
		"keda, Cluster with shards": {
			"config": "redis: {url: redis-cluster://a:6379, prefix: \"mine:\"}\nqueues: {shards: 2}\n",
			"worker": keda("redis-cluster", []any{"a:6379", "b:6379"}, nil),
		},
	}
}

// render is `helm template`: the manifests by kind and name.
func render(t *testing.T, with values) (map[string][]byte, error) {
	t.Helper()
	chart, err := loader.Load(chartDir)
	require.NoError(t, err)
	capabilities := *chartutil.DefaultCapabilities
	version, err := chartutil.ParseKubeVersion(kubernetes)
	require.NoError(t, err)
	capabilities.KubeVersion = *version
	all, err := chartutil.ToRenderValues(chart, with, chartutil.ReleaseOptions{Name: "test", Namespace: "queues", IsInstall: true}, &capabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return nil, err
	}
	manifests := map[string][]byte{}
	for name, text := range files {
		if path.Ext(name) == ".txt" {
			assert.NotContains(t, text, "<no value>")
			continue
		}
		for _, document := range strings.Split("\n"+text, "\n---") {
			if strings.TrimSpace(document) == "" {
				continue
			}
			var object struct {
				metav1.TypeMeta   `json:",inline"`
				metav1.ObjectMeta `json:"metadata"`
			}
			require.NoError(t, yaml.Unmarshal([]byte(document), &object), "%s:\n%s", name, document)
			require.NotEmpty(t, object.Kind, "%s:\n%s", name, document)
			manifests[object.Kind+"/"+object.Name] = []byte(document)
		}
	}
	return manifests, nil
}

func rendered(t *testing.T, with values) map[string][]byte {
	t.Helper()
	manifests, err := render(t, with)
	require.NoError(t, err)
	return manifests
}

// decode reads a manifest as Kubernetes does with strict validation: an unknown or doubled field is an error.
func decode[T any](t *testing.T, manifests map[string][]byte, name string) (object T) {
	t.Helper()
	require.Contains(t, manifests, name)
	require.NoError(t, yaml.UnmarshalStrict(manifests[name], &object), "%s:\n%s", name, manifests[name])
	return object
}

// decoders are the kinds that the chart has.
var decoders = map[string]func(*testing.T, map[string][]byte, string){
	"Deployment":          func(t *testing.T, m map[string][]byte, name string) { decode[appsv1.Deployment](t, m, name) },
	"Service":             func(t *testing.T, m map[string][]byte, name string) { decode[corev1.Service](t, m, name) },
	"ServiceAccount":      func(t *testing.T, m map[string][]byte, name string) { decode[corev1.ServiceAccount](t, m, name) },
	"ConfigMap":           func(t *testing.T, m map[string][]byte, name string) { decode[corev1.ConfigMap](t, m, name) },
	"PodDisruptionBudget": func(t *testing.T, m map[string][]byte, name string) { decode[policyv1.PodDisruptionBudget](t, m, name) },
	"NetworkPolicy":       func(t *testing.T, m map[string][]byte, name string) { decode[networkingv1.NetworkPolicy](t, m, name) },
	"HorizontalPodAutoscaler": func(t *testing.T, m map[string][]byte, name string) {
		decode[autoscalingv2.HorizontalPodAutoscaler](t, m, name)
	},
	"ScaledObject": func(t *testing.T, m map[string][]byte, name string) { byCRD(t, "keda.sh_scaledobjects.yaml", m[name]) },
	"TriggerAuthentication": func(t *testing.T, m map[string][]byte, name string) {
		byCRD(t, "keda.sh_triggerauthentications.yaml", m[name])
	},
	"PodMonitor": podMonitor,
}

func TestChartIsWhatKubernetesTakes(t *testing.T) {
	t.Parallel()
	for name, with := range deployments() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			manifests := rendered(t, with)
			for object := range manifests {
				kind, _, _ := strings.Cut(object, "/")
				require.Contains(t, decoders, kind)
				decoders[kind](t, manifests, object)
			}
			for _, process := range []string{"worker", "producer", "scheduler"} {
				checkPods(t, decode[appsv1.Deployment](t, manifests, "Deployment/test-forebay-"+process))
				checkSelectors(t, manifests, process)
			}
		})
	}
}

func TestChartLints(t *testing.T) {
	t.Parallel()
	version, err := chartutil.ParseKubeVersion(kubernetes)
	require.NoError(t, err)
	for name, with := range deployments() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, message := range lint.AllWithKubeVersion(chartDir, with, "queues", version).Messages {
				if message.Severity > support.InfoSev {
					assert.NoError(t, message)
				}
			}
		})
	}
}

// checkPods is Kubernetes' restricted standard for pods, and what Forebay itself needs.
func checkPods(t *testing.T, d appsv1.Deployment) {
	t.Helper()
	pod := d.Spec.Template.Spec
	assert.True(t, *pod.SecurityContext.RunAsNonRoot)
	assert.EqualValues(t, 65532, *pod.SecurityContext.RunAsUser, "the image's")
	assert.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, pod.SecurityContext.SeccompProfile.Type)
	assert.False(t, *pod.AutomountServiceAccountToken)
	require.Len(t, pod.Containers, 1)
	container := pod.Containers[0]
	assert.True(t, *container.SecurityContext.ReadOnlyRootFilesystem)
	assert.False(t, *container.SecurityContext.AllowPrivilegeEscalation)
	assert.Equal(t, []corev1.Capability{"ALL"}, container.SecurityContext.Capabilities.Drop)
	assert.NotEmpty(t, container.Resources.Limits.Memory().String())
	assert.Contains(t, container.Args, "--ops-listen")
	for probe, want := range map[*corev1.Probe]string{
		container.StartupProbe: "/healthz", container.LivenessProbe: "/healthz", container.ReadinessProbe: "/readyz",
	} {
		assert.Equal(t, want, probe.HTTPGet.Path)
		assert.Equal(t, "ops", probe.HTTPGet.Port.String())
	}
	for _, variable := range container.Env {
		assert.NotContains(t, variable.Name, "KEY", "a secret by value")
	}
	mounted := map[string]bool{}
	for _, volume := range pod.Volumes {
		mounted[volume.Name] = true
	}
	for _, mount := range container.VolumeMounts {
		assert.True(t, mounted[mount.Name], mount.Name)
		assert.Empty(t, mount.SubPath, "a file that is mounted alone never changes")
	}
}

// checkSelectors has everything that selects pods of a process select them, and no others.
func checkSelectors(t *testing.T, manifests map[string][]byte, process string) {
	t.Helper()
	pods := func(process string) labels.Set {
		return decode[appsv1.Deployment](t, manifests, "Deployment/test-forebay-"+process).Spec.Template.Labels
	}
	selectors := map[string]*metav1.LabelSelector{
		"deployment": decode[appsv1.Deployment](t, manifests, "Deployment/test-forebay-"+process).Spec.Selector,
		"budget":     decode[policyv1.PodDisruptionBudget](t, manifests, "PodDisruptionBudget/test-forebay-"+process).Spec.Selector,
	}
	if name := "NetworkPolicy/test-forebay-" + process; manifests[name] != nil {
		policy := decode[networkingv1.NetworkPolicy](t, manifests, name)
		selectors["policy"] = &policy.Spec.PodSelector
	}
	if process == "producer" {
		service := decode[corev1.Service](t, manifests, "Service/test-forebay")
		selectors["service"] = &metav1.LabelSelector{MatchLabels: service.Spec.Selector}
	}
	for what, selector := range selectors {
		matches, err := metav1.LabelSelectorAsSelector(selector)
		require.NoError(t, err)
		for _, other := range []string{"worker", "producer", "scheduler"} {
			assert.Equal(t, other == process, matches.Matches(pods(other)), "%s of %s and pods of %s", what, process, other)
		}
	}
}

func TestChartLetsWorkersDrain(t *testing.T) {
	t.Parallel()
	for drain, want := range map[string]int64{"2m": 150, "90s": 120, "1h30m": 5430, "1.5h": 5430, "1m30s500ms": 121} {
		worker := decode[appsv1.Deployment](t, rendered(t, values{"config": "worker:\n  drain_timeout: " + drain + "\n"}), "Deployment/test-forebay-worker")
		assert.Equal(t, want, *worker.Spec.Template.Spec.TerminationGracePeriodSeconds, drain)
	}
	worker := decode[appsv1.Deployment](t, rendered(t, deployments()["existing ConfigMap"]), "Deployment/test-forebay-worker")
	assert.EqualValues(t, 5430, *worker.Spec.Template.Spec.TerminationGracePeriodSeconds)
}

// TestChartRefuses has what cannot work fail at the installation, with words that help.
func TestChartRefuses(t *testing.T) {
	t.Parallel()
	for want, with := range map[string]values{
		"there is no configuration: --set-file config=forebay.yaml": {},
		"give one of them": {"config": smallestFile, "existingConfigMap": "mine"},
		"must be longer than worker.drain_timeout (180s)": {"config": smallestFile, "worker": values{"terminationGracePeriodSeconds": 60}},
		"config is no YAML": {"config": "worker: [\n"},
		"workers":           {"config": smallestFile, "workers": values{"replicas": 3}}, // a misspelt value
		"sentinelMaster":    {"config": smallestFile, "worker": values{"autoscaling": values{"kind": "keda", "keda": values{"scaler": "redis-sentinel"}}}},
	} {
		_, err := render(t, with)
		assert.ErrorContains(t, err, want)
	}
}

func TestChartIsThisVersions(t *testing.T) {
	t.Parallel()
	chart, err := loader.Load(chartDir)
	require.NoError(t, err)
	manifests := rendered(t, values{"config": smallestFile})
	worker := decode[appsv1.Deployment](t, manifests, "Deployment/test-forebay-worker")
	assert.Equal(t, "ghcr.io/forebay-queue/forebay:v"+chart.AppVersion(), worker.Spec.Template.Spec.Containers[0].Image)
	config := decode[corev1.ConfigMap](t, manifests, "ConfigMap/test-forebay-config")
	assert.Equal(t, smallestFile, config.Data["forebay.yaml"])
	for _, file := range chart.Raw {
		assert.NotEqual(t, ".md", filepath.Ext(file.Name))
	}
}
