package deploy

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/internal/watch"
	"github.com/mooring-project/mooring/proxy"
	"github.com/mooring-project/mooring/proxy/config"
	"github.com/mooring-project/mooring/test/controlplane"
)

// The accounts that the objects of deploy/ give rights to.
const (
	dnsAccount   = "system:serviceaccount:kube-system:mooring-dns"
	proxyAccount = "system:serviceaccount:kube-system:mooring-proxy"
)

func TestRolesAreExactlyWhatIsUsed(t *testing.T) {
	directory := t.TempDir()
	trail, err := controlplane.NewTrail(directory)
	if err != nil {
		t.Fatal(err)
	}
	plane := start(t, controlplane.Options{
		Users: []controlplane.User{{Name: dnsAccount}, {Name: proxyAccount}},
		// Without it `list` is asked for at the start; else by the audit alone, minutes later.
		APIServerFlags: append(trail.Flags, "--feature-gates=WatchList=false"),
	})
	objects, err := kustomize("base")
	if err != nil {
		t.Fatal(err)
	}
	server := newApplier(t, plane)
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		if err := server.apply(t.Context(), objects[name], metav1.ApplyOptions{}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	t.Run("mooring-dns", func(t *testing.T) {
		runDNS(t, plane, directory)
		checkUse(t, trail, dnsAccount, allowed(t, objects["ClusterRole mooring-dns"].Object))
	})
	t.Run("mooring-proxy", func(t *testing.T) {
		runProxySource(t, plane, directory)
		writeEvents(t, plane, directory)
		checkUse(t, trail, proxyAccount, allowed(t, objects["ClusterRole mooring-proxy"].Object))
	})
}

// runDNS runs the real program under its account until it answers for kube-dns.
func runDNS(t *testing.T, plane *controlplane.ControlPlane, directory string) {
	program := filepath.Join(directory, "mooring-dns")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", program, "./cmd/mooring-dns")
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	kubeconfig := filepath.Join(directory, "dns.kubeconfig")
	if err := plane.WriteKubeconfig(kubeconfig, "", dnsAccount); err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	corefile := filepath.Join(directory, "Corefile")
	text := fmt.Sprintf(".:%s {\n bind 127.0.0.1\n errors\n mooring cluster.local {\n  kubeconfig %s\n }\n}\n", port, kubeconfig)
	if err := os.WriteFile(corefile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	command := exec.CommandContext(ctx, program, "-conf", corefile)
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { stop(); _ = command.Wait() }()
	question := new(dns.Msg).SetQuestion("kube-dns.kube-system.svc.cluster.local.", dns.TypeA)
	eventually(t, "an answer for kube-dns", func() bool {
		reply, err := dns.Exchange(question, address)
		return err == nil && reply.Rcode == dns.RcodeSuccess && len(reply.Answer) == 1
	})
}

// runProxySource runs what mooring-proxy reads the API by, as it is configured in a cluster, until
// everything has been listed.
func runProxySource(t *testing.T, plane *controlplane.ControlPlane, directory string) {
	kubeconfig := filepath.Join(directory, "proxy.kubeconfig")
	if err := plane.WriteKubeconfig(kubeconfig, "", proxyAccount); err != nil {
		t.Fatal(err)
	}
	command, err := config.Parse([]string{"--kubeconfig=" + kubeconfig, "--hostname-override=node-1", "--config=" + filepath.Join(root, "proxy/config.conf")})
	if err != nil {
		t.Fatal(err)
	}
	source, err := proxy.NewSource(command.Config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	store := state.NewStore()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- source.Run(ctx, store) }()
	eventually(t, "everything listed", func() bool { return store.Load().Synced })
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// writeEvents says something about a Service, and the same once more, as another node does.
func writeEvents(t *testing.T, plane *controlplane.ControlPlane, directory string) {
	events, err := watch.NewEvents(watch.KubernetesConfig{Kubeconfig: filepath.Join(directory, "proxy.kubeconfig"), Logger: slog.New(slog.DiscardHandler)}, "mooring-proxy", "node-1")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); events.Run(ctx) }()
	defer func() { stop(); <-ended }()
	api, err := kubernetes.NewForConfig(plane.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		events.Warn(model.ServiceKey{Namespace: "default", Name: "kubernetes"}, "InvalidAnnotation", "of no effect")
	}
	eventually(t, "an event that two nodes have seen", func() bool {
		list, err := api.EventsV1().Events("default").List(t.Context(), metav1.ListOptions{})
		return err == nil && slices.ContainsFunc(list.Items, func(e eventsv1.Event) bool { return e.Reason == "InvalidAnnotation" && e.Series != nil })
	})
}

// allowed gives what a role allows, as "verb resource.group".
func allowed(t *testing.T, role map[string]any) map[string]bool {
	var r rbacv1.ClusterRole
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(role, &r); err != nil {
		t.Fatal(err)
	}
	uses := map[string]bool{}
	for _, rule := range r.Rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					uses[controlplane.Use(verb, resource, group)] = true
				}
			}
		}
	}
	return uses
}

// checkUse waits until an account has used what it may, and tells what it asked for besides.
func checkUse(t *testing.T, trail *controlplane.Trail, account string, want map[string]bool) {
	got := map[string]bool{}
	within(10*time.Second, func() bool {
		got = used(t, trail, account)
		for use := range want {
			if !got[use] {
				return false
			}
		}
		return true
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-allowed +asked for\n%s", diff)
	}
}

// used gives what an account has asked for, and complains of what it was refused.
func used(t *testing.T, trail *controlplane.Trail, account string) map[string]bool {
	uses, err := trail.Uses(account)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for use, refused := range uses {
		all[use] = true
		if refused {
			t.Errorf("%s was refused to %s", account, use)
		}
	}
	return all
}

// eventually asks until the answer is yes, and fails after half a minute.
func eventually(t *testing.T, what string, yes func() bool) {
	t.Helper()
	if !within(30*time.Second, yes) {
		t.Fatalf("%s: not within 30 s", what)
	}
}

// within asks until the answer is yes or the time is over.
func within(limit time.Duration, yes func() bool) bool {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.After(limit); !yes(); {
		select {
		case <-deadline:
			return false
		case <-ticker.C:
		}
	}
	return true
}

// freeAddress gives a loopback address whose port nobody has.
func freeAddress(t *testing.T) string {
	connection, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	return connection.LocalAddr().String()
}
