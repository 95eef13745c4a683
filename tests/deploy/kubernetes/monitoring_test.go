// The Prometheus operator's rules are those of deploy/prometheus.
package kubernetes

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/yaml"
)

type ruleFile struct {
	Groups []monitoringv1.RuleGroup `json:"groups"`
}

func TestTheRulesAreTheSame(t *testing.T) {
	rules := filepath.Join(root, "deploy/prometheus/rules")
	if _, err := os.Stat(filepath.Dir(rules)); os.IsNotExist(err) {
		t.Skip("no deploy/prometheus here")
	}
	var wanted []monitoringv1.RuleGroup
	for _, name := range []string{"recording.yml", "alerts.yml"} {
		text, err := os.ReadFile(filepath.Join(rules, name))
		if err != nil {
			t.Fatal(err)
		}
		var file ruleFile
		if err := yaml.UnmarshalStrict(text, &file); err != nil {
			t.Fatal(err)
		}
		wanted = append(wanted, file.Groups...)
	}
	if files, _ := filepath.Glob(filepath.Join(rules, "*")); len(files) != 2 || len(wanted) == 0 {
		t.Fatalf("files %v, %d groups", files, len(wanted))
	}
	found := one[*monitoringv1.PrometheusRule](t, find(t, "base+monitoring")).Spec.Groups
	if !equality.Semantic.DeepEqual(found, wanted) {
		t.Error("out of date; run deploy/kubernetes/components/monitoring/prometheusrule.sh")
	}
}

func TestPrometheusTakesTheRules(t *testing.T) {
	spec := one[*monitoringv1.PrometheusRule](t, find(t, "base+monitoring")).Spec
	text, err := yaml.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.Command("promtool", "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}
