package mooring

import (
	"strings"
	"testing"

	"github.com/coredns/caddy"
)

func TestSetupErrorsNameLineAndToken(t *testing.T) {
	for name, test := range map[string]struct{ stanza, want string }{
		"unknown property":           {"mooring cluster.local {\nttl 5\nnamespace x\n}", "Testfile:3 - Error during parsing: unknown property 'namespace'"},
		"twice":                      {"mooring cluster.local\nmooring cluster.local", "Testfile:2 - Error during parsing: mooring can be used once"},
		"only reverse zones":         {"mooring 10.in-addr.arpa", "Testfile:1 - Error during parsing: a zone that is not a reverse zone"},
		"ttl is no number":           {"mooring cluster.local {\nttl soon\n}", "Testfile:2 - Error during parsing: ttl wants a whole number between 0 and 3600, not 'soon'"},
		"ttl out of range":           {"mooring cluster.local {\nttl 3601\n}", "not '3601'"},
		"ttl without value":          {"mooring cluster.local {\nttl\n}", "Testfile:2 - Error during parsing: Wrong argument count or unexpected line ending after 'ttl'"},
		"startup_timeout":            {"mooring cluster.local {\nstartup_timeout 5\n}", "Testfile:2 - Error during parsing: startup_timeout wants a duration such as 5s, not '5'"},
		"namespaces without":         {"mooring cluster.local {\nnamespaces\n}", "after 'namespaces'"},
		"endpoint without":           {"mooring cluster.local {\nendpoint\n}", "after 'endpoint'"},
		"tls with two files":         {"mooring cluster.local {\ntls cert key\n}", "after 'key'"},
		"kubeconfig without":         {"mooring cluster.local {\nkubeconfig\n}", "after 'kubeconfig'"},
		"manifests and API":          {"mooring cluster.local {\nmanifests dir\nendpoint http://x\n}", "manifests takes the place of an API server"},
		"multicluster zone not ours": {"mooring cluster.local {\nmulticluster clusterset.local\n}", "Testfile:2 - Error during parsing: multicluster zone clusterset.local. is not among"},
		"multicluster without":       {"mooring cluster.local {\nmulticluster\n}", "after 'multicluster'"},
		"multicluster and manifests": {"mooring cluster.local {\nmulticluster cluster.local\nmanifests x\n}", "multicluster needs an API server"},
		"labels":                     {"mooring cluster.local {\nlabels a in (b\n}", "Testfile:2 - Error during parsing: labels: label selector 'a in (b': "},
		"pods mode":                  {"mooring cluster.local {\npods maybe\n}", "Testfile:2 - Error during parsing: pods wants one of disabled, insecure, verified, not 'maybe'"},
		"ignore":                     {"mooring cluster.local {\nignore all\n}", "ignore wants empty_service, not 'all'"},
		"compat":                     {"mooring cluster.local {\ncompat old\n}", "compat wants stock, not 'old'"},
		"zonal without endpoints":    {"mooring cluster.local {\nzonal\nnoendpoints\n}", "zonal needs the endpoints"},
		"two kinds of namespaces":    {"mooring cluster.local {\nnamespaces a\nnamespace_labels b\n}", "namespaces and namespace_labels cannot both be set"},
		"qps":                        {"mooring cluster.local {\napiserver_qps -1\n}", "apiserver_qps wants a number not below 0, not '-1'"},
		"burst":                      {"mooring cluster.local {\napiserver_burst many\n}", "apiserver_burst wants a whole number"},
		"stale_after":                {"mooring cluster.local {\nstale_after 3m sometimes\n}", "can be followed by unready, not by 'sometimes'"},
		"flag with argument":         {"mooring cluster.local {\nzonal yes\n}", "after 'yes'"},
		"max_inflight":               {"mooring cluster.local {\nttl 5\napiserver_max_inflight -1\n}", "Testfile:3 - Error during parsing: apiserver_max_inflight wants a whole number"},
		"namespace_labels":           {"mooring cluster.local {\nnamespace_labels =\n}", "Testfile:2 - Error during parsing: namespace_labels: label selector '=': "},
		"noendpoints with argument":  {"mooring cluster.local {\nnoendpoints now\n}", "after 'now'"},
		"endpoint_pod_names with":    {"mooring cluster.local {\nendpoint_pod_names now\n}", "after 'now'"},
		"manifests without":          {"mooring cluster.local {\nmanifests\n}", "after 'manifests'"},
		"stale_after 0":              {"mooring cluster.local {\nstale_after 0s\n}", "Testfile:2 - Error during parsing: stale_after wants a duration such as 3m, not '0s'"},
		"negative_ttl":               {"mooring cluster.local {\nnegative_ttl 3601\n}", "negative_ttl wants a whole number between 0 and 3600"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(caddy.NewTestController("dns", test.stanza))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want one with %q", err, test.want)
			}
		})
	}
}

// TestSourceErrorsNameLine has values that can be read but that lead to nothing.
func TestSourceErrorsNameLine(t *testing.T) {
	for name, test := range map[string]struct{ stanza, want string }{
		"kubeconfig is missing": {"mooring cluster.local {\nttl 5\nkubeconfig /missing/config\n}", "plugin/mooring: Testfile:3: kubeconfig /missing/config: "},
		"certificate is missing": {
			"mooring cluster.local {\nendpoint https://127.0.0.1:1\ntls /missing/cert /missing/key /missing/ca\n}", "plugin/mooring: Testfile:3: API server https://127.0.0.1:1: ",
		},
		"endpoint is no address": {"mooring cluster.local {\nendpoint ::\n}", "plugin/mooring: Testfile:2: "},
		"no API server":          {"mooring cluster.local {\nttl 5\n}", "plugin/mooring: Testfile:1: no API server: "},
	} {
		t.Run(name, func(t *testing.T) {
			err := setup(caddy.NewTestController("dns", test.stanza))
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got error %v, want one that begins with %q", err, test.want)
			}
		})
	}
}

func TestZonesDefaultToTheServerBlock(t *testing.T) {
	c := caddy.NewTestController("dns", "mooring")
	c.ServerBlockKeys = []string{"dns://Cluster.Local.:53", "10.0.0.0/16:53"}
	m, err := Parse(c)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, z := range m.zones {
		got = append(got, z.name)
	}
	if want := "cluster.local. 0.10.in-addr.arpa."; strings.Join(got, " ") != want {
		t.Errorf("zones %q, want %q", got, want)
	}
	if m.naming.primary != "cluster.local." {
		t.Errorf("primary zone %q", m.naming.primary)
	}
}
