// Package restart_test starts the real programs while the API server is away.
package restart_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/mooring-project/mooring/internal/testkit/printed"
	"github.com/mooring-project/mooring/test/controlplane"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type testLog struct{ t *testing.T }

// Write implements io.Writer.
func (l testLog) Write(p []byte) (int, error) {
	l.t.Logf("%s", strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// server is mooring-dns on ports of its own.
type server struct {
	t                           *testing.T
	program, corefile, snapshot string
	addr, ready, metrics, pprof string
	process                     *exec.Cmd
	said                        printed.Text
}

func newServer(t *testing.T, kubeconfig string) *server {
	t.Helper()
	directory := t.TempDir()
	s := &server{
		t: t, program: filepath.Join(directory, "mooring-dns"), corefile: filepath.Join(directory, "Corefile"),
		snapshot: filepath.Join(directory, "snapshot"), addr: freeAddress(t), ready: freeAddress(t), metrics: freeAddress(t), pprof: freeAddress(t),
		said: printed.Text{Also: testLog{t}},
	}
	build := exec.Command("go", "build", "-o", s.program, "../../cmd/mooring-dns")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	_, port, _ := net.SplitHostPort(s.addr)
	corefile := fmt.Sprintf("cluster.local:%s {\n bind 127.0.0.1\n debug\n log\n errors\n pprof %s\n ready %s\n prometheus %s\n mooring {\n  kubeconfig %s\n  snapshot %s\n }\n}\n",
		port, s.pprof, s.ready, s.metrics, kubeconfig, s.snapshot)
	if err := os.WriteFile(s.corefile, []byte(corefile), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.process != nil {
			s.kill()
		}
	})
	return s
}

func freeAddress(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().String()
}

func (s *server) start() {
	s.t.Helper()
	s.process = exec.Command(s.program, "-conf", s.corefile)
	s.process.Stdout, s.process.Stderr = &s.said, &s.said
	s.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
}

// kill leaves the server no time to write anything.
func (s *server) kill() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
	s.process = nil
}

// patience is how long an answer may take on a machine that has much else to do.
const patience = 5 * time.Second

// ask gives the answer to an A question from a client with EDNS; nil if there is none.
func (s *server) ask(name string) *dns.Msg {
	query := new(dns.Msg).SetQuestion(name+".shop.svc.cluster.local.", dns.TypeA)
	query.SetEdns0(1232, false)
	reply, _, err := (&dns.Client{Timeout: patience}).Exchange(query, s.addr)
	if err != nil {
		return nil
	}
	return reply
}

// get fetches a page; empty if that fails.
func get(address, path string) string {
	response, err := http.Get("http://" + address + path) //nolint:noctx // on the loopback interface
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	content, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return ""
	}
	return string(content)
}

var contactAge = regexp.MustCompile(`(?m)^coredns_mooring_source_contact_age_seconds\{kind="services".*\} (\S+)$`)

// age gives how long ago the server last heard of Services, by its metrics.
func (s *server) age() time.Duration {
	found := contactAge.FindStringSubmatch(get(s.metrics, "/metrics"))
	if found == nil {
		return -1
	}
	seconds, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return time.Duration(seconds * float64(time.Second))
}

// explained gives the extended errors of an answer.
func explained(reply *dns.Msg) (text string) {
	if opt := reply.IsEdns0(); opt != nil {
		for _, option := range opt.Option {
			text += option.String() + "; "
		}
	}
	return text
}

func until(t *testing.T, what string, limit time.Duration, met func() bool) {
	t.Helper()
	begin := time.Now()
	for !met() {
		if time.Since(begin) > limit {
			t.Fatalf("no %s within %s", what, limit)
		}
		time.Sleep(10 * time.Millisecond)
	}
	took := time.Since(begin).Round(time.Millisecond)
	if took > limit {
		t.Fatalf("%s after %s, more than %s", what, took, limit)
	}
	t.Logf("%s after %s", what, took)
}

func (s *server) wait(what string, limit time.Duration, name string, met func(*dns.Msg) bool) {
	s.t.Helper()
	until(s.t, what, limit, func() bool {
		reply := s.ask(name)
		return reply != nil && met(reply)
	})
}

func startControlPlane(t *testing.T) (*controlplane.ControlPlane, kubernetes.Interface) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a real control plane, which takes seconds, and its first build minutes: left out by -short")
	}
	dir, err := controlplane.Build(t.Context(), testLog{t})
	if err != nil {
		t.Fatal(err)
	}
	plane, err := controlplane.Start(t.Context(), controlplane.Options{BinDir: dir, NoControllerManager: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plane.Stop)
	api, err := kubernetes.NewForConfig(plane.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return plane, api
}

func create(ctx context.Context, t *testing.T, api kubernetes.Interface, name string) {
	t.Helper()
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	if _, err := api.CoreV1().Services("shop").Create(ctx, service, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func answered(reply *dns.Msg) bool { return len(reply.Answer) == 1 }

func missing(reply *dns.Msg) bool { return reply.Rcode == dns.RcodeNameError }

// TestDNSStartsWithoutTheAPIServer kills the server, takes the API server away, and starts the
// server again: it answers within a second and says from what, and follows when the API server
// comes back, with a Service less and one more.
func TestDNSStartsWithoutTheAPIServer(t *testing.T) {
	plane, api := startControlPlane(t)
	create(t.Context(), t, api, "web")
	create(t.Context(), t, api, "old")
	s := newServer(t, plane.Kubeconfig())
	s.start()
	s.wait("answer", 20*time.Second, "web", answered)
	if reply := s.ask("web"); reply == nil || explained(reply) != "" {
		t.Errorf("with the API server there:\n%s", reply)
	}
	until(t, "file", 10*time.Second, func() bool { _, err := os.Stat(s.snapshot); return err == nil })
	s.kill()
	if err := api.CoreV1().Services("shop").Delete(t.Context(), "old", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	create(t.Context(), t, api, "new")
	plane.StopAPIServer()

	s.start()
	s.wait("answer without the API server", time.Second, "web", answered)
	for name, want := range map[string]string{"web": "3 (Stale Answer)", "old": "3 (Stale Answer)", "new": "19 (Stale NXDOMAIN Answer)"} {
		reply := s.ask(name)
		if reply == nil || !strings.HasPrefix(explained(reply), want) || !strings.Contains(explained(reply), "from a snapshot on disk as of") {
			t.Errorf("%s without the API server: want %q:\n%s", name, want, reply)
		}
	}
	if err := plane.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.wait("new Service", 40*time.Second, "new", answered)
	s.wait("end of the old one", time.Second, "old", missing)
	if reply := s.ask("web"); reply == nil || !answered(reply) || explained(reply) != "" {
		t.Errorf("with the API server back:\n%s", reply)
	}
	s.holdsBack(plane.Token())
}

// holdsBack looks for a secret in everything that the server shows, with every log switched on.
func (s *server) holdsBack(secret string) {
	s.t.Helper()
	shown := map[string]string{"log": s.said.String()}
	for _, page := range []string{"cmdline", "goroutine?debug=2", "heap?debug=1"} {
		response, err := http.Get("http://" + s.pprof + "/debug/pprof/" + page)
		if err != nil {
			s.t.Error(err)
			continue
		}
		text, _ := io.ReadAll(response.Body)
		response.Body.Close()
		shown[page] = string(text)
	}
	snapshot, err := os.ReadFile(s.snapshot)
	if err != nil {
		s.t.Error(err)
	}
	shown["snapshot"] = string(snapshot)
	for where, text := range shown {
		if text == "" || strings.Contains(text, secret) {
			s.t.Errorf("the token is in the %d octets of %s, or there are none", len(text), where)
		}
	}
}

// TestDNSKeepsAnsweringWithoutTheAPIServer takes the API server away from a server that runs: it
// answers as before, and is ready, while its metric of the age of what it knows grows; and it
// follows when the API server comes back.
func TestDNSKeepsAnsweringWithoutTheAPIServer(t *testing.T) {
	plane, api := startControlPlane(t)
	create(t.Context(), t, api, "web")
	s := newServer(t, plane.Kubeconfig())
	s.start()
	s.wait("answer", 20*time.Second, "web", answered)
	create(t.Context(), t, api, "young")
	s.wait("new Service", 20*time.Second, "young", answered)
	until(t, "young age", 10*time.Second, func() bool { age := s.age(); return age >= 0 && age < 5*time.Second })
	plane.StopAPIServer()
	failed := 0
	until(t, "older age", 20*time.Second, func() bool {
		if reply := s.ask("web"); reply == nil || !answered(reply) || explained(reply) != "" {
			failed++
		}
		return s.age() > 6*time.Second
	})
	if failed > 0 {
		t.Errorf("%d answers were missing or others while the API server was away", failed)
	}
	if get(s.ready, "/ready") == "" {
		t.Error("not ready while the API server is away")
	}
	if err := plane.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	create(t.Context(), t, api, "new")
	s.wait("Service made afterwards", 40*time.Second, "new", answered)
	until(t, "young age again", 10*time.Second, func() bool { return s.age() < 5*time.Second })
}

// TestDNSRefusesADamagedFile starts with a file of which one octet is another.
func TestDNSRefusesADamagedFile(t *testing.T) {
	plane, api := startControlPlane(t)
	create(t.Context(), t, api, "web")
	s := newServer(t, plane.Kubeconfig())
	s.start()
	s.wait("answer", 20*time.Second, "web", answered)
	until(t, "file", 10*time.Second, func() bool { _, err := os.Stat(s.snapshot); return err == nil })
	s.kill()
	content, err := os.ReadFile(s.snapshot)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(s.snapshot, content, 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.wait("answer from the API server", 20*time.Second, "web", answered)
	if reply := s.ask("web"); reply == nil || explained(reply) != "" {
		t.Errorf("answered from a damaged file:\n%s", reply)
	}
}
