package config

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/mooring-proxy.md")

func TestDocumentation(t *testing.T) {
	const path, begin, end = "../../docs/mooring-proxy.md", "<!-- flags: generated -->\n", "<!-- end of flags -->\n"
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(string(content), begin)
	_, tail, found := strings.Cut(rest, end)
	if !found {
		t.Fatalf("%s has no lines %q and %q", path, begin, end)
	}
	want := head + begin + Document() + end + tail
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(content)); diff != "" {
		t.Errorf("%s is out of date, run `go test ./proxy/config -update` (-want +got):\n%s", path, diff)
	}
}

// TestEveryFlagOfKubeProxy has the flags of kube-proxy 1.37 on Linux, without those of its
// logging formats that are not released.
func TestEveryFlagOfKubeProxy(t *testing.T) {
	flags := flagSet(newSettings(), &Command{})
	for name := range strings.FieldsSeq(`config write-config-to cleanup feature-gates kubeconfig master kube-api-content-type kube-api-burst
		kube-api-qps hostname-override bind-address healthz-bind-address metrics-bind-address bind-address-hard-fail profiling
		show-hidden-metrics-for-version init-only proxy-mode iptables-masquerade-bit masquerade-all iptables-localhost-nodeports
		iptables-sync-period iptables-min-sync-period ipvs-sync-period ipvs-min-sync-period ipvs-scheduler ipvs-exclude-cidrs
		ipvs-strict-arp ipvs-tcp-timeout ipvs-tcpfin-timeout ipvs-udp-timeout detect-local-mode pod-bridge-interface
		pod-interface-name-prefix cluster-cidr nodeport-addresses oom-score-adj conntrack-max-per-core conntrack-min
		conntrack-tcp-timeout-established conntrack-tcp-timeout-close-wait conntrack-tcp-be-liberal conntrack-udp-timeout
		conntrack-udp-timeout-stream config-sync-period healthz-port metrics-port logging-format log-flush-frequency v vmodule version`) {
		if flags.Lookup(name) == nil {
			t.Errorf("--%s is missing", name)
		}
	}
}
