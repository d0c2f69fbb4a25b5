package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	kubeproxy "k8s.io/kube-proxy/config/v1alpha1"
)

// externalIPs is the one feature gate that is looked at (Kubernetes 1.36).
const externalIPs = "AllowServiceExternalIPs"

// ignored names what differs from the defaults and has no effect here, and why.
func ignored(f *kubeproxy.KubeProxyConfiguration) []string {
	defaults := &newSettings().KubeProxyConfiguration
	var warnings []string
	for _, field := range withoutEffect(f, defaults) {
		if !reflect.DeepEqual(field.value, field.usual) {
			warnings = append(warnings, fmt.Sprintf("%s has no effect: %s", field.name, field.why))
		}
	}
	for _, gate := range slices.Sorted(maps.Keys(f.FeatureGates)) {
		if gate != externalIPs {
			warnings = append(warnings, fmt.Sprintf("featureGates.%s has no effect: mooring-proxy has no such feature gate", gate))
		}
	}
	return warnings
}

type idleField struct {
	name         string
	value, usual any
	why          string
}

// withoutEffect lists the fields that nothing here reads, as they are and as they usually are.
func withoutEffect(f, d *kubeproxy.KubeProxyConfiguration) []idleField {
	const (
		asleep   = "changes are applied at once, and nothing happens while nothing changes"
		settings = "the settings of mode ipvs are read from ipvs and iptables"
		windows  = "it is for Windows"
	)
	mode := f.Mode
	if mode == "ipvs" {
		mode = ""
	}
	return []idleField{
		{fmt.Sprintf("mode %q", f.Mode), mode, d.Mode, "mooring-proxy always uses IPVS"},
		{"iptables.syncPeriod", f.IPTables.SyncPeriod, d.IPTables.SyncPeriod, settings},
		{"iptables.minSyncPeriod", f.IPTables.MinSyncPeriod, d.IPTables.MinSyncPeriod, settings},
		{"ipvs.minSyncPeriod", f.IPVS.MinSyncPeriod, d.IPVS.MinSyncPeriod, asleep},
		{"ipvs.strictARP", f.IPVS.StrictARP, d.IPVS.StrictARP, "no address is assigned, so none is answered for"},
		{"ipvs.excludeCIDRs", len(f.IPVS.ExcludeCIDRs), 0, "virtual servers of others are never touched"},
		{"nftables", f.NFTables, d.NFTables, settings},
		{"winkernel", f.Winkernel, d.Winkernel, windows},
		{"windowsRunAsService", f.WindowsRunAsService, d.WindowsRunAsService, windows},
		{"portRange", f.PortRange, d.PortRange, "kube-proxy does not use it either"},
		{"configSyncPeriod", f.ConfigSyncPeriod, d.ConfigSyncPeriod, asleep},
		{"showHiddenMetricsForVersion", f.ShowHiddenMetricsForVersion, d.ShowHiddenMetricsForVersion, "no metric is hidden"},
		{"logging.flushFrequency", f.Logging.FlushFrequency, d.Logging.FlushFrequency, "each line is written at once"},
		{"logging.vmodule", len(f.Logging.VModule), 0, "there is one level for all of the program"},
		{"logging.options", text(f.Logging.Options), text(d.Logging.Options), "there are none"},
	}
}

// text gives a value as JSON, in which quantities that are equal are the same.
func text(value any) string {
	text, _ := json.Marshal(value)
	return string(text)
}
