package chart

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"

	"ftpgate/internal/config"
)

const directory = "../../../packaging/helm/ftpgate"

// minimal is the least that a user sets.
const minimal = `
config:
  forward:
    - {name: archive, listen: ":21", server: ftp.example.com, passive_ports: "50000",
       advertise: [198.51.100.7]}
`

// objects are what Kubernetes gets.
type objects struct {
	deployments []apps.Deployment
	daemonSets  []apps.DaemonSet
	services    []core.Service
	accounts    []core.ServiceAccount
	policies    []networking.NetworkPolicy
	monitors    []map[string]any // ServiceMonitor, of another API
	file        string           // ftpgate.toml, in the ConfigMap
	notes       string           // what helm says after an installation
}

// render renders the chart as "helm install gate" does. The error is Helm's.
func render(t *testing.T, values string) (objects, error) {
	t.Helper()
	c, err := loader.Load(directory)
	if err != nil {
		t.Fatal(err)
	}
	given, err := chartutil.ReadValues([]byte(values))
	if err != nil {
		t.Fatal(err)
	}
	all, err := chartutil.ToRenderValues(c, given, chartutil.ReleaseOptions{Name: "gate", Namespace: "ftp",
		IsInstall: true}, chartutil.DefaultCapabilities)
	if err != nil {
		return objects{}, err
	}
	files, err := engine.Render(c, all)
	if err != nil {
		return objects{}, err
	}
	var out objects
	for name, text := range files {
		if strings.HasSuffix(name, "/NOTES.txt") {
			out.notes = text
			continue
		}
		for _, document := range strings.Split("\n"+text, "\n---\n") {
			if strings.TrimSpace(document) != "" {
				out.add(t, name, document)
			}
		}
	}
	return out, nil
}

// add reads an object. A field that Kubernetes does not know is a fault.
func (o *objects) add(t *testing.T, name, text string) {
	t.Helper()
	var kind struct{ Kind string }
	if err := yaml.Unmarshal([]byte(text), &kind); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, text)
	}
	var err error
	switch kind.Kind {
	case "Deployment":
		o.deployments, err = appendTo(o.deployments, text)
	case "DaemonSet":
		o.daemonSets, err = appendTo(o.daemonSets, text)
	case "Service":
		o.services, err = appendTo(o.services, text)
	case "ServiceAccount":
		o.accounts, err = appendTo(o.accounts, text)
	case "NetworkPolicy":
		o.policies, err = appendTo(o.policies, text)
	case "ServiceMonitor":
		o.monitors, err = appendTo(o.monitors, text)
	case "ConfigMap":
		var maps []core.ConfigMap
		if maps, err = appendTo(maps, text); err == nil {
			o.file = maps[0].Data["ftpgate.toml"]
		}
	default:
		t.Errorf("%s: got an object of kind %q", name, kind.Kind)
	}
	if err != nil {
		t.Errorf("%s: %v\n%s", name, err, text)
	}
}

func appendTo[T any](all []T, text string) ([]T, error) {
	var one T
	err := yaml.UnmarshalStrict([]byte(text), &one)
	return append(all, one), err
}

func rendered(t *testing.T, values string) objects {
	t.Helper()
	o, err := render(t, values)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// wantPods expects a pod template that is confined as far as it can be: these capabilities, and nothing else.
func wantPods(t *testing.T, pod core.PodSpec, user int64, added ...core.Capability) {
	t.Helper()
	s, c := pod.SecurityContext, pod.Containers[0].SecurityContext
	if *s.RunAsUser != user || s.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault {
		t.Errorf("got user %d, seccomp %s; want %d, RuntimeDefault", *s.RunAsUser, s.SeccompProfile.Type,
			user)
	}
	if *c.AllowPrivilegeEscalation || *c.Privileged || !*c.ReadOnlyRootFilesystem ||
		!slices.Equal(c.Capabilities.Drop, []core.Capability{"ALL"}) ||
		!slices.Equal(c.Capabilities.Add, added) {
		t.Errorf("got %s; want a read-only root, no more privileges, and the capabilities %v", c, added)
	}
	if *pod.AutomountServiceAccountToken {
		t.Error("got a token for the API of Kubernetes in the pod; want none")
	}
	if got := strings.Join(pod.Containers[0].Args, " "); got != "run --watch" {
		t.Errorf("got the arguments %s; want run --watch", got)
	}
	mounts := map[string]bool{}
	for _, m := range pod.Containers[0].VolumeMounts {
		mounts[m.Name] = true
	}
	for _, v := range pod.Volumes {
		if !mounts[v.Name] {
			t.Errorf("volume %s is not mounted", v.Name)
		}
		delete(mounts, v.Name)
	}
	if len(mounts) > 0 {
		t.Errorf("got mounts of no volume: %v", mounts)
	}
}

func TestDeployment(t *testing.T) {
	o := rendered(t, minimal)
	if len(o.deployments) != 1 || len(o.daemonSets) != 0 || len(o.services) != 1 || len(o.accounts) != 1 ||
		len(o.policies)+len(o.monitors) != 0 {
		t.Fatalf("got %d deployments, %d daemon sets, %d services, %d accounts, %d policies, %d monitors; "+
			"want 1, 0, 1, 1, 0, 0", len(o.deployments), len(o.daemonSets), len(o.services), len(o.accounts),
			len(o.policies), len(o.monitors))
	}
	d, s := o.deployments[0], o.services[0]
	pod := d.Spec.Template
	wantPods(t, pod.Spec, 65532)
	if !*pod.Spec.SecurityContext.RunAsNonRoot || pod.Spec.HostNetwork {
		t.Error("got root, or the node's network; want neither")
	}
	if *d.Spec.Replicas != 1 || d.Spec.Strategy.Type != apps.RecreateDeploymentStrategyType {
		t.Errorf("got %d replicas, strategy %s; want one at a time", *d.Spec.Replicas, d.Spec.Strategy.Type)
	}
	for key, value := range d.Spec.Selector.MatchLabels {
		if pod.Labels[key] != value || s.Spec.Selector[key] != value {
			t.Errorf("label %s: got %q in the pod, %q in the service; want %q", key, pod.Labels[key],
				s.Spec.Selector[key], value)
		}
	}
	var ports []int32
	for _, p := range s.Spec.Ports {
		ports = append(ports, p.Port)
		if p.TargetPort.IntVal != p.Port {
			t.Errorf("port %d leads to %d; want the same: clients are told it", p.Port, p.TargetPort.IntVal)
		}
	}
	if !slices.Equal(ports, []int32{21, 50000}) {
		t.Errorf("got the ports %v; want 21 and 50000", ports)
	}
	if s.Spec.ExternalTrafficPolicy != core.ServiceExternalTrafficPolicyLocal {
		t.Errorf("got externalTrafficPolicy %s; want Local: clients keep their addresses",
			s.Spec.ExternalTrafficPolicy)
	}
}

func TestDaemonSet(t *testing.T) {
	o := rendered(t, "kind: DaemonSet\n"+minimal)
	if len(o.daemonSets) != 1 || len(o.deployments)+len(o.services) != 0 {
		t.Fatalf("got %d daemon sets, %d deployments, %d services; want 1, 0, 0", len(o.daemonSets),
			len(o.deployments), len(o.services))
	}
	pod := o.daemonSets[0].Spec.Template.Spec
	wantPods(t, pod, 0, "NET_ADMIN", "NET_BIND_SERVICE")
	if !pod.HostNetwork || pod.DNSPolicy != core.DNSClusterFirstWithHostNet {
		t.Errorf("got host network %v, DNS %s; want both for the node's network", pod.HostNetwork,
			pod.DNSPolicy)
	}
}

// TestConfigRollsNothing: another configuration is read again by the pod that runs.
func TestConfigRollsNothing(t *testing.T) {
	before, after := rendered(t, minimal), rendered(t, minimal+`
    - {listen: ":2121", server: ftp.example.net, passive_ports: "50001-50004"}
`)
	if before.file == after.file || len(after.services[0].Spec.Ports) != 7 {
		t.Errorf("got %d ports and the file\n%s\nwant 7, and another file", len(after.services[0].Spec.Ports),
			after.file)
	}
	if !reflect.DeepEqual(before.deployments, after.deployments) {
		t.Error("got another deployment; want the same, so that sessions continue")
	}
}

func TestMetrics(t *testing.T) {
	o := rendered(t, minimal+"metrics: {tokenSecret: scrape, serviceMonitor: {enabled: true}}\n"+
		"networkPolicy: {enabled: true}\n")
	if len(o.services) != 2 || len(o.monitors) != 1 || len(o.policies) != 1 {
		t.Fatalf("got %d services, %d monitors, %d policies; want 2, 1, 1", len(o.services), len(o.monitors),
			len(o.policies))
	}
	wantPods(t, o.deployments[0].Spec.Template.Spec, 65532)
	selector := o.monitors[0]["spec"].(map[string]any)["selector"].(map[string]any)["matchLabels"]
	chosen := 0
	for _, s := range o.services {
		matches := true
		for key, value := range selector.(map[string]any) {
			matches = matches && s.Labels[key] == value
		}
		if matches {
			chosen++
			if s.Spec.Ports[0].Name != "metrics" || s.Labels["app.kubernetes.io/name"] != "ftpgate" {
				t.Errorf("the monitor scrapes port %s of job %s; want metrics, ftpgate", s.Spec.Ports[0].Name,
					s.Labels["app.kubernetes.io/name"])
			}
		}
	}
	if chosen != 1 {
		t.Errorf("the monitor chooses %d services; want one", chosen)
	}
	for _, v := range o.deployments[0].Spec.Template.Spec.Volumes {
		if v.Name == "token" && *v.Secret.DefaultMode != 0o440 {
			t.Errorf("the token has mode %o; want 440: ftpgate refuses one that others can read",
				*v.Secret.DefaultMode)
		}
	}
	if !strings.Contains(o.file, `token_file = "/run/secrets/ftpgate/token"`) {
		t.Errorf("got the file\n%s\nwant the token in it", o.file)
	}
	if got := len(o.policies[0].Spec.Ingress[0].Ports); got != 2 {
		t.Errorf("the policy lets clients to %d ports; want 2", got)
	}
}

// TestFile: ftpgate reads what the chart makes of the values, whatever their kinds.
func TestFile(t *testing.T) {
	o := rendered(t, `
config:
  drain: 1m
  deny: [192.0.2.7, 198.51.100.0/24]
  log: {format: json}
  admin: {group: none}
  forward:
    - name: 'a "name" <with> signs \ and # more'
      listen: ":21"
      server: ftp.example.com
      passive_ports: "50000-50009"
      max_sessions: 500000
      tls: {client: required, cert: /tls/tls.crt, key: /tls/tls.key, session_reuse: false}
    - {listen: ":2121", server: "[2001:db8::21]:2121", passive_ports: "50005-50012"}
metrics: {tokenSecret: scrape}
`)
	file := filepath.Join(t.TempDir(), "ftpgate.toml")
	if err := os.WriteFile(file, []byte(o.file), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, o.file)
	}
	if len(c.Forwards) != 2 || c.Forwards[0].Name != `a "name" <with> signs \ and # more` ||
		c.Forwards[0].Limits.Sessions != 500_000 || c.Forwards[0].TLS.Cert != "/tls/tls.crt" ||
		c.Admin.Listen.Port != 9121 || len(c.Deny.Prefixes) != 2 {
		t.Errorf("got %+v of\n%s\nwant what the values say", c, o.file)
	}
	if got := len(o.services[0].Spec.Ports) + len(o.services[1].Spec.Ports); got != 2+13+1 {
		t.Errorf("got %d ports; want 2 for clients, 13 for data and that of the metrics", got)
	}
}

// TestRefused: what cannot work is said before anything is installed.
func TestRefused(t *testing.T) {
	for values, want := range map[string]string{
		"": "config.forward is empty",
		"config: {forward: [{listen: ':21', server: ftp}]}":                             "set passive_ports",
		"config: {forward: [{listen: ':21', server: ftp, passive_ports: 50000-59999}]}": "at most 100",
		"config: {forward: [{listen: ':21'}]}":                                          "server",
		"kind: StatefulSet\n" + minimal:                                                 "kind",
		minimal + "metrics: {serviceMonitor: {enabled: true}}": "needs " +
			"metrics.tokenSecret",
		"kind: DaemonSet\n" + minimal + "networkPolicy: {enabled: true}": "networkPolicy",
	} {
		if _, err := render(t, values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v; want %q", values, err, want)
		}
	}
}

// TestLint: helm lint finds nothing, and the chart has the number of the program.
func TestLint(t *testing.T) {
	values, err := chartutil.ReadValues([]byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range lint.All(directory, values, "ftp", true).Messages {
		if m.Severity >= support.WarningSev {
			t.Error(m)
		}
	}
	c, err := loader.Load(directory)
	if err != nil {
		t.Fatal(err)
	}
	version, err := os.ReadFile("../../../internal/version/VERSION")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.TrimSpace(string(version))
	if c.Metadata.Version != want || c.Metadata.AppVersion != want {
		t.Errorf("got the chart %s of ftpgate %s; want %s of both", c.Metadata.Version, c.Metadata.AppVersion,
			want)
	}
}

// What helm says after an installation names what the chart has made.
func TestNotes(t *testing.T) {
	for kind, want := range map[string]string{
		"Deployment": "kubectl --namespace ftp get service gate-ftpgate\n",
		"DaemonSet":  "Clients connect to the address of a node.\n",
	} {
		got := rendered(t, minimal+"kind: "+kind+"\n").notes
		status := "kubectl --namespace ftp exec " + strings.ToLower(kind) +
			"/gate-ftpgate -- ftpgate status\n"
		if !strings.Contains(got, want) || !strings.Contains(got, status) || strings.Contains(got, "{{") ||
			strings.HasPrefix(got, "\n") {
			t.Errorf("%s: got\n%s\nwant in it\n%s%s", kind, got, status, want)
		}
	}
}
