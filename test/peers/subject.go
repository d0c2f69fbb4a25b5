package peers

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Subject names a proxy in one of its modes.
type Subject string

// The subjects, in the order of the tables.
const (
	Mooring           Subject = "mooring-proxy"
	KubeProxyIPVS     Subject = "kube-proxy ipvs"
	KubeProxyNFTables Subject = "kube-proxy nftables"
	// KubeProxyIPTables is not compared with; it may have to be taken over from.
	KubeProxyIPTables Subject = "kube-proxy iptables"
)

// Subjects are all of them.
var Subjects = []Subject{Mooring, KubeProxyIPVS, KubeProxyNFTables}

// Program is the name of the subject's binary.
func (s Subject) Program() string {
	program, _, _ := strings.Cut(string(s), " ")
	return program
}

// mode is what the configuration file calls it.
func (s Subject) mode() string {
	if _, mode, found := strings.Cut(string(s), " "); found {
		return mode
	}
	return "ipvs"
}

// Settings are what the scenarios vary.
type Settings struct {
	// ClusterCIDR has the pods, one prefix for each family and a comma; empty leaves the proxy
	// without a way to tell them.
	ClusterCIDR   string
	MasqueradeAll bool
}

// Config is the KubeProxyConfiguration. The least period between two syncs is as short as
// kube-proxy takes it: what is compared is work, not waiting.
func (s Subject) Config(kubeconfig string, settings Settings) string {
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: %s
clientConnection: {kubeconfig: %s, qps: 1000, burst: 2000}
clusterCIDR: %q
conntrack: {maxPerCore: 0}
iptables: {masqueradeAll: %[4]t}
ipvs: {scheduler: rr, syncPeriod: 30s, minSyncPeriod: 0s}
nftables: {masqueradeAll: %[4]t, syncPeriod: 30s, minSyncPeriod: 10ms}
`, s.mode(), kubeconfig, settings.ClusterCIDR, settings.MasqueradeAll)
}

// Prefixes of the names of the metrics that every subject has.
const (
	lastSync   = "kubeproxy_sync_proxy_rules_last_timestamp_seconds"
	lastQueued = "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds"
)

// AtRest tells by a proxy's metrics whether it has ended a sync since it last heard of
// something, for every address family. It is also true between two syncs, of which the first
// had begun before the proxy heard of it.
func AtRest(metrics io.Reader) (bool, error) {
	synced, queued := map[string]float64{}, map[string]float64{}
	lines := bufio.NewScanner(metrics)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		for name, into := range map[string]map[string]float64{lastSync: synced, lastQueued: queued} {
			sample, found := bytes.CutPrefix(lines.Bytes(), []byte(name))
			if !found {
				continue
			}
			labels, text, _ := strings.Cut(string(sample), " ")
			value, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return false, fmt.Errorf("metric %s: %w", name, err)
			}
			into[labels] = value
		}
	}
	for labels, at := range queued {
		if synced[labels] < at {
			return false, nil
		}
	}
	return len(synced) > 0, lines.Err()
}
