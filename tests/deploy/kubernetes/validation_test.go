// The API server's own defaults and validation, from k8s.io/kubernetes: what decodes may still be refused, such as a mount
// without its volume, requests above limits, a bad name.
package kubernetes

import (
	"context"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/apps"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/autoscaling"
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install"
	autoscalingvalidation "k8s.io/kubernetes/pkg/apis/autoscaling/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/core/helper/qos"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/networking"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	networkingvalidation "k8s.io/kubernetes/pkg/apis/networking/validation"
	kubernetespolicy "k8s.io/kubernetes/pkg/apis/policy"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	policyvalidation "k8s.io/kubernetes/pkg/apis/policy/validation"
)

// asServer is the object as the API server sees it: with defaults, in its internal form.
func asServer(object runtime.Object) (runtime.Object, error) {
	object = object.DeepCopyObject()
	legacyscheme.Scheme.Default(object)
	return legacyscheme.Scheme.ConvertToVersion(object, runtime.InternalGroupVersioner)
}

// validate is what the API server would refuse, and what kubectl would warn of. known: whether it is a built-in kind.
func validate(object runtime.Object) (errors field.ErrorList, warnings []string, known bool) {
	if !legacyscheme.Scheme.Recognizes(object.GetObjectKind().GroupVersionKind()) {
		return nil, nil, false
	}
	internal, err := asServer(object)
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}, nil, true
	}
	switch o := internal.(type) {
	case *apps.Deployment:
		errors = appsvalidation.ValidateDeployment(o, pod.GetValidationOptionsFromPodTemplate(&o.Spec.Template, nil))
		warnings = pod.GetWarningsForPodTemplate(context.Background(), field.NewPath("spec", "template"), &o.Spec.Template, nil)
	case *core.Service:
		if o.Spec.ClusterIPs == nil { // the API server makes a list of it before it validates
			o.Spec.ClusterIPs = []string{o.Spec.ClusterIP}
		}
		errors = corevalidation.ValidateServiceCreate(o)
	case *core.ServiceAccount:
		errors = corevalidation.ValidateServiceAccount(o)
	case *core.Namespace:
		errors = corevalidation.ValidateNamespace(o)
	case *core.PersistentVolumeClaim:
		errors = corevalidation.ValidatePersistentVolumeClaim(o, corevalidation.ValidationOptionsForPersistentVolumeClaimCreate())
	case *networking.NetworkPolicy:
		errors = networkingvalidation.ValidateNetworkPolicy(o, networkingvalidation.NetworkPolicyValidationOptions{})
	case *kubernetespolicy.PodDisruptionBudget:
		errors = policyvalidation.ValidatePodDisruptionBudget(o, policyvalidation.PodDisruptionBudgetValidationOptions{})
	case *autoscaling.HorizontalPodAutoscaler:
		errors = autoscalingvalidation.ValidateHorizontalPodAutoscaler(o,
			autoscalingvalidation.HorizontalPodAutoscalerSpecValidationOptions{MinReplicasLowerBound: 1})
	default:
		errors = field.ErrorList{field.NotSupported(nil, object.GetObjectKind().GroupVersionKind().String(), []string{"what this test knows"})}
	}
	return errors, warnings, true
}

func TestTheClusterTakesThem(t *testing.T) {
	forEach(t, func(t *testing.T, v variant) {
		count := 0
		for _, object := range v.objects {
			errors, warnings, known := validate(object)
			if known {
				count++
			}
			if len(errors) != 0 || len(warnings) != 0 {
				t.Errorf("%v: %v %v", object.GetObjectKind().GroupVersionKind(), errors, warnings)
			}
		}
		if count < 5 {
			t.Errorf("only %d objects of built-in kinds", count)
		}
	})
}

func TestTheClusterRefusesMistakes(t *testing.T) {
	for want, spoil := range map[string]func(*appsv1.Deployment){
		"volumeMounts": func(d *appsv1.Deployment) { d.Spec.Template.Spec.Volumes = nil },
		"requests": func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("3")
		},
		"selector": func(d *appsv1.Deployment) { d.Spec.Selector.MatchLabels["app.kubernetes.io/name"] = "other" },
		"port": func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Containers[0].LivenessProbe.HTTPGet.Port = intstr.FromInt32(0)
		},
		"volumes[0]": func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Volumes[0].HostPath = &corev1.HostPathVolumeSource{Path: "/models"}
		},
	} {
		deployment := one[*appsv1.Deployment](t, variants(t)[0]).DeepCopy()
		spoil(deployment)
		if errors, _, _ := validate(deployment); len(errors) == 0 || !strings.Contains(errors.ToAggregate().Error(), want) {
			t.Errorf("%s: %v", want, errors)
		}
	}
}

// Whole CPUs, and requests equal to limits in every container, make the class whose threads get CPUs of their own.
func TestQualityOfServiceIsGuaranteed(t *testing.T) {
	forEach(t, func(t *testing.T, v variant) {
		internal, err := asServer(one[*appsv1.Deployment](t, v))
		if err != nil {
			t.Fatal(err)
		}
		spec := internal.(*apps.Deployment).Spec.Template.Spec
		if class := qos.ComputePodQOS(&core.Pod{Spec: spec}); class != core.PodQOSGuaranteed {
			t.Errorf("%s", class)
		}
	})
}
