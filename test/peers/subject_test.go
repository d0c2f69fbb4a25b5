package peers

import (
	"strings"
	"testing"
)

func TestAtRest(t *testing.T) {
	const both = `# HELP kubeproxy_sync_proxy_rules_last_timestamp_seconds x
kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"} 1.7e+09
kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv6"} 20
kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family="IPv4"} 16
`
	tests := []struct {
		name, metrics string
		want          bool
	}{
		{"nothing yet", "", false},
		{"synced and never asked", "kubeproxy_sync_proxy_rules_last_timestamp_seconds{} 3\n", true},
		{"one family lags", both + `kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family="IPv6"} 21`, false},
		{"both are through", both + `kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family="IPv6"} 19`, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := AtRest(strings.NewReader(test.metrics))
			if err != nil || got != test.want {
				t.Errorf("at rest %v, error %v; want %v", got, err, test.want)
			}
		})
	}
}
