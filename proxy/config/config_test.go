package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const header = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"

// kubeadm is the file that kubeadm writes, as far as it concerns an ipvs node.
const kubeadm = header + `
bindAddress: 0.0.0.0
clientConnection: {kubeconfig: /var/lib/kube-proxy/kubeconfig.conf, qps: 0, burst: 0}
clusterCIDR: 10.244.0.0/16,fd00:10:244::/56
healthzBindAddress: ""
hostnameOverride: ""
iptables: {localhostNodePorts: null, masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: wlc, strictARP: false, syncPeriod: 0s, tcpFinTimeout: 0s, tcpTimeout: 24h, udpTimeout: 0s}
mode: ipvs
nodePortAddresses: null
`

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func cidrs(list ...string) []netip.Prefix {
	var result []netip.Prefix
	for _, text := range list {
		result = append(result, netip.MustParsePrefix(text))
	}
	return result
}

func TestParse(t *testing.T) {
	tests := []struct {
		name     string
		file     string
		args     []string
		want     func(*Config)
		warnings []string
	}{
		{"nothing but a name", "", []string{"--hostname-override", "Node-1"}, func(c *Config) { c.Node = "node-1" }, nil},
		{"the file of kubeadm with its command", kubeadm, []string{"--hostname-override=node-1"}, func(c *Config) {
			c.Node, c.Kubeconfig, c.Scheduler, c.TCPTimeout = "node-1", "/var/lib/kube-proxy/kubeconfig.conf", "wlc", 24*time.Hour
			c.PodCIDRs = cidrs("10.244.0.0/16", "fd00:10:244::/56")
		}, nil},
		{
			"a flag goes before the file, another one's default does not", header + "ipvs: {scheduler: sh}\nhostnameOverride: a\nclusterCIDR: 10.0.0.0/8",
			[]string{"--hostname-override=b", "--cluster-cidr=10.9.0.0/16"},
			func(c *Config) {
				c.Node, c.Scheduler, c.PodCIDRs = "b", "sh", cidrs("10.9.0.0/16")
			}, nil,
		},
		{
			"a field of the future is a warning", header + "hostnameOverride: a\nfuture: 1", nil, func(c *Config) { c.Node = "a" },
			[]string{`unknown field "future"`},
		},
		{
			"settings without effect are named", header + "hostnameOverride: a\nmode: nftables\nipvs: {strictARP: true, excludeCIDRs: [10.0.0.0/8]}", nil,
			func(c *Config) { c.Node = "a" },
			[]string{"mode", "strictARP", "excludeCIDRs"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			args := test.args
			if test.file != "" {
				args = append(args, "--config", write(t, test.file))
			}
			got, err := Parse(args)
			if err != nil {
				t.Fatal(err)
			}
			want := Default()
			test.want(&want)
			if diff := cmp.Diff(want, got.Config, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
				t.Errorf("config (-want +got):\n%s", diff)
			}
			if len(got.Warnings) != len(test.warnings) {
				t.Fatalf("warnings %q, want %d", got.Warnings, len(test.warnings))
			}
			for i, want := range test.warnings {
				if !strings.Contains(got.Warnings[i], want) {
					t.Errorf("warning %q does not name %q", got.Warnings[i], want)
				}
			}
		})
	}
}

func TestParseSaysWhatIsWrong(t *testing.T) {
	tests := []struct {
		name string
		file string
		args []string
		want string
	}{
		{"a file of another kind", "apiVersion: v1\nkind: Service\n", nil, "want kubeproxy.config.k8s.io/v1alpha1"},
		{"no YAML", "{", nil, "configuration"},
		{"a CIDR that is none", header + "clusterCIDR: 10.244.0.0", nil, `clusterCIDR: netip.ParsePrefix("10.244.0.0")`},
		{"a scheduler that is none", header + "ipvs: {scheduler: best}", nil, `ipvs.scheduler "best"`},
		{"an unknown source", "", []string{"--source=etcd"}, "--source"},
		{"a flag that is none", "", []string{"--no-such-flag"}, "no-such-flag"},
		{"an argument", "", []string{"run"}, `argument "run"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			args := append(test.args, "--hostname-override=a")
			if test.file != "" {
				args = append(args, "--config", write(t, test.file))
			}
			if _, err := Parse(args); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v does not say %q", err, test.want)
			}
		})
	}
}
