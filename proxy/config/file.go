package config

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"

	kubeproxy "k8s.io/kube-proxy/config/v1alpha1"
	"sigs.k8s.io/yaml"
)

// readFile reads a KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1) and applies
// defaults. Like kube-proxy it decodes strictly first and leniently then, so that a file written
// for a newer version still works: what the file has that is not understood comes back as
// warnings.
func readFile(path string) (file *kubeproxy.KubeProxyConfiguration, warnings []string, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("configuration: %w", err)
	}
	if file, warnings, err = decode(text); err != nil {
		return nil, nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	setDefaults(file)
	return file, warnings, nil
}

func decode(text []byte) (*kubeproxy.KubeProxyConfiguration, []string, error) {
	var file kubeproxy.KubeProxyConfiguration
	var warnings []string
	if strict := yaml.UnmarshalStrict(text, &file); strict != nil {
		file = kubeproxy.KubeProxyConfiguration{}
		if err := yaml.Unmarshal(text, &file); err != nil {
			return nil, nil, err
		}
		warnings = append(warnings, strict.Error())
	}
	if want := kubeproxy.SchemeGroupVersion.String(); file.APIVersion != want || file.Kind != "KubeProxyConfiguration" {
		return nil, nil, fmt.Errorf("apiVersion %q, kind %q: want %s, KubeProxyConfiguration", file.APIVersion, file.Kind, want)
	}
	return &file, warnings, nil
}

// yaml gives the settings that kube-proxy has too as a configuration file.
func (s *settings) yaml() ([]byte, error) {
	text, err := yaml.Marshal(&s.KubeProxyConfiguration)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return text, nil
}

// json gives all settings in the form of kube-proxy's /configz. They name files with secrets,
// and hold none.
func (s *settings) json() ([]byte, error) {
	text, err := json.MarshalIndent(map[string]any{
		kubeproxy.GroupName: &s.KubeProxyConfiguration,
		"mooring.dev": map[string]any{
			"source": s.source, "master": s.master, "drainTimeout": s.drainTimeout.String(), "auditPeriod": s.auditPeriod.String(),
			"endpointMetrics": s.endpointMetrics, "serviceProxyName": s.serviceProxyName,
			"watchAuditPeriod": s.watchAuditPeriod.String(),
			"snapshot":         s.snapshot, "snapshotMaxAge": s.snapshotMaxAge.String(), "drainLedger": s.drainLedger,
			"divertMark": s.mark, "routeTable": s.table, "rulePriority": s.rulePriority,
		},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return append(text, '\n'), nil
}

// prefixes parses a list of CIDRs; name is the field to blame.
func prefixes(name string, list []string) ([]netip.Prefix, error) {
	var result []netip.Prefix
	for _, text := range list {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		result = append(result, prefix.Masked())
	}
	return result, nil
}
