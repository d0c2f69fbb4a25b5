package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
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

// values compares what a Config is made of, without what only names or repeats it.
var values = cmp.Options{cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{}), cmpopts.IgnoreFields(Config{}, "Configz", "Flags", "File")}

// usual gives the Config without a node's name when nothing is said.
func usual(t *testing.T) Config {
	t.Helper()
	s := newSettings()
	s.node = "any"
	c, err := s.resolve()
	if err != nil {
		t.Fatal(err)
	}
	c.Node = ""
	return c
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
			c.DetectLocal.PodCIDRs = cidrs("10.244.0.0/16", "fd00:10:244::/56")
		}, nil},
		{
			"a flag goes before the file, another one's default does not", header + "ipvs: {scheduler: sh}\nhostnameOverride: a\nclusterCIDR: 10.0.0.0/8",
			[]string{"--hostname-override=b", "--cluster-cidr=10.9.0.0/16"},
			func(c *Config) {
				c.Node, c.Scheduler, c.DetectLocal.PodCIDRs = "b", "sh", cidrs("10.9.0.0/16")
			}, nil,
		},
		{
			"an IPv6 node has servers on IPv6 addresses", header + "hostnameOverride: a\nbindAddress: fd00::1\nmetricsBindAddress: 127.0.0.1", nil,
			func(c *Config) {
				c.Node, c.NodeIP = "a", netip.MustParseAddr("fd00::1")
				c.HealthzAddress, c.MetricsAddress = "[::]:10256", "127.0.0.1:10249"
			}, nil,
		},
		{"no servers", "", []string{"--hostname-override=a", "--healthz-bind-address=", "--metrics-port=0"}, func(c *Config) {
			c.Node, c.HealthzAddress, c.MetricsAddress = "a", "", ""
		}, nil},
		{"a port of old", "", []string{"--hostname-override=a", "--healthz-port=1234"}, func(c *Config) {
			c.Node, c.HealthzAddress = "a", "0.0.0.0:1234"
		}, nil},
		{
			"pods by the Node object; the cluster's CIDR does not count then", header + "hostnameOverride: a\ndetectLocalMode: NodeCIDR\nclusterCIDR: 10.0.0.0/8", nil,
			func(c *Config) { c.Node, c.DetectLocal.Mode = "a", NodeCIDR }, nil,
		},
		{
			"pods by their bridge", header + "hostnameOverride: a\ndetectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cbr0}", nil,
			func(c *Config) {
				c.Node, c.DetectLocal.Mode, c.DetectLocal.Bridge = "a", BridgeInterface, "cbr0"
			}, nil,
		},
		{
			"NodePorts on the primary address", header + "hostnameOverride: a\nnodePortAddresses: [primary, 192.168.1.4/16]", nil,
			func(c *Config) {
				c.Node, c.LocalhostNodePorts = "a", false
				c.NodePortAddresses = NodePortAddresses{Primary: true, Prefixes: cidrs("192.168.0.0/16")}
			}, nil,
		},
		{"no external IPs", "", []string{"--hostname-override=a", "--feature-gates=AllowServiceExternalIPs=false,Other=true"}, func(c *Config) {
			c.Node, c.ExternalIPs = "a", false
		}, []string{"featureGates.Other"}},
		{"a flag without effect and without field", "", []string{"--hostname-override=a", "--vmodule=x=1"}, func(c *Config) { c.Node = "a" }, []string{"--vmodule"}},
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
			want := usual(t)
			test.want(&want)
			if diff := cmp.Diff(want, got.Config, values); diff != "" {
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
		{"a bit that is none", header + "iptables: {masqueradeBit: 32}", nil, "iptables.masqueradeBit 32"},
		{"a time that is none", header + "conntrack: {udpTimeout: -1s}", nil, "conntrack.udpTimeout"},
		{"an address that is none", header + "nodePortAddresses: [main]", nil, `nodePortAddresses "main"`},
		{"a server's address that is none", "", []string{"--metrics-bind-address=localhost:1"}, "metricsBindAddress"},
		{"a mode of another world", header + "detectLocalMode: Magic", nil, `detectLocalMode "Magic"`},
		{"a mode without its interface", header + "detectLocalMode: BridgeInterface", nil, "detectLocal.bridgeInterface"},
		{"a gate without value", "", []string{"--feature-gates=A"}, "name=true"},
		{"an unknown source", "", []string{"--source=etcd"}, "--source"},
		{
			"a trial beside kube-proxy that would take kube-proxy's away", "",
			[]string{"--adopt-kube-proxy", "--service-proxy-name=mooring"},
			`--adopt-kube-proxy and --service-proxy-name "mooring"`,
		},
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

// TestEveryFieldCounts changes each field of kube-proxy's file, one at a time: it has to change
// the Config, or be refused, or be warned of.
func TestEveryFieldCounts(t *testing.T) {
	base := usual(t)
	var walk func(path string, field func(*settings) reflect.Value)
	walk = func(path string, field func(*settings) reflect.Value) {
		value := field(newSettings())
		switch kind := value.Kind(); {
		case path == ".APIVersion" || path == ".Kind" || strings.HasPrefix(path, ".Logging.Options"):
			return // what the file is; options of formats that are in no release
		case kind == reflect.Struct:
			for i := range value.NumField() {
				if value.Type().Field(i).IsExported() {
					walk(strings.TrimSuffix(path+"."+value.Type().Field(i).Name, ".TypeMeta"), func(s *settings) reflect.Value { return field(s).Field(i) })
				}
			}
			return
		case kind == reflect.Pointer:
			walk(path, func(s *settings) reflect.Value { return field(s).Elem() })
			return
		}
		t.Run(path, func(t *testing.T) {
			s := newSettings()
			s.node = "any"
			// What another field must say for this one to count.
			switch path {
			case ".DetectLocal.BridgeInterface":
				s.DetectLocalMode = BridgeInterface
			case ".DetectLocal.InterfaceNamePrefix":
				s.DetectLocalMode = InterfaceNamePrefix
			}
			alter(t, path, field(s))
			if path == ".HostnameOverride" {
				s.node = s.HostnameOverride // as Command.finish does
			}
			changed, err := s.resolve()
			changed.Node = strings.TrimPrefix(changed.Node, "any")
			if err == nil && cmp.Equal(base, changed, values) && len(ignored(&s.KubeProxyConfiguration)) == 0 {
				t.Errorf("%s: no effect and no warning", path)
			}
		})
	}
	walk("", func(s *settings) reflect.Value { return reflect.ValueOf(&s.KubeProxyConfiguration).Elem() })
}

// samples are values that a field with a syntax of its own takes.
var samples = map[string]string{
	".ClusterCIDR": "10.0.0.0/8", ".BindAddress": "10.0.0.1", ".HealthzBindAddress": "10.0.0.1:1", ".MetricsBindAddress": "10.0.0.1:1",
	".DetectLocalMode": NodeCIDR, ".Logging.Format": "json", ".IPVS.Scheduler": "sh",
}

func alter(t *testing.T, path string, field reflect.Value) {
	t.Helper()
	switch field.Kind() {
	case reflect.Bool:
		field.SetBool(!field.Bool())
	case reflect.String:
		text := "something"
		if sample, has := samples[path]; has {
			text = sample
		}
		field.SetString(text)
	case reflect.Int, reflect.Int32, reflect.Int64:
		field.SetInt(field.Int() + 1)
	case reflect.Uint32:
		field.SetUint(field.Uint() + 1)
	case reflect.Float32:
		field.SetFloat(field.Float() + 1)
	case reflect.Map:
		field.Set(reflect.ValueOf(map[string]bool{"Some": true}))
	case reflect.Slice:
		item := reflect.New(field.Type().Elem()).Elem()
		if item.Kind() == reflect.String {
			item.SetString("10.0.0.0/8")
		}
		field.Set(reflect.Append(field, item))
	default:
		t.Fatalf("%s is a %s: tell this test how to change one", path, field.Kind())
	}
}

func TestFlagsForPeopleToLookAt(t *testing.T) {
	command, err := Parse([]string{"--hostname-override=node-1", "--ipvs-scheduler=sh"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"ipvs-scheduler": "sh", "drain-timeout": "15m0s"} {
		if got := command.Config.Flags[name]; got != want {
			t.Errorf("--%s: %q, want %q", name, got, want)
		}
	}
}

func TestWrittenConfigurationReadsTheSame(t *testing.T) {
	first, err := Parse([]string{"--config", write(t, kubeadm), "--hostname-override=node-1", "--ipvs-scheduler=sh"})
	if err != nil {
		t.Fatal(err)
	}
	second, err := Parse([]string{"--config", write(t, string(first.File))})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first.Config, second.Config, values); diff != "" || len(second.Warnings) > 0 {
		t.Errorf("warnings %q, config (-first +second):\n%s", second.Warnings, diff)
	}
	if diff := cmp.Diff(string(first.Config.Configz), string(second.Config.Configz)); diff != "" {
		t.Errorf("configz (-first +second):\n%s", diff)
	}
}

func TestWrittenConfigurationNamesNoHost(t *testing.T) {
	command, err := Parse([]string{"--ipvs-scheduler=sh"})
	if err != nil {
		t.Fatal(err)
	}
	if text := string(command.File); command.Config.Node == "" || !strings.Contains(text, `hostnameOverride: ""`) || !strings.Contains(text, "scheduler: sh") {
		t.Errorf("node %q, file:\n%s", command.Config.Node, text)
	}
}

func TestAllows(t *testing.T) {
	primary := []netip.Addr{netip.MustParseAddr("172.30.0.11"), netip.MustParseAddr("fd00::11")}
	tests := []struct {
		name    string
		list    []string
		primary []netip.Addr
		allowed string
	}{
		{"all if nothing is said", nil, nil, "172.30.0.11 192.168.1.4 fd00::11 127.0.0.1 ::1"},
		{"all", []string{"all"}, nil, "172.30.0.11 192.168.1.4 fd00::11 127.0.0.1 ::1"},
		{"a network restricts its own family alone", []string{"192.168.0.0/16"}, nil, "192.168.1.4 fd00::11 ::1"},
		{"the primary addresses", []string{"primary"}, primary, "172.30.0.11 fd00::11"},
		{"a primary address of one family", []string{"primary"}, primary[:1], "172.30.0.11"},
		{"primary addresses that are not known yet", []string{"primary"}, nil, ""},
		{"loopback too", []string{"primary", "localhost"}, primary, "172.30.0.11 fd00::11 127.0.0.1 ::1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n, err := nodePortAddresses(test.list)
			if err != nil {
				t.Fatal(err)
			}
			var allowed []string
			for text := range strings.FieldsSeq("172.30.0.11 192.168.1.4 fd00::11 127.0.0.1 ::1") {
				if n.Allows(netip.MustParseAddr(text), test.primary) {
					allowed = append(allowed, text)
				}
			}
			if diff := cmp.Diff(test.allowed, strings.Join(allowed, " ")); diff != "" {
				t.Errorf("allowed (-want +got):\n%s", diff)
			}
		})
	}
}
