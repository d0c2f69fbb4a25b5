package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

const manifestsDir = "../../plugin/testdata/manifests"

// stockDirectives is the order of CoreDNS itself.
var stockDirectives []string

func TestMain(m *testing.M) {
	stockDirectives = dnsserver.Directives
	dnsserver.Directives = directives(stockDirectives)
	dnsserver.Quiet, caddy.Quiet = true, true
	os.Exit(m.Run())
}

// documents are the files whose Corefiles must start.
var documents = []string{"../../README.md", "../../plugin/README.md", "../../Corefile.example"}

// TestEveryCorefileStarts starts each Corefile that we show, with our manifests in place
// of an API server and free ports in place of fixed ones, and asks it a question.
func TestEveryCorefileStarts(t *testing.T) {
	for _, path := range documents {
		t.Run(path, func(t *testing.T) {
			for i, corefile := range corefilesIn(t, path) {
				t.Run(fmt.Sprint(i+1), func(t *testing.T) { startAndAsk(t, corefile) })
			}
		})
	}
}

func startAndAsk(t *testing.T, corefile string) {
	server := start(t, startable(t, corefile))
	reply := exchange(t, server, "web.default.svc.cluster.local.", dns.TypeA)
	if len(reply.Answer) == 0 {
		t.Errorf("no answer from\n%s\n%s", corefile, reply)
	}
}

var fence = regexp.MustCompile("(?ms)^(?:~~~|```) ?(?:corefile|Corefile)\n(.*?)^(?:~~~|```)")

// corefilesIn gives the Corefiles of a document, or the document if it is one itself.
func corefilesIn(t *testing.T, path string) (corefiles []string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		t.Skipf("%s is missing", path)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(path, ".md") {
		return []string{string(content)}
	}
	for _, match := range fence.FindAllSubmatch(content, -1) {
		corefiles = append(corefiles, string(match[1]))
	}
	return corefiles
}

var (
	stanza      = regexp.MustCompile(`(?m)^([ \t]*)mooring\b([^{\n]*)(\{?)\n`)
	sourceLines = regexp.MustCompile(`(?m)^\s*(endpoint|kubeconfig|manifests|tls)\b.*\n`)
	fixedPorts  = regexp.MustCompile(`(?m)^([ \t]*(?:prometheus|health|ready)) *(:\d+)?`)
)

// startable makes a Corefile independent of its surroundings.
func startable(t *testing.T, corefile string) string {
	t.Helper()
	dir, err := filepath.Abs(manifestsDir)
	if err != nil {
		t.Fatal(err)
	}
	corefile = sourceLines.ReplaceAllString(corefile, "")
	corefile = stanza.ReplaceAllStringFunc(corefile, func(line string) string {
		parts := stanza.FindStringSubmatch(line)
		if parts[3] == "{" {
			return line + "manifests " + dir + "\n"
		}
		return fmt.Sprintf("%smooring%s {\nmanifests %s\n}\n", parts[1], parts[2], dir)
	})
	corefile = fixedPorts.ReplaceAllString(corefile, "$1 127.0.0.1:0 ")
	corefile = strings.ReplaceAll(corefile, "/etc/resolv.conf", "127.0.0.1:1") // nobody is asked from a test
	if strings.HasPrefix(corefile, "mooring") {                                // a stanza without its server block
		corefile = "cluster.local {\n " + strings.ReplaceAll(corefile, "\n", "\n ") + "\n}\n"
	}
	corefile = lameduck.ReplaceAllString(corefile, "lameduck 1ms")
	return blockStart.ReplaceAllStringFunc(corefile, func(line string) string {
		keys := strings.Fields(strings.TrimSuffix(strings.TrimSpace(line), "{"))
		for i, key := range keys {
			keys[i] = port.ReplaceAllString(key, "") + ":0"
		}
		return strings.Join(keys, " ") + " {\nbind 127.0.0.1\n"
	})
}

var (
	blockStart = regexp.MustCompile(`(?m)^[^\s{}#][^{}\n]*\{\n`)
	lameduck   = regexp.MustCompile(`lameduck \S+`)
	port       = regexp.MustCompile(`:\d+$`)
)

// server is a running CoreDNS.
type server struct {
	instance *caddy.Instance
	udp, tcp string
}

func start(t *testing.T, corefile string) *server {
	t.Helper()
	leaks := goleak.IgnoreCurrent() // the two below are left behind by stock plugins for a while
	instance, err := caddy.Start(caddy.CaddyfileInput{
		Contents: []byte(corefile), Filepath: "Corefile", ServerTypeName: "dns",
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, corefile)
	}
	s := &server{instance: instance}
	for _, listener := range instance.Servers() {
		s.udp, s.tcp = listener.LocalAddr().String(), listener.Addr().String()
	}
	t.Cleanup(func() {
		instance.ShutdownCallbacks()
		if err := instance.Stop(); err != nil {
			t.Error(err)
		}
		goleak.VerifyNone(t, leaks,
			goleak.IgnoreAnyFunction("github.com/coredns/coredns/plugin/loop.setup.func2.1"),
			goleak.IgnoreAnyFunction("github.com/coredns/coredns/plugin/pkg/proxy.(*Transport).connManager"))
	})
	return s
}

// exchange asks over UDP, and again if the answer does not come: a full socket buffer
// drops packets.
func exchange(t *testing.T, s *server, name string, rrtype uint16) *dns.Msg {
	t.Helper()
	client := &dns.Client{Timeout: time.Second}
	for try := 1; ; try++ {
		reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(name, rrtype), s.udp)
		if err == nil {
			return reply
		}
		if try == 5 {
			t.Fatal(err)
		}
	}
}

func TestVersionNamesBoth(t *testing.T) {
	got := versionText()
	if !strings.Contains(got, "CoreDNS-1.15.0") || strings.HasPrefix(got, " ") {
		t.Errorf("version %q", got)
	}
}

// TestReloadKeepsAnswering restarts a server in place, as the plugin reload does.
func TestReloadKeepsAnswering(t *testing.T) {
	corefile := startable(t, "cluster.local {\n    mooring\n}\n")
	s := start(t, corefile)
	addr := s.udp
	next, err := s.instance.Restart(caddy.CaddyfileInput{
		Contents:       bytes.ReplaceAll([]byte(corefile), []byte("manifests /"), []byte("ttl 60\nmanifests /")),
		Filepath:       "Corefile",
		ServerTypeName: "dns",
	})
	if err != nil {
		t.Fatal(err)
	}
	s.instance = next
	t.Cleanup(func() { next.ShutdownCallbacks(); _ = next.Stop() })
	for _, listener := range next.Servers() {
		addr = listener.LocalAddr().String()
	}
	reply := exchange(t, &server{udp: addr}, "web.default.svc.cluster.local.", dns.TypeA)
	if len(reply.Answer) != 1 || reply.Answer[0].Header().Ttl != 60 {
		t.Errorf("after the reload:\n%s", reply)
	}
}
