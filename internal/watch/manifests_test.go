package watch

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const web = `apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.96.0.10
  ports:
  - {name: http, port: 80}
`

// A logBook collects log lines; it is safe for concurrent use.
type logBook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBook) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), part)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// printed shows all of a snapshot, one object a line, sorted.
func printed(s *state.Snapshot) string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for key, entry := range s.Services() {
		add("service %s %s ips=%v ports=%s", key, serviceKindName(entry.Service), entry.Service.ClusterIPs, showPorts(entry.Service.Ports))
		for _, slice := range entry.Slices {
			add("slice %s/%s of %s ports=%v", key.Namespace, slice.Name, key, slice.Ports)
			for _, e := range slice.Endpoints {
				add("slice %s/%s %s", key.Namespace, slice.Name, showEndpoint(&e))
			}
		}
	}
	for name := range s.Namespaces() {
		add("namespace %s", name)
	}
	for name, node := range s.Nodes() {
		add("node %s zone=%s %v %v", name, node.Zone, node.Addresses, node.PodCIDRs)
	}
	for key, pod := range s.Pods() {
		add("pod %s/%s %v", key.Namespace, key.Name, pod.Addresses)
	}
	if cidrs := s.ServiceCIDRs(); len(cidrs) > 0 {
		add("servicecidrs %v", cidrs)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func serviceKindName(s *model.Service) string {
	switch {
	case s.Headless:
		return "headless"
	case s.Type == model.ExternalName:
		return "-> " + s.ExternalName
	}
	return s.Type.String()
}

func showPorts(ports []model.ServicePort) string {
	var texts []string
	for _, p := range ports {
		texts = append(texts, fmt.Sprintf("%s:%s/%d:%d", p.Name, p.Protocol, p.Port, p.NodePort))
	}
	return strings.Join(texts, ",")
}

func showEndpoint(e *model.Endpoint) string {
	text := e.Addr.String()
	for _, part := range []struct {
		name string
		set  bool
	}{{"ready", e.Ready}, {"serving", e.Serving}, {"terminating", e.Terminating}} {
		if part.set {
			text += " " + part.name
		}
	}
	return fmt.Sprintf("%s host=%s pod=%s node=%s zone=%s", text, e.Hostname(), e.TargetPod(), e.Node(), e.Zone())
}

// parseText reads one manifest file without a file.
func parseText(t *testing.T, selection Selection, texts ...string) (*state.Snapshot, []string, error) {
	t.Helper()
	source, err := NewManifests("/manifests", selection, nil)
	if err != nil {
		t.Fatal(err)
	}
	var files []file
	for i, text := range texts {
		files = append(files, file{fmt.Sprintf("%c.yaml", 'a'+i), []byte(text)})
	}
	read, err := source.(*Manifests).parse(files)
	if err != nil {
		return nil, nil, err
	}
	return state.NewStore().Update(time.Now(), read.commit), read.notes, nil
}

func TestManifestsReadAsSnapshot(t *testing.T) {
	tests := map[string]struct {
		selection Selection
		text      string
		want      string
		notes     []string
	}{
		"empty file": {text: "# nothing\n---\n", want: "namespace default"},
		"service alone": {text: web, want: `
namespace default
namespace shop
service shop/web ClusterIP ips=[10.96.0.10] ports=http:TCP/80:0`},
		"manual slice, with a nil port and conditions left out": {text: web + `---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-1
  namespace: shop
  labels: {kubernetes.io/service-name: web}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: any}]
endpoints:
- addresses: [10.244.1.5, 10.244.1.6]
- addresses: [10.244.1.7]
  conditions: {ready: false, serving: true, terminating: true}
  nodeName: one
  zone: z1
  hostname: first
`, want: `
namespace default
namespace shop
service shop/web ClusterIP ips=[10.96.0.10] ports=http:TCP/80:0
slice shop/web-1 10.244.1.5 ready serving host= pod= node= zone=
slice shop/web-1 10.244.1.7 serving terminating host=first pod= node=one zone=z1
slice shop/web-1 of shop/web ports=[{http TCP 8080}]`},
		"list, other kinds and other namespaces": {text: `apiVersion: v1
kind: List
items:
- {apiVersion: apps/v1, kind: Deployment, metadata: {name: d, namespace: ops}}
- {apiVersion: v1, kind: Namespace, metadata: {name: empty}}
- {apiVersion: example.com/v1, kind: Gadget, metadata: {name: g}}
- {apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {name: kubernetes}, spec: {cidrs: [10.96.0.0/16, "fd00:10:96::/112"]}}
- apiVersion: v1
  kind: Node
  metadata: {name: one, labels: {topology.kubernetes.io/zone: z1}}
  spec: {podCIDRs: [10.244.1.0/24]}
  status: {addresses: [{type: Hostname, address: one}, {type: InternalIP, address: 172.30.0.11}]}
- {apiVersion: v1, kind: Service, metadata: {name: out}, spec: {type: ExternalName, externalName: example.org.}}
`, want: `
namespace default
namespace empty
namespace ops
node one zone=z1 [172.30.0.11] [10.244.1.0/24]
service default/out -> example.org ips=[] ports=
servicecidrs [10.96.0.0/16 fd00:10:96::/112]`, notes: []string{
			"a.yaml:6: Gadget g of example.com/v1 is not read; kinds read are Service, EndpointSlice, Pod, Node, Namespace, ServiceCIDR",
		}},
		"allow-list of namespaces": {selection: Selection{Namespaces: []string{"a"}}, text: `
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: a}, spec: {clusterIP: None}}
---
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: b}, spec: {clusterIP: None}}
`, want: `
namespace a
service a/s headless ips=[] ports=`},
		"service of another proxy, and headless, left out": {
			selection: Selection{ServiceLabels: "!service.kubernetes.io/service-proxy-name", NoHeadless: true}, text: `
{apiVersion: v1, kind: Service, metadata: {name: s, labels: {service.kubernetes.io/service-proxy-name: x}}, spec: {clusterIP: 10.96.0.1, ports: [{port: 1}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: h}, spec: {clusterIP: None}}
`, want: "namespace default",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			snapshot, notes, err := parseText(t, test.selection, test.text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.TrimSpace(test.want), printed(snapshot)); diff != "" {
				t.Errorf("snapshot (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.notes, notes); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
			if !snapshot.Synced {
				t.Error("not synced")
			}
		})
	}
}

// pods are two of one Deployment whose port "http" differs, one that is going and one
// that is not ready.
const pods = `
{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {topology.kubernetes.io/zone: z1}}}
---
apiVersion: v1
kind: Pod
metadata: {name: p1, namespace: shop, labels: {app: web}}
spec:
  nodeName: n1
  hostname: first
  subdomain: web
  containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]
status: {podIP: 10.244.1.1, podIPs: [{ip: 10.244.1.1}, {ip: "fd00::1"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: p2, namespace: shop, labels: {app: web, extra: "yes"}}
spec:
  containers: [{name: c, ports: [{name: http, containerPort: 9090}]}]
status: {podIP: 10.244.1.2, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: p3, namespace: shop, labels: {app: web}, deletionTimestamp: 2026-01-02T03:04:05Z}
spec:
  containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]
status: {podIP: 10.244.1.3}
---
apiVersion: v1
kind: Pod
metadata: {name: p4, namespace: shop, labels: {app: web}}
spec:
  containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]
status: {podIP: 10.244.1.4, conditions: [{type: Ready, status: "False"}]}
---
{apiVersion: v1, kind: Pod, metadata: {name: done, namespace: shop, labels: {app: web}}, status: {phase: Succeeded, podIP: 10.244.1.9}}
---
{apiVersion: v1, kind: Pod, metadata: {name: other, namespace: elsewhere, labels: {app: web}}, status: {podIP: 10.244.1.8}}
---
{apiVersion: v1, kind: Pod, metadata: {name: pending, namespace: shop, labels: {app: web}}}
---
`

func TestEndpointsFromPodManifests(t *testing.T) {
	tests := map[string]struct{ spec, want string }{
		"named target port, one family": {
			spec: `{clusterIP: 10.96.0.10, selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}`,
			want: `
slice shop/web-pods-ipv4-0 10.244.1.1 ready serving host=first pod=p1 node=n1 zone=z1
slice shop/web-pods-ipv4-0 10.244.1.3 serving terminating host= pod=p3 node= zone=
slice shop/web-pods-ipv4-0 10.244.1.4 host= pod=p4 node= zone=
slice shop/web-pods-ipv4-0 of shop/web ports=[{http TCP 8080}]
slice shop/web-pods-ipv4-1 10.244.1.2 ready serving host= pod=p2 node= zone=
slice shop/web-pods-ipv4-1 of shop/web ports=[{http TCP 9090}]`,
		},
		"headless, both families, not ready published": {
			spec: `{clusterIP: None, selector: {app: web, extra: "yes"}, publishNotReadyAddresses: true}`,
			want: `
slice shop/web-pods-ipv4-0 10.244.1.2 ready serving host= pod=p2 node= zone=
slice shop/web-pods-ipv4-0 of shop/web ports=[]`,
		},
		"second family alone, number from the port": {
			spec: `{clusterIP: "fd00:10:96::1", selector: {app: web}, ports: [{port: 53, protocol: UDP}]}`,
			want: `
slice shop/web-pods-ipv6-0 fd00::1 ready serving host=first pod=p1 node=n1 zone=z1
slice shop/web-pods-ipv6-0 of shop/web ports=[{ UDP 53}]`,
		},
		"selector that matches nothing": {spec: `{clusterIP: 10.96.0.10, selector: {app: none}, ports: [{port: 80}]}`},
		"no selector":                   {spec: `{clusterIP: 10.96.0.10, ports: [{port: 80}]}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			snapshot, _, err := parseText(t, Selection{}, pods+`{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: `+test.spec+`}`)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for line := range strings.Lines(printed(snapshot)) {
				if strings.HasPrefix(line, "slice") {
					got = append(got, line)
				}
			}
			if diff := cmp.Diff(strings.TrimSpace(test.want), strings.TrimSpace(strings.Join(got, ""))); diff != "" {
				t.Errorf("slices (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBadManifestsNameTheLine(t *testing.T) {
	service := func(spec string) string {
		return "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  namespace: shop\nspec:\n" + spec
	}
	tests := map[string]struct {
		text, want string
	}{
		"syntax":        {"kind: Service\n  name: x\n", `a.yaml:2: mapping values are not allowed in this context`},
		"duplicate key": {"kind: Service\nkind: Pod\n", `a.yaml:2: mapping key "kind" already defined at line 1`},
		"not an object": {"- a\n", `a.yaml:1: must be an object with apiVersion and kind, is a list`},
		"no kind":       {"apiVersion: v1\n", `a.yaml:1: kind: is missing`},
		"no version":    {"\nkind: Service\n", `a.yaml:2: Service: apiVersion: is missing`},
		"no name":       {"apiVersion: v1\nkind: Service\n", `a.yaml:1: Service: metadata.name: is missing`},
		"bad name": {
			"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: Shop\n",
			`a.yaml:4: Namespace Shop: metadata.name: "Shop": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')`,
		},
		"unknown field": {
			service("  clusterIp: 10.96.0.1\n  clusterIP: 10.96.0.1\n  ports:\n  - port: 80\n    portt: 1\n"),
			"a.yaml:8: Service shop/web: spec.clusterIp: unknown field; correct its name or remove it\n" +
				"a.yaml:12: Service shop/web: spec.ports[0].portt: unknown field; correct its name or remove it",
		},
		"wrong type": {
			service("  clusterIP: 10.96.0.1\n  ports:\n  - name: a\n    port: http\n"),
			`a.yaml:11: Service shop/web: spec.ports[0].port: "http" is not a whole number of this field's size`,
		},
		"object for a list": {
			service("  clusterIP: 10.96.0.1\n  ports:\n    port: 80\n"),
			`a.yaml:10: Service shop/web: spec.ports: an object is not a list`,
		},
		"no cluster IP": {
			service("  ports:\n  - port: 80\n"),
			`a.yaml:7: Service shop/web: spec.clusterIP: must be set in manifests (an address of the Service network, or None): there is no API server to allocate one`,
		},
		"impossible address": {
			service("  clusterIP: 10.96.0.300\n  ports:\n  - port: 80\n"),
			`a.yaml:8: Service shop/web: spec.clusterIP: "10.96.0.300" is not an IP address`,
		},
		"port out of range": {
			service("  clusterIP: 10.96.0.1\n  ports:\n  - port: 70000\n"),
			`a.yaml:10: Service shop/web: spec.ports[0].port: 70000 is not a port (1 to 65535)`,
		},
		"no node port": {
			service("  type: NodePort\n  clusterIP: 10.96.0.1\n  ports:\n  - port: 80\n"),
			`a.yaml:11: Service shop/web: spec.ports[0].nodePort: must be set in manifests for type NodePort (30000 to 32767 is usual): there is no API server to allocate one`,
		},
		"same address twice": {
			web + "---\n" + strings.Replace(web, "name: web", "name: api", 1),
			`a.yaml:13: Service shop/api: spec.clusterIP: ClusterIP 10.96.0.10 is that of Service shop/web already`,
		},
		"same object twice": {
			web + "---\n" + web,
			`a.yaml:11: Service shop/web: metadata.name: is given twice, first at a.yaml:1`,
		},
		"slice without service": {
			"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: x\naddressType: IPv4\n",
			`a.yaml:3: EndpointSlice default/x: metadata.labels: label kubernetes.io/service-name, which names the Service, is missing`,
		},
		"several errors in several objects": {
			service("  clusterIP: x\n  ports:\n  - port: 80\n") + "---\napiVersion: v1\nkind: Node\n",
			"a.yaml:8: Service shop/web: spec.clusterIP: \"x\" is not an IP address\na.yaml:12: Node: metadata.name: is missing",
		},
		"alias without end": {"a: &a [*a]\n", `a.yaml:1: anchor 'a' value contains itself`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, err := parseText(t, Selection{}, test.text)
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(test.want, err.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

// A manifestsRun is a source at work on a directory.
type manifestsRun struct {
	t      *testing.T
	store  *state.Store
	source *Manifests
	log    *logBook
}

func runManifests(t *testing.T, path string) *manifestsRun {
	t.Helper()
	r := &manifestsRun{t: t, store: state.NewStore(), log: &logBook{}}
	source, err := NewManifests(path, Selection{}, slog.New(slog.NewTextHandler(r.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	r.source = source.(*Manifests)
	r.source.settle, r.source.again = 5*time.Millisecond, time.Hour // notification alone must do
	runSource(t, source, r.store)
	return r
}

// runSource runs a source until the test ends.
func runSource(t *testing.T, source Source, store *state.Store) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- source.Run(ctx, store) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// until waits for a condition.
func until(t *testing.T, what string, met func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !met(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func (r *manifestsRun) untilServices(want ...string) {
	r.t.Helper()
	until(r.t, fmt.Sprint("services ", want, "; log:\n", r.log), func() bool {
		var got []string
		for key := range r.store.Load().Services() {
			got = append(got, key.String())
		}
		slices.Sort(got)
		return slices.Equal(got, want) && r.store.Load().Synced
	})
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// writeTemp writes a file that waits to be renamed into place.
func writeTemp(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "new")
	write(t, path, content)
	return path
}

func renamed(name string) string { return strings.Replace(web, "name: web", "name: "+name, 1) }

func TestManifestsFollowTheDirectory(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "later", "manifests")
	r := runManifests(t, dir)
	until(t, "the error about the missing directory", func() bool {
		return r.log.count("no such file or directory") == 1
	})
	if r.store.Load().Synced {
		t.Error("synced without a directory")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r.untilServices()
	write(t, filepath.Join(dir, "web.yaml"), web)
	r.untilServices("shop/web")

	// As editors do it: a hidden file renamed over the old one.
	write(t, filepath.Join(dir, ".web.yaml.swp"), renamed("api"))
	if err := os.Rename(filepath.Join(dir, ".web.yaml.swp"), filepath.Join(dir, "web.yaml")); err != nil {
		t.Fatal(err)
	}
	r.untilServices("shop/api")

	// The whole directory replaced.
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	until(t, "the error about the removed directory", func() bool { return r.source.Status()[0].Err != nil })
	r.untilServices("shop/api")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r.untilServices()
	write(t, filepath.Join(dir, "web.json"), `{"apiVersion": "v1", "kind": "Service",
	"metadata": {"name": "json"},
	"spec": {"clusterIP": "None"}}`)
	r.untilServices("default/json")
}

func TestManifestsFollowALinkedDirectory(t *testing.T) {
	parent := t.TempDir()
	for _, name := range []string{"web", "api"} {
		if err := os.Mkdir(filepath.Join(parent, name), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(parent, name, "s.yaml"), renamed(name))
	}
	link := func(to string) {
		if err := os.Symlink(to, filepath.Join(parent, "tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(parent, "tmp"), filepath.Join(parent, "current")); err != nil {
			t.Fatal(err)
		}
	}
	link("web")
	r := runManifests(t, filepath.Join(parent, "current"))
	r.untilServices("shop/web")
	link("api")
	r.untilServices("shop/api")
	write(t, filepath.Join(parent, "api", "s.yaml"), renamed("new"))
	r.untilServices("shop/new")
}

func TestManifestsFollowAConfigMapVolume(t *testing.T) {
	dir := t.TempDir()
	publish := func(generation, content string) {
		target := filepath.Join(dir, generation)
		if err := os.Mkdir(target, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(target, "web.yaml"), content)
		link := filepath.Join(dir, "..data_tmp")
		if err := os.Symlink(generation, link); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	publish("..2026_01", web)
	if err := os.Symlink("..data/web.yaml", filepath.Join(dir, "web.yaml")); err != nil {
		t.Fatal(err)
	}
	whole, single := runManifests(t, dir), runManifests(t, filepath.Join(dir, "web.yaml"))
	whole.untilServices("shop/web")
	single.untilServices("shop/web")
	publish("..2026_02", renamed("api"))
	whole.untilServices("shop/api")
	single.untilServices("shop/api")
}

func TestManifestsKeepTheLastGoodState(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "web.yaml")
	write(t, path, "kind: [\n")
	r := runManifests(t, dir)
	until(t, "the error", func() bool { return r.source.Status()[0].Err != nil })
	if r.store.Load().Synced {
		t.Error("synced on bad manifests")
	}
	write(t, path, web)
	r.untilServices("shop/web")
	if status := r.source.Status()[0]; status.Err != nil || status.Listed.IsZero() {
		t.Errorf("status after correction: %+v", status)
	}
	good := r.store.Load()

	bad := strings.Replace(web, "10.96.0.10", "10.96.0.256", 1)
	write(t, path, bad)
	until(t, "the second error", func() bool { return r.source.Status()[0].Err != nil })
	want := fmt.Sprintf("manifests %s: %s:5: Service shop/web: spec.clusterIP: \"10.96.0.256\" is not an IP address\nthe last good manifests stay in force", dir, path)
	if diff := cmp.Diff(want, r.source.Status()[0].Err.Error()); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
	if r.store.Load() != good {
		t.Error("bad manifests made a new snapshot")
	}
	// A file that is about to be written anew takes nothing away.
	write(t, filepath.Join(dir, "x.yaml"), renamed("api"))
	write(t, path, "")
	until(t, "the third error", func() bool {
		err := r.source.Status()[0].Err
		return err != nil && strings.Contains(err.Error(), path+":1: is empty now; to remove its objects, remove the file")
	})
	write(t, path, bad)
	until(t, "the second error again", func() bool { return strings.Contains(r.source.Status()[0].Err.Error(), "10.96.0.256") })
	if err := os.Remove(filepath.Join(dir, "x.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(writeTemp(t, web), path); err != nil {
		t.Fatal(err)
	}
	until(t, "recovery", func() bool { return r.source.Status()[0].Err == nil })
	if r.store.Load() != good {
		t.Error("manifests as before made a new snapshot")
	}
}

func TestSourceSpecs(t *testing.T) {
	good := KubernetesConfig{Master: "http://127.0.0.1:1"}
	tests := map[string]struct {
		spec   string
		config KubernetesConfig
		want   string
	}{
		"default":        {"", good, ""},
		"kubernetes":     {"kubernetes", good, ""},
		"manifests":      {"manifests:/x", KubernetesConfig{}, ""},
		"no path":        {"manifests:", good, `source "manifests:": must be kubernetes or manifests:PATH (a directory or file of YAML manifests)`},
		"unknown":        {"etcd", good, `source "etcd": must be kubernetes or manifests:PATH (a directory or file of YAML manifests)`},
		"bad selector":   {"", KubernetesConfig{Master: "http://x", Selection: Selection{Labels: "a in ("}}, "^services: label selector"},
		"no kubeconfig":  {"", KubernetesConfig{Kubeconfig: "/does/not/exist"}, "kubeconfig /does/not/exist: stat /does/not/exist: no such file or directory"},
		"not in cluster": {"", KubernetesConfig{}, "^no API server: unable to load in-cluster configuration"},
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			source, err := Parse(test.spec, test.config)
			prefix, isPrefix := strings.CutPrefix(test.want, "^")
			switch {
			case err == nil && test.want == "":
				if source == nil {
					t.Error("no source")
				}
			case err == nil || source != nil || isPrefix && !strings.HasPrefix(err.Error(), prefix) || !isPrefix && err.Error() != test.want:
				t.Errorf("got source %v, error %v; want error %q", source, err, test.want)
			}
		})
	}
}
