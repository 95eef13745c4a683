// The manifests beside the real server: it gets each container's environment, and is asked as the kubelet asks.
package kubernetes

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const hang = 60 * time.Second // no test waits so long unless something is wrong

// given is a setting of run.py.
func given(t testing.TB, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set; run tests/deploy/kubernetes/run.py", name)
	}
	return value
}

// environment is what the container would have, with some values' beginnings changed.
func environment(t testing.TB, c *corev1.Container, replaced ...string) []string {
	t.Helper()
	list := []string{"PATH=" + os.Getenv("PATH")}
	for _, variable := range c.Env {
		if variable.ValueFrom != nil {
			t.Fatalf("%s: not a plain value", variable.Name)
		}
		list = append(list, variable.Name+"="+strings.NewReplacer(replaced...).Replace(variable.Value))
	}
	return list
}

type setting struct{ value, source string }

var settingLine = regexp.MustCompile(`^(?:# )?([a-z-]+) = (.*?)  # (\w+)$`)

var printed = map[string]map[string]setting{} // by environment: most variants have the same

// effective is what `--print-config` says, run as the container would be.
func effective(t testing.TB, c *corev1.Container) map[string]setting {
	t.Helper()
	if len(c.Command) != 0 {
		t.Fatalf("not the image's own entry point: %v", c.Command)
	}
	key := strings.Join(slices.Concat(c.Args, environment(t, c)), "\n")
	if known, found := printed[key]; found {
		return known
	}
	command := exec.Command(given(t, "EBBINGHAUS_TEST_SERVER"), slices.Concat(c.Args, []string{"--print-config"})...)
	command.Env = environment(t, c)
	output, err := command.Output()
	if err != nil {
		t.Fatalf("the server does not take these settings: %v %s", err, err.(*exec.ExitError).Stderr)
	}
	settings := map[string]setting{}
	for _, line := range strings.Split(strings.TrimSuffix(string(output), "\n"), "\n") {
		match := settingLine.FindStringSubmatch(line)
		if match == nil {
			t.Fatalf("unexpected line %q", line)
		}
		settings[match[1]] = setting{match[2], match[3]}
	}
	printed[key] = settings
	return settings
}

func seconds(t testing.TB, s setting) time.Duration {
	t.Helper()
	duration, err := time.ParseDuration(s.value)
	if err != nil {
		t.Fatal(err)
	}
	return duration
}

func portOf(t testing.TB, s setting) int32 {
	t.Helper()
	host, port, err := net.SplitHostPort(s.value)
	if err != nil || !net.ParseIP(host).IsUnspecified() {
		t.Fatalf("%s: pods are reached at addresses that they do not know", s.value)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return int32(number)
}

func TestTheServerTakesTheSettings(t *testing.T) {
	forEach(t, func(t *testing.T, v variant) {
		c := server(t, v)
		settings := effective(t, c)
		fromEnvironment := 0
		for _, s := range settings {
			if s.source == "environment" {
				fromEnvironment++
			}
		}
		// A misspelt name would be in the container's list, but not here.
		for _, variable := range c.Env {
			name, ours := strings.CutPrefix(variable.Name, "EBBINGHAUS_")
			key := strings.ReplaceAll(strings.ToLower(name), "_", "-")
			if s, known := settings[key]; !ours || !known || s.source != "environment" {
				t.Errorf("%s names no option of the server", variable.Name)
			}
		}
		if fromEnvironment != len(c.Env) {
			t.Errorf("%d of %d variables are in force", fromEnvironment, len(c.Env))
		}
		for name, key := range map[string]string{"grpc": "listen", "http": "http-listen"} {
			for _, port := range c.Ports {
				if port.Name == name && port.ContainerPort != portOf(t, settings[key]) {
					t.Errorf("port %s is %d, the server's %s is %s", name, port.ContainerPort, key, settings[key].value)
				}
			}
		}
		if settings["model"].value != "/models/current" {
			t.Errorf("the init container leaves /models/current, the server looks at %s", settings["model"].value)
		}
		if settings["threads"].value != "auto" || settings["kv-memory"].value != "auto" {
			t.Error("threads and memory should follow the container's limits")
		}
	})
}

func TestThePodHasTimeToEnd(t *testing.T) {
	forEach(t, func(t *testing.T, v variant) {
		settings := effective(t, server(t, v))
		propagation, drain := seconds(t, settings["drain-propagation"]), seconds(t, settings["drain-timeout"])
		grace := time.Duration(*podSpec(t, v).TerminationGracePeriodSeconds) * time.Second
		if propagation != 5*time.Second {
			t.Errorf("propagation %v", propagation)
		}
		if need := propagation + drain + 10*time.Second; grace < need {
			t.Errorf("killed after %v; ending takes up to %v", grace, need)
		}
		if hook := server(t, v).Lifecycle; hook != nil {
			t.Error("a hook's time comes off the grace period; the server waits by itself")
		}
	})
}

func TestScalersKnowTheBatch(t *testing.T) {
	for _, v := range variants(t) {
		for _, scaler := range every[*autoscalingv2.HorizontalPodAutoscaler](v) {
			target := scaler.Spec.Metrics[0].Pods.Target.AverageValue.String()
			if batch := effective(t, server(t, v))["max-batch"].value; target != batch {
				t.Errorf("%s: %s requests per replica, --max-batch is %s", v.name, target, batch)
			}
		}
	}
}

// process is the real server with the container's environment. Only what cannot be here is changed: folders, and the ports,
// since others may use them.
type process struct {
	command    *exec.Cmd
	grpc, http string
	ended      chan error
}

func start(t *testing.T, v variant) *process {
	t.Helper()
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "models"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(given(t, "EBBINGHAUS_TEST_MODEL"), filepath.Join(folder, "models/current")); err != nil {
		t.Fatal(err)
	}
	writeSecrets(t, v, folder)
	c := server(t, v)
	command := exec.Command(given(t, "EBBINGHAUS_TEST_SERVER"), "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
		"--threads", "1", "--kv-memory", "64MiB")
	command.Env = environment(t, c, "/models", filepath.Join(folder, "models"), "/etc/ebbinghaus", filepath.Join(folder, "etc"))
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{command: command, ended: make(chan error, 1)}
	t.Cleanup(func() { command.Process.Kill() })
	lines := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(output).ReadString('\n')
		lines <- line
		io.Copy(io.Discard, output)
		p.ended <- command.Wait()
	}()
	select {
	case line := <-lines:
		match := regexp.MustCompile(`^ready grpc=(\S+) http=(\S+) model=`).FindStringSubmatch(line)
		if match == nil {
			t.Fatalf("no ready line but %q", line)
		}
		p.grpc, p.http = match[1], match[2]
	case <-time.After(2 * hang):
		t.Fatal("not ready")
	}
	return p
}

func (p *process) get(path string) (int, string, error) {
	client := http.Client{Timeout: hang}
	answer, err := client.Get("http://" + p.http + path)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(body), err
}

// writeSecrets fills the folders that secrets are mounted to, with the keys that the manifest and the kind of secret name.
func writeSecrets(t *testing.T, v variant, folder string) {
	t.Helper()
	files := map[string]map[string][]byte{}
	for _, volume := range podSpec(t, v).Volumes {
		if volume.Secret == nil {
			continue
		}
		switch volume.Secret.SecretName {
		case "ebbinghaus-tls":
			certificate, key := selfSigned(t)
			files[volume.Name] = map[string][]byte{"tls.crt": certificate, "tls.key": key}
		case "ebbinghaus-tokens":
			files[volume.Name] = map[string][]byte{"tokens": []byte("anna 0123456789abcdef0123456789abcdef\n")}
		default:
			t.Fatalf("what is in the secret %s?", volume.Secret.SecretName)
		}
	}
	for _, mount := range server(t, v).VolumeMounts {
		for name, content := range files[mount.Name] {
			path := filepath.Join(strings.Replace(mount.MountPath, "/etc/ebbinghaus", filepath.Join(folder, "etc"), 1), name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func selfSigned(t *testing.T) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ebbinghaus"},
		DNSNames: []string{"ebbinghaus.ebbinghaus.svc"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	bytes, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: bytes})
}

// probed asks as the kubelet would.
func (p *process) probed(t *testing.T, c *corev1.Container, probe *corev1.Probe) int {
	t.Helper()
	get := probe.HTTPGet
	if get == nil || get.Scheme != "" && get.Scheme != corev1.URISchemeHTTP || get.Host != "" || get.Port != intstr.FromString("http") {
		t.Fatalf("%v is no plain HTTP probe of the port http", probe)
	}
	status, _, err := p.get(get.Path)
	if err != nil {
		t.Fatal(err)
	}
	return status
}

func TestProbesOfARunningServer(t *testing.T) {
	for _, v := range variants(t) {
		if v.name != "base+" && v.name != "base+tls" && !strings.HasPrefix(v.name, "overlays/") {
			continue // the other components leave the container alone
		}
		t.Run(v.name, func(t *testing.T) {
			c := server(t, v)
			p := start(t, v)
			for name, probe := range map[string]*corev1.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
				if status := p.probed(t, c, probe); status != http.StatusOK {
					t.Errorf("%s: %d", name, status)
				}
			}
			if status, _, err := p.get("/no-such-path"); err != nil || status != http.StatusNotFound {
				t.Errorf("a wrong path answers %d, %v, so the probes prove nothing", status, err)
			}
			if c.LivenessProbe.HTTPGet.Path != "/healthz" || c.ReadinessProbe.HTTPGet.Path != "/readyz" {
				t.Error("the wrong way round")
			}
			speaksTLS(t, v, p)

			// The end of a pod: not ready, but alive, until it is over.
			began := time.Now()
			if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			for p.probed(t, c, c.ReadinessProbe) != http.StatusServiceUnavailable {
				if time.Since(began) > hang {
					t.Fatal("still ready")
				}
			}
			if status := p.probed(t, c, c.LivenessProbe); status != http.StatusOK {
				t.Errorf("draining, and liveness says %d", status)
			}
			select {
			case err := <-p.ended:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(time.Duration(*podSpec(t, v).TerminationGracePeriodSeconds) * time.Second):
				t.Error("killed")
			}
			if waited := time.Since(began); waited < seconds(t, effective(t, c)["drain-propagation"]) {
				t.Errorf("gone after %v, before the news could spread", waited)
			}
		})
	}
}

// speaksTLS looks whether the gRPC port does what the variant says: TLS with the component, else not.
func speaksTLS(t *testing.T, v variant, p *process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}}
	connection, err := dialer.DialContext(ctx, "tcp", p.grpc)
	wanted := len(effective(t, server(t, v))["tls-cert"].value) > 0
	if wanted != (err == nil) {
		t.Errorf("TLS is configured: %v; the handshake says %v", wanted, err)
	}
	if err == nil {
		connection.Close()
	}
	if h2c := one[*corev1.Service](t, v).Spec.Ports[0].AppProtocol; wanted == (h2c != nil && *h2c == "kubernetes.io/h2c") {
		t.Error("the Service says the opposite")
	}
}

// What the autoscalers ask for exists under these names.
func metricNames(t *testing.T) map[string]bool {
	t.Helper()
	p := start(t, variants(t)[0])
	status, text, err := p.get("/metrics")
	if err != nil || status != http.StatusOK {
		t.Fatal(status, err)
	}
	p.command.Process.Kill()
	names := map[string]bool{}
	for _, match := range regexp.MustCompile(`(?m)^# TYPE (\S+) `).FindAllStringSubmatch(text, -1) {
		names[match[1]] = true
	}
	if len(names) < 20 {
		t.Fatalf("only %d metrics", len(names))
	}
	return names
}
