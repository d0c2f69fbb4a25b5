// Package presubmit holds the house rules as tests.
package presubmit

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/mooring-project/mooring/"

// inner says which packages of our own a package may import: the arrows of ARCHITECTURE.md. The
// rule of the longest matching prefix counts; packages without one may import anything of ours.
var inner = map[string][]string{
	"internal/model":        {},
	"internal/policy":       {"internal/model"},
	"internal/state":        {"internal/model"},
	"internal/intern":       {"internal/model"},
	"internal/watch":        {"internal/intern", "internal/model", "internal/state"},
	"internal/atomicfile":   {},
	"internal/snapshotfile": {"internal/atomicfile", "internal/intern", "internal/model", "internal/state"},
	"plugin":                {"internal/model", "internal/state", "internal/watch", "internal/policy", "internal/snapshotfile"},
	"proxy/plan":            {"internal/model", "internal/policy", "internal/state"},
	"proxy/drain":           {"internal/model", "proxy/plan"},
	"proxy/config":          {},
	"proxy/health":          {},
	"proxy/relay":           {"internal/model", "proxy/plan"},
	"proxy/dataplane":       {"internal/model", "proxy/plan", "proxy/takeover", "proxy/dataplane"},
	"proxy/takeover":        {"internal/model", "proxy/plan"},
	"proxy/slowstart":       {"internal/model", "proxy/plan"},
	"proxy/reconcile":       {"internal/model", "internal/policy", "internal/state", "proxy/drain", "proxy/plan", "proxy/slowstart"},
	"proxy":                 {"internal", "proxy"},
	"cmd/mooring-dns":       {"plugin", "internal"},
	"cmd/mooring-proxy":     {"proxy", "internal"},
}

// outer says who alone may import the packages of others that begin with a prefix.
var outer = map[string][]string{
	"k8s.io/client-go":            {"internal/watch", "test"},
	"k8s.io/api":                  {"internal/watch", "test"},
	"k8s.io/kube-proxy":           {"proxy/config", "test"},
	"k8s.io/":                     {"internal/watch", "proxy/config", "test"},
	"github.com/coredns/":         {"plugin", "cmd/mooring-dns", "test"},
	"github.com/miekg/dns":        {"plugin", "cmd/mooring-dns", "test"},
	"github.com/moby/ipvs":        {"proxy/dataplane", "test"},
	"github.com/vishvananda/":     {"proxy/dataplane", "internal/testkit", "test"},
	"github.com/google/nftables":  {"proxy/dataplane", "test"},
	"github.com/mdlayher/netlink": {"proxy/dataplane", "test"},
	"golang.org/x/sys/unix":       {"proxy/dataplane", "internal/testkit", "test"},
	"github.com/prometheus/":      {"plugin", "proxy", "cmd", "test"},
}

// pure packages do no I/O, read no clock and log nothing.
var pure = []string{"internal/model", "internal/policy", "proxy/plan", "proxy/drain", "proxy/slowstart", "proxy/takeover"}

// impure are the standard packages that a pure package does not need.
var impure = []string{"os", "io", "io/fs", "log", "log/slog", "net", "net/http", "syscall", "context", "os/exec"}

type listed struct {
	ImportPath string
	Imports    []string
}

func list(t *testing.T) []listed {
	t.Helper()
	command := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	command.Dir = "../.."
	output, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []listed
	for decoder := json.NewDecoder(strings.NewReader(string(output))); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// under tells whether a path is a folder or lies below it.
func under(path, folder string) bool {
	return folder == "" || path == folder || strings.HasPrefix(path, folder+"/")
}

func underAny(path string, folders []string) bool {
	for _, folder := range folders {
		if under(path, folder) {
			return true
		}
	}
	return false
}

// longest gives the longest key that matches.
func longest(rules map[string][]string, matches func(key string) bool) (key string, found bool) {
	for candidate := range rules {
		if matches(candidate) && (!found || len(candidate) > len(key)) {
			key, found = candidate, true
		}
	}
	return key, found
}

func TestImportsGoOneWay(t *testing.T) {
	for _, p := range list(t) {
		from := strings.TrimPrefix(p.ImportPath, module)
		for _, imported := range p.Imports {
			if complaint := complain(from, imported); complaint != "" {
				t.Errorf("%s imports %s: %s", from, imported, complaint)
			}
		}
	}
}

// complain says what is wrong with an import; empty if nothing is.
func complain(from, imported string) string {
	if ours, isOurs := strings.CutPrefix(imported, module); isOurs {
		rule, found := longest(inner, func(key string) bool { return under(from, key) })
		if found && !under(ours, rule) && !underAny(ours, inner[rule]) {
			return "may import " + strings.Join(inner[rule], ", ") + " of ours"
		}
		return ""
	}
	if rule, found := longest(outer, func(key string) bool { return strings.HasPrefix(imported, key) }); found && !underAny(from, outer[rule]) {
		return "only " + strings.Join(outer[rule], ", ") + " may"
	}
	for _, name := range impure {
		if imported == name && underAny(from, pure) {
			return "a pure package does no I/O"
		}
	}
	return ""
}

func TestComplain(t *testing.T) {
	tests := []struct {
		name, from, imported string
		allowed              bool
	}{
		{"the plugin knows no proxy", "plugin", module + "proxy/plan", false},
		{"the proxy knows no plugin", "proxy/reconcile", module + "plugin", false},
		{"the planner does no I/O", "proxy/plan", "net", false},
		{"the planner knows addresses", "proxy/plan", "net/netip", true},
		{"only watch knows client-go", "proxy", "k8s.io/client-go/kubernetes", false},
		{"watch knows client-go", "internal/watch", "k8s.io/client-go/kubernetes", true},
		{"the data plane knows netlink", "proxy/dataplane/ipvs", "github.com/moby/ipvs", true},
		{"the loop does not", "proxy/reconcile", "github.com/moby/ipvs", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := complain(test.from, test.imported); (got == "") != test.allowed {
				t.Errorf("complaint %q, allowed %v", got, test.allowed)
			}
		})
	}
}
