// The autoscalers: that they ask for metrics there are, and that what they ask for comes out right.
package kubernetes

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"text/template"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"
)

// adapterRules is the part of the Prometheus adapter's configuration that we use, by its documentation; the adapter itself
// is not among the modules that can be had.
type adapterRules struct {
	Rules []struct {
		SeriesQuery string `json:"seriesQuery"`
		Resources   struct {
			Overrides map[string]struct {
				Resource string `json:"resource"`
			} `json:"overrides"`
		} `json:"resources"`
		Name struct {
			As string `json:"as"`
		} `json:"name"`
		MetricsQuery string `json:"metricsQuery"`
	} `json:"rules"`
}

// adapterQueries are the queries that the adapter makes of its rules when it is asked for the pods a, b and d.
func adapterQueries(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(manifests("components/hpa/prometheus-adapter.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var rules adapterRules
	if err := yaml.UnmarshalStrict(text, &rules); err != nil {
		t.Fatal(err)
	}
	queries := map[string]string{}
	for _, rule := range rules.Rules {
		series, matchers, found := strings.Cut(rule.SeriesQuery, "{")
		if !found || matchers != `namespace!="",pod!=""}` || rule.Resources.Overrides["namespace"].Resource != "namespace" ||
			rule.Resources.Overrides["pod"].Resource != "pod" {
			t.Errorf("%s is not found by namespace and pod", rule.SeriesQuery)
		}
		var query strings.Builder
		parsed := template.Must(template.New("").Delims("<<", ">>").Option("missingkey=error").Parse(rule.MetricsQuery))
		if err := parsed.Execute(&query, map[string]string{"Series": series, "GroupBy": "pod",
			"LabelMatchers": `namespace="` + namespace + `",pod=~"a|b|d"`}); err != nil {
			t.Fatal(err)
		}
		queries[rule.Name.As] = query.String()
	}
	return queries
}

func hpa(t *testing.T) *autoscalingv2.HorizontalPodAutoscaler {
	return one[*autoscalingv2.HorizontalPodAutoscaler](t, find(t, "base+hpa"))
}

func keda(t *testing.T) *kedav1alpha1.ScaledObject {
	return one[*kedav1alpha1.ScaledObject](t, find(t, "base+keda"))
}

func find(t *testing.T, name string) variant {
	t.Helper()
	for _, v := range variants(t) {
		if v.name == name {
			return v
		}
	}
	t.Fatalf("no variant %s", name)
	return variant{}
}

func TestTheAdapterServesWhatTheAutoscalerAsksFor(t *testing.T) {
	queries := adapterQueries(t)
	metrics := hpa(t).Spec.Metrics
	if len(metrics) != 2 || len(queries) != 2 {
		t.Fatalf("%d metrics, %d rules", len(metrics), len(queries))
	}
	for _, metric := range metrics {
		if metric.Type != autoscalingv2.PodsMetricSourceType || queries[metric.Pods.Metric.Name] == "" {
			t.Errorf("no rule for %v", metric)
		}
	}
}

func TestTheirMetricsExist(t *testing.T) {
	names := metricNames(t)
	queries := adapterQueries(t)
	for _, trigger := range keda(t).Spec.Triggers {
		queries["keda "+trigger.Name] = trigger.Metadata["query"]
	}
	for what, query := range queries {
		used := regexp.MustCompile(`ebbinghaus_\w+`).FindAllString(query, -1)
		if len(used) != 2 {
			t.Errorf("%s: %v", what, used)
		}
		for _, name := range used {
			if !names[name] {
				t.Errorf("%s: the server has no metric %s", what, name)
			}
		}
	}
}

// Two busy replicas, one that loads, and one of somebody else.
const series = `
  - interval: 1m
    input_series:
      - {series: 'ebbinghaus_requests_queued{namespace="ebbinghaus",pod="a"}', values: "3"}
      - {series: 'ebbinghaus_requests_running{namespace="ebbinghaus",pod="a",mode="baseline"}', values: "10"}
      - {series: 'ebbinghaus_requests_running{namespace="ebbinghaus",pod="a",mode="sparse_attention"}', values: "6"}
      - {series: 'ebbinghaus_kv_used_bytes{namespace="ebbinghaus",pod="a",mode="baseline"}', values: "300"}
      - {series: 'ebbinghaus_kv_used_bytes{namespace="ebbinghaus",pod="a",mode="sparse_attention"}', values: "200"}
      - {series: 'ebbinghaus_kv_capacity_bytes{namespace="ebbinghaus",pod="a"}', values: "1000"}
      - {series: 'ebbinghaus_requests_queued{namespace="ebbinghaus",pod="b"}', values: "0"}
      - {series: 'ebbinghaus_requests_running{namespace="ebbinghaus",pod="b",mode="baseline"}', values: "4"}
      - {series: 'ebbinghaus_kv_used_bytes{namespace="ebbinghaus",pod="b",mode="baseline"}', values: "250"}
      - {series: 'ebbinghaus_kv_capacity_bytes{namespace="ebbinghaus",pod="b"}', values: "2000"}
      - {series: 'ebbinghaus_requests_queued{namespace="ebbinghaus",pod="d"}', values: "0"}
      - {series: 'ebbinghaus_requests_running{namespace="ebbinghaus",pod="d",mode="baseline"}', values: "0"}
      - {series: 'ebbinghaus_kv_used_bytes{namespace="ebbinghaus",pod="d",mode="baseline"}', values: "0"}
      - {series: 'ebbinghaus_kv_capacity_bytes{namespace="ebbinghaus",pod="d"}', values: "0"}
      - {series: 'ebbinghaus_requests_queued{namespace="other",pod="a"}', values: "100"}
      - {series: 'ebbinghaus_requests_running{namespace="other",pod="a",mode="baseline"}', values: "100"}
      - {series: 'ebbinghaus_kv_used_bytes{namespace="other",pod="a",mode="baseline"}', values: "7000"}
      - {series: 'ebbinghaus_kv_capacity_bytes{namespace="other",pod="a"}', values: "9000"}
    promql_expr_test:`

type sample struct {
	Labels string  `json:"labels"`
	Value  float64 `json:"value"`
}

type expectation struct {
	Expr     string   `json:"expr"`
	EvalTime string   `json:"eval_time"`
	Samples  []sample `json:"exp_samples"`
}

// promtool evaluates queries over `series`, in Prometheus' own engine.
func promtool(t *testing.T, tests []expectation) error {
	t.Helper()
	expected, err := yaml.Marshal(tests)
	if err != nil {
		t.Fatal(err)
	}
	text := "evaluation_interval: 1m\ntests:" + series + "\n      " + strings.ReplaceAll(string(expected), "\n", "\n      ")
	file := filepath.Join(t.TempDir(), "queries.yml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	output, err := exec.Command("promtool", "test", "rules", file).CombinedOutput()
	if err != nil {
		t.Logf("%s", output)
	}
	return err
}

func TestTheQueriesGiveTheRightNumbers(t *testing.T) {
	adapter := adapterQueries(t)
	tests := []expectation{
		{adapter["ebbinghaus_requests_present"], "0m", []sample{{`{pod="a"}`, 19}, {`{pod="b"}`, 4}, {`{pod="d"}`, 0}}},
		{adapter["ebbinghaus_kv_used_ratio"], "0m", []sample{{`{pod="a"}`, 0.5}, {`{pod="b"}`, 0.125}}},
		{keda(t).Spec.Triggers[0].Metadata["query"], "0m", []sample{{"{}", 23}}},
		{keda(t).Spec.Triggers[1].Metadata["query"], "0m", []sample{{"{}", 0.625}}},
	}
	if err := promtool(t, tests); err != nil {
		t.Error(err)
	}
	for i := range tests {
		wrong := tests[i]
		wrong.Samples = append([]sample{}, wrong.Samples...)
		wrong.Samples[0].Value++
		if promtool(t, []expectation{wrong}) == nil {
			t.Errorf("any number would do for %s", wrong.Expr)
		}
	}
}

// prometheusTrigger reads from KEDA's own source which metadata its prometheus scaler knows: key to "is it required".
func prometheusTrigger(t *testing.T) map[string]bool {
	t.Helper()
	folder, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/kedacore/keda/v2").Output()
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(folder)), "pkg/scalers/prometheus_scaler.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	ast.Inspect(file, func(node ast.Node) bool {
		declared, ok := node.(*ast.TypeSpec)
		if !ok || declared.Name.Name != "prometheusMetadata" {
			return true
		}
		for _, field := range declared.Type.(*ast.StructType).Fields.List {
			if field.Tag == nil {
				continue
			}
			tag := reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Get("keda")
			if match := regexp.MustCompile(`name=(\w+)`).FindStringSubmatch(tag); match != nil {
				known[match[1]] = !strings.Contains(tag, "optional") && !strings.Contains(tag, "default=")
			}
		}
		return false
	})
	if !known["serverAddress"] || !known["query"] || !known["threshold"] {
		t.Fatalf("KEDA's source is not as expected: %v", known)
	}
	return known
}

func TestKEDATakesTheScaledObject(t *testing.T) {
	object := keda(t)
	for _, err := range []error{kedav1alpha1.CheckReplicaCountBoundsAreValid(object), kedav1alpha1.CheckFallbackValid(object),
		kedav1alpha1.ValidateTriggers(object.Spec.Triggers)} {
		if err != nil {
			t.Error(err)
		}
	}
	known := prometheusTrigger(t)
	for _, trigger := range object.Spec.Triggers {
		if trigger.Type != "prometheus" || trigger.MetricType != autoscalingv2.AverageValueMetricType {
			t.Errorf("%s: %s, %s", trigger.Name, trigger.Type, trigger.MetricType)
		}
		for key := range trigger.Metadata {
			if _, there := known[key]; !there {
				t.Errorf("%s: KEDA's prometheus scaler knows no %s", trigger.Name, key)
			}
		}
		for key, required := range known {
			if _, there := trigger.Metadata[key]; required && !there {
				t.Errorf("%s: %s is missing", trigger.Name, key)
			}
		}
		if _, err := strconv.ParseBool(trigger.Metadata["ignoreNullValues"]); err != nil {
			t.Error(err)
		}
		if matchers := regexp.MustCompile(`\{[^}]*\}`).FindAllString(trigger.Metadata["query"], -1); len(matchers) != 2 ||
			matchers[0] != `{namespace="`+namespace+`"}` || matchers[1] != matchers[0] {
			t.Errorf("%s asks for %v", trigger.Name, matchers)
		}
	}
}

func TestBothScaleAlike(t *testing.T) {
	built, external := hpa(t).Spec, keda(t).Spec
	if *built.MinReplicas != *external.MinReplicaCount || built.MaxReplicas != *external.MaxReplicaCount {
		t.Error("other limits")
	}
	if !reflect.DeepEqual(built.Behavior, external.Advanced.HorizontalPodAutoscalerConfig.Behavior) {
		t.Error("another pace")
	}
	for i, metric := range built.Metrics {
		threshold, err := resource.ParseQuantity(external.Triggers[i].Metadata["threshold"])
		if err != nil || threshold.Cmp(*metric.Pods.Target.AverageValue) != 0 {
			t.Errorf("%s and %s: other targets (%v)", metric.Pods.Metric.Name, external.Triggers[i].Name, err)
		}
	}
}
