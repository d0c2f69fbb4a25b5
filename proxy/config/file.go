package config

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	kubeproxy "k8s.io/kube-proxy/config/v1alpha1"
	"sigs.k8s.io/yaml"
)

// ReadFile reads a KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1) over defaults.
// Like kube-proxy it decodes strictly first and leniently then, so that a file written for a
// newer version still works: what the file has that is not understood comes back as warnings.
func ReadFile(path string, defaults Config) (config Config, warnings []string, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, nil, fmt.Errorf("configuration: %w", err)
	}
	file, warnings, err := decode(text)
	if err != nil {
		return Config{}, nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	if config, err = defaults.with(file); err != nil {
		return Config{}, nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	return config, append(warnings, ignored(file)...), nil
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

// with gives c changed by what a file says. A zero field of the file says nothing.
func (c Config) with(file *kubeproxy.KubeProxyConfiguration) (Config, error) {
	set(&c.Kubeconfig, file.ClientConnection.Kubeconfig)
	set(&c.QPS, file.ClientConnection.QPS)
	set(&c.Burst, int(file.ClientConnection.Burst))
	set(&c.Node, strings.ToLower(strings.TrimSpace(file.HostnameOverride)))
	set(&c.HealthzAddress, file.HealthzBindAddress)
	set(&c.MetricsAddress, file.MetricsBindAddress)
	set(&c.Scheduler, file.IPVS.Scheduler)
	set(&c.TCPTimeout, file.IPVS.TCPTimeout.Duration)
	set(&c.TCPFinTimeout, file.IPVS.TCPFinTimeout.Duration)
	set(&c.UDPTimeout, file.IPVS.UDPTimeout.Duration)
	set(&c.MasqueradeAll, file.IPTables.MasqueradeAll)
	set(&c.Verbosity, int(file.Logging.Verbosity))
	if v := file.IPTables.LocalhostNodePorts; v != nil {
		c.LocalhostNodePorts = *v
	}
	var err error
	if file.ClusterCIDR != "" {
		if c.PodCIDRs, err = prefixes("clusterCIDR", strings.Split(file.ClusterCIDR, ",")); err != nil {
			return Config{}, err
		}
	}
	if len(file.NodePortAddresses) > 0 {
		if c.NodePortAddresses, err = prefixes("nodePortAddresses", file.NodePortAddresses); err != nil {
			return Config{}, err
		}
	}
	return c, nil
}

// set assigns a value that says something.
func set[T comparable](field *T, value T) {
	var nothing T
	if value != nothing {
		*field = value
	}
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

// ignored names what a file sets that has no effect here.
func ignored(file *kubeproxy.KubeProxyConfiguration) []string {
	var warnings []string
	say := func(is bool, text string) {
		if is {
			warnings = append(warnings, text)
		}
	}
	say(file.Mode != "" && file.Mode != "ipvs",
		fmt.Sprintf("mode %q has no effect: mooring-proxy always uses IPVS", file.Mode))
	say(file.IPVS.StrictARP, "ipvs.strictARP has no effect: no address is assigned, so none is answered for")
	say(len(file.IPVS.ExcludeCIDRs) > 0, "ipvs.excludeCIDRs has no effect: virtual servers of others are never touched")
	say(file.DetectLocalMode != "" && file.DetectLocalMode != "ClusterCIDR",
		fmt.Sprintf("detectLocalMode %q is not supported, ClusterCIDR is used", file.DetectLocalMode))
	return warnings
}
