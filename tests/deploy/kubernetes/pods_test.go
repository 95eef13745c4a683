// What the pods promise: who may do what, how they end, and that the parts name one another rightly.
package kubernetes

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

func podSpec(t testing.TB, v variant) *corev1.PodSpec {
	return &one[*appsv1.Deployment](t, v).Spec.Template.Spec
}

// container finds one by its name, which patches and docs rely on.
func container(t testing.TB, list []corev1.Container, name string) *corev1.Container {
	t.Helper()
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	t.Fatalf("no container %s", name)
	return nil
}

func server(t testing.TB, v variant) *corev1.Container {
	return container(t, podSpec(t, v).Containers, "server")
}

// refusals is what the cluster's own admission says of the pod at the level `restricted`.
func refusals(t testing.TB, meta *metav1.ObjectMeta, spec *corev1.PodSpec) []string {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	var found []string
	results := evaluator.EvaluatePod(level, meta, spec)
	if len(results) < 10 {
		t.Fatalf("only %d checks", len(results))
	}
	for _, result := range results {
		if !result.Allowed {
			found = append(found, result.ForbiddenReason+": "+result.ForbiddenDetail)
		}
	}
	return found
}

func TestPodSecurityRestricted(t *testing.T) {
	forEach(t, func(t *testing.T, v variant) {
		template := one[*appsv1.Deployment](t, v).Spec.Template
		if found := refusals(t, &template.ObjectMeta, &template.Spec); len(found) != 0 {
			t.Error(strings.Join(found, "\n"))
		}
		// Beyond that level.
		if spec := template.Spec; spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken {
			t.Error("the pod gets a token")
		}
		if account := one[*corev1.ServiceAccount](t, v); *account.AutomountServiceAccountToken ||
			template.Spec.ServiceAccountName != account.Name {
			t.Error("another account, or one with a token")
		}
		if *template.Spec.SecurityContext.RunAsUser != 65532 || *template.Spec.SecurityContext.FSGroup != 65532 {
			t.Error("not the images' user")
		}
		for _, c := range slices.Concat(template.Spec.InitContainers, template.Spec.Containers) {
			if c.SecurityContext.ReadOnlyRootFilesystem == nil || !*c.SecurityContext.ReadOnlyRootFilesystem {
				t.Errorf("%s may write its root", c.Name)
			}
		}
	})
}

func TestPodSecurityRefusesLaxerPods(t *testing.T) {
	for name, loosen := range map[string]func(*corev1.PodSpec){
		"seccomp":      func(p *corev1.PodSpec) { p.SecurityContext.SeccompProfile = nil },
		"root":         func(p *corev1.PodSpec) { p.SecurityContext.RunAsNonRoot = nil },
		"escalation":   func(p *corev1.PodSpec) { p.Containers[0].SecurityContext.AllowPrivilegeEscalation = nil },
		"capabilities": func(p *corev1.PodSpec) { p.InitContainers[0].SecurityContext.Capabilities = nil },
		"host path": func(p *corev1.PodSpec) {
			p.Volumes[0].VolumeSource = corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/models"}}
		},
	} {
		template := one[*appsv1.Deployment](t, variants(t)[0]).Spec.Template.DeepCopy()
		loosen(&template.Spec)
		if found := refusals(t, &template.ObjectMeta, &template.Spec); len(found) != 1 {
			t.Errorf("%s: %v", name, found)
		}
	}
}

func TestSelectorsMatch(t *testing.T) {
	forEach(t, func(t *testing.T, v variant) {
		deployment := one[*appsv1.Deployment](t, v)
		pod := labels.Set(deployment.Spec.Template.Labels)
		service := one[*corev1.Service](t, v)
		selectors := map[string]*metav1.LabelSelector{
			"Deployment":          deployment.Spec.Selector,
			"Service":             {MatchLabels: service.Spec.Selector},
			"PodDisruptionBudget": one[*policyv1.PodDisruptionBudget](t, v).Spec.Selector,
			"NetworkPolicy":       &one[*networkingv1.NetworkPolicy](t, v).Spec.PodSelector,
		}
		for _, constraint := range deployment.Spec.Template.Spec.TopologySpreadConstraints {
			selectors[constraint.TopologyKey] = constraint.LabelSelector
		}
		if len(selectors) != 6 {
			t.Errorf("%d selectors", len(selectors))
		}
		matches := func(what string, selector *metav1.LabelSelector, set labels.Set) {
			parsed, err := metav1.LabelSelectorAsSelector(selector)
			if err != nil || parsed.Empty() || !parsed.Matches(set) {
				t.Errorf("%s: %v does not select %v (%v)", what, selector, set, err)
			}
		}
		for what, selector := range selectors {
			matches(what, selector, pod)
		}
		for _, monitor := range every[*monitoringv1.ServiceMonitor](v) {
			matches("ServiceMonitor", &monitor.Spec.Selector, labels.Set(service.Labels))
			if service.Labels[monitor.Spec.JobLabel] != "ebbinghaus" {
				t.Error("the job is not the one that the rules ask for")
			}
		}
		for _, scaler := range every[*autoscalingv2.HorizontalPodAutoscaler](v) {
			if target := scaler.Spec.ScaleTargetRef; target.Kind != "Deployment" || target.Name != deployment.Name {
				t.Errorf("scales %v", target)
			}
		}
		for _, scaler := range every[*kedav1alpha1.ScaledObject](v) {
			if target := scaler.Spec.ScaleTargetRef; target.Kind != "" || target.Name != deployment.Name {
				t.Errorf("scales %v", target)
			}
		}
	})
}

func TestPortsMatch(t *testing.T) {
	forEach(t, func(t *testing.T, v variant) {
		ports := map[string]int32{}
		for _, port := range server(t, v).Ports {
			ports[port.Name] = port.ContainerPort
		}
		if len(ports) != 2 {
			t.Fatalf("ports %v", ports)
		}
		service := one[*corev1.Service](t, v)
		if service.Spec.ClusterIP != corev1.ClusterIPNone || service.Spec.PublishNotReadyAddresses {
			t.Error("the Service is not headless, or names pods that are not ready")
		}
		exposed := map[string]bool{}
		for _, port := range service.Spec.Ports {
			// A headless Service translates nothing: who resolves its name must dial the pods' own ports.
			if number, known := ports[port.TargetPort.StrVal]; !known || number != port.Port || port.Name != port.TargetPort.StrVal {
				t.Errorf("the Service's port %v is not the container's", port)
			}
			exposed[port.Name] = true
		}
		allowed := map[int32]bool{}
		for _, rule := range one[*networkingv1.NetworkPolicy](t, v).Spec.Ingress {
			if len(rule.From) == 0 || len(rule.Ports) != 1 {
				t.Error("a rule for everybody, or not for one port")
			}
			for _, port := range rule.Ports {
				if *port.Protocol != corev1.ProtocolTCP {
					t.Error("not TCP")
				}
				allowed[port.Port.IntVal] = true
			}
		}
		for name, number := range ports {
			if !exposed[name] || !allowed[number] {
				t.Errorf("port %s (%d): in the Service %v, let through %v", name, number, exposed[name], allowed[number])
			}
		}
		if len(allowed) != len(ports) || len(exposed) != len(ports) {
			t.Errorf("ports %v, let through %v, in the Service %v", ports, allowed, exposed)
		}
		for _, monitor := range every[*monitoringv1.ServiceMonitor](v) {
			if len(monitor.Spec.Endpoints) != 1 || !exposed[monitor.Spec.Endpoints[0].Port] {
				t.Errorf("scrapes %v", monitor.Spec.Endpoints)
			}
		}
	})
}

func TestResources(t *testing.T) {
	forEach(t, func(t *testing.T, v variant) {
		spec := podSpec(t, v)
		for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
			for _, resource := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				limit, given := c.Resources.Limits[resource]
				if request := c.Resources.Requests[resource]; !given || request.Cmp(limit) != 0 {
					t.Errorf("%s: %s %s, limit %s", c.Name, resource, request.String(), limit.String())
				}
			}
			// A fraction of a CPU would be a thread that stops in the middle of a step.
			if cpu := c.Resources.Limits[corev1.ResourceCPU]; cpu.MilliValue()%1000 != 0 {
				t.Errorf("%s: %s CPUs are no whole threads", c.Name, cpu.String())
			}
		}
	})
}

func TestRolloutsAndDisruptions(t *testing.T) {
	forEach(t, func(t *testing.T, v variant) {
		spec := one[*appsv1.Deployment](t, v).Spec
		update := spec.Strategy.RollingUpdate
		if spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType || update.MaxUnavailable.IntValue() != 0 ||
			update.MaxSurge.IntValue() != 1 {
			t.Errorf("strategy %v", spec.Strategy)
		}
		if budget := one[*policyv1.PodDisruptionBudget](t, v).Spec; budget.MaxUnavailable.IntValue() != 1 || budget.MinAvailable != nil {
			t.Errorf("budget %v", budget)
		}
		scaled := len(every[*autoscalingv2.HorizontalPodAutoscaler](v)) + len(every[*kedav1alpha1.ScaledObject](v))
		if (spec.Replicas == nil) != (scaled == 1) {
			t.Error("either the Deployment says how many replicas, or an autoscaler does")
		}
		start := server(t, v).StartupProbe
		startSeconds := time.Duration(start.PeriodSeconds*start.FailureThreshold) * time.Second
		if startSeconds < 30*time.Minute || time.Duration(*spec.ProgressDeadlineSeconds)*time.Second <= startSeconds {
			t.Errorf("%v to load, and %d s until a rollout has failed", startSeconds, *spec.ProgressDeadlineSeconds)
		}
	})
}

func TestTheModelIsWhereTheServerLooks(t *testing.T) {
	forEach(t, func(t *testing.T, v variant) {
		spec := podSpec(t, v)
		mount := func(c *corev1.Container) corev1.VolumeMount {
			for _, mount := range c.VolumeMounts {
				if mount.Name == "models" {
					return mount
				}
			}
			t.Fatalf("%s mounts no models", c.Name)
			return corev1.VolumeMount{}
		}
		fetch := container(t, spec.InitContainers, "fetch")
		// The image's scripts write below /models only and leave /models/current.
		if filled := mount(fetch); filled.MountPath != "/models" || filled.ReadOnly || len(fetch.Args) != 1 || fetch.Command != nil {
			t.Errorf("%v, %v", filled, fetch.Args)
		}
		if read := mount(server(t, v)); read.MountPath != "/models" || !read.ReadOnly {
			t.Errorf("%v", read)
		}
		if spec.EnableServiceLinks == nil || *spec.EnableServiceLinks {
			t.Error("a Service `ebbinghaus` would set variables with our prefix")
		}
		for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
			for _, mount := range c.VolumeMounts {
				if mount.SubPath != "" {
					t.Errorf("%s: a subPath is never updated", mount.Name)
				}
			}
		}
		// Each volume has one source: a patch that adds a second would be refused by the cluster.
		for _, volume := range spec.Volumes {
			sources := 0
			for _, set := range []bool{volume.EmptyDir != nil, volume.Secret != nil, volume.PersistentVolumeClaim != nil} {
				if set {
					sources++
				}
			}
			if sources != 1 {
				t.Errorf("volume %s has %d sources", volume.Name, sources)
			}
			if claim := volume.PersistentVolumeClaim; claim != nil {
				if existing := one[*corev1.PersistentVolumeClaim](t, v); existing.Name != claim.ClaimName ||
					!slices.Contains(existing.Spec.AccessModes, corev1.ReadWriteMany) {
					t.Errorf("claims %v", claim)
				}
			}
		}
	})
}

// The names that an overlay's `images` replaces are those that the Dockerfile tells to build.
func TestImageNames(t *testing.T) {
	dockerfile, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Skip("no Dockerfile here")
	}
	template := podSpec(t, variants(t)[0])
	for _, image := range []string{template.Containers[0].Image, template.InitContainers[0].Image} {
		name, tag, found := strings.Cut(image, ":")
		if !found || tag == "latest" || !strings.Contains(string(dockerfile), "docker build -t "+name+" ") {
			t.Errorf("%s: the Dockerfile does not tell how to build it, or it has no version", image)
		}
	}
}
