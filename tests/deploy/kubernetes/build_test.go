// What kustomize makes of deploy/kubernetes, decoded as strictly as the API server decodes with fieldValidation=Strict:
// unknown, misspelt and repeated fields are errors.
package kubernetes

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const namespace = "ebbinghaus" // which docs/operations.md and the example deploy to

var root = func() string {
	path, err := filepath.Abs("../../..")
	if err != nil {
		panic(err)
	}
	return path
}()

func manifests(path ...string) string {
	return filepath.Join(append([]string{root, "deploy", "kubernetes"}, path...)...)
}

var (
	scheme = runtime.NewScheme()
	strict = json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme,
		json.SerializerOptions{Yaml: true, Strict: true})
)

func init() {
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, autoscalingv2.AddToScheme,
		networkingv1.AddToScheme, policyv1.AddToScheme, monitoringv1.AddToScheme, kedav1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
}

func decode(document []byte) (runtime.Object, error) {
	object, _, err := strict.Decode(document, nil, nil)
	return object, err
}

// build runs kustomize as `kustomize build FOLDER` does.
func build(folder string) ([]runtime.Object, error) {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		return nil, err
	}
	var objects []runtime.Object
	for _, resource := range resources.Resources() {
		document, err := resource.AsYAML()
		if err != nil {
			return nil, err
		}
		object, err := decode(document)
		if err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", resource.CurId(), err, document)
		}
		objects = append(objects, object)
	}
	return objects, nil
}

// A variant is a way to put the parts together.
type variant struct {
	name    string
	objects []runtime.Object
}

// overlay writes a kustomization of the base with these components, in this order, and builds it.
func overlay(t testing.TB, components ...string) ([]runtime.Object, error) {
	t.Helper()
	folder := t.TempDir()
	relative := func(path string) string {
		// The folder's real path, since kustomize goes up from there.
		from, err := filepath.EvalSymlinks(folder)
		if err != nil {
			t.Fatal(err)
		}
		to, err := filepath.Rel(from, path)
		if err != nil {
			t.Fatal(err)
		}
		return to
	}
	var text strings.Builder
	fmt.Fprintf(&text, "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: %s\nresources:\n  - %s\n", namespace,
		relative(manifests("base")))
	for i, component := range components {
		if i == 0 {
			fmt.Fprintln(&text, "components:")
		}
		fmt.Fprintf(&text, "  - %s\n", relative(manifests("components", component)))
	}
	if err := os.WriteFile(filepath.Join(folder, "kustomization.yaml"), []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return build(folder)
}

// components are those that exist, so that a new one is in the tests.
func components(t testing.TB) []string {
	t.Helper()
	entries, err := os.ReadDir(manifests("components"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func contains(names []string, wanted string) bool {
	for _, name := range names {
		if name == wanted {
			return true
		}
	}
	return false
}

// combinations are all subsets of the components that exclude nothing.
func combinations(t testing.TB) [][]string {
	all := components(t)
	var result [][]string
	for bits := 0; bits < 1<<len(all); bits++ {
		var chosen []string
		for i, name := range all {
			if bits>>i&1 == 1 {
				chosen = append(chosen, name)
			}
		}
		if !(contains(chosen, "hpa") && contains(chosen, "keda")) {
			result = append(result, chosen)
		}
	}
	return result
}

var (
	variantsOnce sync.Once
	built        []variant
)

// variants are the base with every combination of components, and every overlay.
func variants(t testing.TB) []variant {
	t.Helper()
	variantsOnce.Do(func() {
		for _, chosen := range combinations(t) {
			objects, err := overlay(t, chosen...)
			if err != nil {
				t.Fatalf("%v: %v", chosen, err)
			}
			built = append(built, variant{"base+" + strings.Join(chosen, "+"), objects})
		}
		overlays, err := os.ReadDir(manifests("overlays"))
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range overlays {
			objects, err := build(manifests("overlays", entry.Name()))
			if err != nil {
				t.Fatalf("%s: %v", entry.Name(), err)
			}
			built = append(built, variant{"overlays/" + entry.Name(), objects})
		}
	})
	if len(built) < 13 {
		t.Fatalf("%d variants: not all could be built", len(built))
	}
	return built
}

// one finds the variant's only object of a type.
func one[T runtime.Object](t testing.TB, v variant) T {
	t.Helper()
	found := every[T](v)
	if len(found) != 1 {
		t.Fatalf("%s has %d objects of type %T", v.name, len(found), *new(T))
	}
	return found[0]
}

func every[T runtime.Object](v variant) []T {
	var found []T
	for _, object := range v.objects {
		if typed, ok := object.(T); ok {
			found = append(found, typed)
		}
	}
	return found
}

func forEach(t *testing.T, check func(*testing.T, variant)) {
	for _, v := range variants(t) {
		t.Run(v.name, func(t *testing.T) { check(t, v) })
	}
}

func TestEveryCombinationBuildsAndHasItsParts(t *testing.T) {
	forEach(t, func(t *testing.T, v variant) {
		one[*corev1.ServiceAccount](t, v)
		one[*corev1.Service](t, v)
		one[*appsv1.Deployment](t, v)
		one[*policyv1.PodDisruptionBudget](t, v)
		one[*networkingv1.NetworkPolicy](t, v)
		for component, count := range map[string]int{
			"hpa":        len(every[*autoscalingv2.HorizontalPodAutoscaler](v)),
			"keda":       len(every[*kedav1alpha1.ScaledObject](v)),
			"monitoring": len(every[*monitoringv1.ServiceMonitor](v)) * len(every[*monitoringv1.PrometheusRule](v)),
		} {
			if strings.HasPrefix(v.name, "base+") && count == 1 != strings.Contains(v.name, component) {
				t.Errorf("%d objects of the component %s", count, component)
			}
		}
		if found := every[*corev1.ConfigMap](v); len(found) != 0 {
			t.Errorf("%s is for kustomize alone, and in the output", found[0].Name)
		}
		for _, object := range v.objects {
			accessor := object.(metav1.Object)
			if _, isNamespace := object.(*corev1.Namespace); !isNamespace && accessor.GetNamespace() != namespace {
				t.Errorf("%T %s is in the namespace %q", object, accessor.GetName(), accessor.GetNamespace())
			}
		}
	})
}

func TestTheBaseNeedsNoCustomKinds(t *testing.T) {
	objects, err := build(manifests("base"))
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		if group := object.GetObjectKind().GroupVersionKind().Group; strings.Contains(group, ".") &&
			!strings.HasSuffix(group, ".k8s.io") {
			t.Errorf("%v is no built-in kind", object.GetObjectKind().GroupVersionKind())
		}
	}
}

// Two autoscalers would undo each other's work, so kustomize must refuse, and its message must tell why.
func TestBothAutoscalersDoNotBuild(t *testing.T) {
	for _, order := range [][]string{{"hpa", "keda"}, {"keda", "hpa"}, {"hpa", "monitoring", "tls", "keda"}} {
		_, err := overlay(t, order...)
		if err == nil || !strings.Contains(err.Error(), "only-one-autoscaler") {
			t.Errorf("%v: expected an error about only-one-autoscaler, got %v", order, err)
		}
	}
}

// Strict decoding is what most of these tests stand on.
func TestDecodingRefusesWhatTheTypesDoNotHave(t *testing.T) {
	good := []byte("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: None}\n")
	if _, err := decode(good); err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{"clusterIP: None", "clusterIp: None"},                         // case
		{"clusterIP: None", "clusterIP: None, ipFamily: IPv4"},         // no such field
		{"clusterIP: None", "clusterIP: None, clusterIP: 10.0.0.1"},    // twice
		{"metadata: {name: a}", "metadata: {name: a, lables: {b: c}}"}, // misspelt
		{"clusterIP: None", "ports: [{port: eighty}]"},                 // wrong type
		{"kind: Service", "kind: Servant"},
	} {
		if _, err := decode(bytes.Replace(good, []byte(change[0]), []byte(change[1]), 1)); err == nil {
			t.Errorf("%q was taken", change[1])
		}
	}
}
