package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	kubeproxy "k8s.io/kube-proxy/config/v1alpha1"
)

// settings are what the configuration file and the flags say, before anything is made of it.
// The flags that kube-proxy has too lie on the fields of its file.
type settings struct {
	kubeproxy.KubeProxyConfiguration

	// node is the node's name, which the host's is if the file and the flags have none.
	node         string
	source       string
	master       string
	drainTimeout time.Duration
	drainLedger  string
	auditPeriod  time.Duration
	// endpointMetrics has metrics of each endpoint.
	endpointMetrics bool
	// serviceProxyName is --service-proxy-name.
	serviceProxyName string
	// watchAuditPeriod is how often the watches of the API server are audited.
	watchAuditPeriod time.Duration
	// snapshot is a file, snapshotMaxAge how old what it holds may be.
	snapshot       string
	snapshotMaxAge time.Duration
	// adoptKubeProxy is --adopt-kube-proxy.
	adoptKubeProxy bool
	mark           uint32
	table          int
	rulePriority   int
	// healthzPort and metricsPort are flags of old: 0 switches the server off, -1 is not given.
	healthzPort, metricsPort int
}

// Ports of the servers, where an address comes without one.
const (
	healthzPort = 10256
	metricsPort = 10249
)

func newSettings() *settings {
	s := &settings{source: "kubernetes", drainTimeout: 15 * time.Minute, drainLedger: "/run/mooring/drains.json", auditPeriod: time.Minute, watchAuditPeriod: 10 * time.Minute, snapshotMaxAge: 24 * time.Hour, healthzPort: -1, metricsPort: -1}
	setDefaults(&s.KubeProxyConfiguration)
	return s
}

// setDefaults fills in kube-proxy's defaults (pkg/proxy/apis/config/v1alpha1/defaults.go); no
// pointer is nil afterwards, so that flags can lie on what they point to.
func setDefaults(f *kubeproxy.KubeProxyConfiguration) {
	f.APIVersion, f.Kind = kubeproxy.SchemeGroupVersion.String(), "KubeProxyConfiguration"
	setDefault(&f.BindAddress, "0.0.0.0")
	all, own := "0.0.0.0", "127.0.0.1"
	if ip, err := netip.ParseAddr(f.BindAddress); err == nil && ip.Is6() {
		all, own = "[::]", "[::1]"
	}
	setDefault(&f.HealthzBindAddress, all)
	setDefault(&f.MetricsBindAddress, own)
	f.HealthzBindAddress = withPort(f.HealthzBindAddress, healthzPort)
	f.MetricsBindAddress = withPort(f.MetricsBindAddress, metricsPort)
	setDefault(&f.ClientConnection.ContentType, "application/vnd.kubernetes.protobuf")
	setDefault(&f.ClientConnection.QPS, 5)
	setDefault(&f.ClientConnection.Burst, 10)
	setDefault(&f.DetectLocalMode, "ClusterCIDR")
	setDefault(&f.IPVS.Scheduler, "rr")
	setDefault(&f.Logging.Format, "text")
	setDefault(&f.Logging.FlushFrequency.Duration.Duration, 5*time.Second)
	setDefaultPeriods(f)
	point(&f.OOMScoreAdj, -999)
	point(&f.IPTables.LocalhostNodePorts, true)
	point(&f.IPTables.MasqueradeBit, 14)
	point(&f.NFTables.MasqueradeBit, 14)
	point(&f.Conntrack.MaxPerCore, 32*1024)
	point(&f.Conntrack.Min, 128*1024)
	day, hour := f.ConfigSyncPeriod, f.ConfigSyncPeriod // for their type
	day.Duration, hour.Duration = 24*time.Hour, time.Hour
	point(&f.Conntrack.TCPEstablishedTimeout, day)
	point(&f.Conntrack.TCPCloseWaitTimeout, hour)
	if f.FeatureGates == nil {
		f.FeatureGates = map[string]bool{}
	}
}

func setDefaultPeriods(f *kubeproxy.KubeProxyConfiguration) {
	setDefault(&f.ConfigSyncPeriod.Duration, 15*time.Minute)
	setDefault(&f.IPVS.SyncPeriod.Duration, 30*time.Second)
	for _, mode := range []struct{ period, pause *time.Duration }{
		{&f.IPTables.SyncPeriod.Duration, &f.IPTables.MinSyncPeriod.Duration},
		{&f.NFTables.SyncPeriod.Duration, &f.NFTables.MinSyncPeriod.Duration},
	} {
		setDefault(mode.period, 30*time.Second)
		setDefault(mode.pause, time.Second)
	}
}

// setDefault assigns to a field that says nothing.
func setDefault[T comparable](field *T, value T) {
	var nothing T
	if *field == nothing {
		*field = value
	}
}

// point makes a pointer that is nil point to a value.
func point[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}

// withPort gives an address that comes without a port the usual one.
func withPort(address string, port int) string {
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	return net.JoinHostPort(strings.Trim(address, "[]"), strconv.Itoa(port))
}

// usePorts applies the flags of old.
func (s *settings) usePorts() {
	for _, server := range []struct {
		port    int
		address *string
	}{{s.healthzPort, &s.HealthzBindAddress}, {s.metricsPort, &s.MetricsBindAddress}} {
		switch host, _, err := net.SplitHostPort(*server.address); {
		case server.port == 0:
			*server.address = ""
		case server.port > 0 && err == nil:
			*server.address = net.JoinHostPort(host, strconv.Itoa(server.port))
		}
	}
}

// check says what is wrong, in the words of the configuration file.
func (s *settings) check() error {
	for _, wrong := range []func() error{s.checkNumbers, s.checkDurations, s.checkAddresses, s.checkChoices} {
		if err := wrong(); err != nil {
			return err
		}
	}
	return nil
}

func (s *settings) checkNumbers() error {
	for _, n := range []struct {
		name        string
		value       int32
		least, most int32
	}{
		{"iptables.masqueradeBit", *s.IPTables.MasqueradeBit, 0, 31},
		{"nftables.masqueradeBit", *s.NFTables.MasqueradeBit, 0, 31},
		{"oomScoreAdj", *s.OOMScoreAdj, -1000, 1000},
		{"conntrack.maxPerCore", *s.Conntrack.MaxPerCore, 0, 1<<31 - 1},
		{"conntrack.min", *s.Conntrack.Min, 0, 1<<31 - 1},
		{"clientConnection.burst", s.ClientConnection.Burst, 0, 1<<31 - 1},
	} {
		if n.value < n.least || n.value > n.most {
			return fmt.Errorf("%s %d: must be from %d to %d", n.name, n.value, n.least, n.most)
		}
	}
	return nil
}

func (s *settings) checkDurations() error {
	for _, d := range []struct {
		name     string
		value    time.Duration
		positive bool
	}{
		{"configSyncPeriod", s.ConfigSyncPeriod.Duration, true},
		{"ipvs.syncPeriod", s.IPVS.SyncPeriod.Duration, true},
		{"ipvs.minSyncPeriod", s.IPVS.MinSyncPeriod.Duration, false},
		{"ipvs.tcpTimeout", s.IPVS.TCPTimeout.Duration, false},
		{"ipvs.tcpFinTimeout", s.IPVS.TCPFinTimeout.Duration, false},
		{"ipvs.udpTimeout", s.IPVS.UDPTimeout.Duration, false},
		{"conntrack.tcpEstablishedTimeout", s.Conntrack.TCPEstablishedTimeout.Duration, false},
		{"conntrack.tcpCloseWaitTimeout", s.Conntrack.TCPCloseWaitTimeout.Duration, false},
		{"conntrack.udpTimeout", s.Conntrack.UDPTimeout.Duration, false},
		{"conntrack.udpStreamTimeout", s.Conntrack.UDPStreamTimeout.Duration, false},
		{"--drain-timeout", s.drainTimeout, false},
		{"--audit-period", s.auditPeriod, false},
		{"--watch-audit-period", s.watchAuditPeriod, false},
		{"--snapshot-max-age", s.snapshotMaxAge, true},
	} {
		if d.value < 0 || d.positive && d.value == 0 {
			return fmt.Errorf("%s %s: must be greater than 0%s", d.name, d.value, map[bool]string{false: ", or 0"}[d.positive])
		}
	}
	return nil
}

func (s *settings) checkAddresses() error {
	if _, err := netip.ParseAddr(s.BindAddress); err != nil {
		return fmt.Errorf("bindAddress: %w", err)
	}
	for name, address := range map[string]string{"healthzBindAddress": s.HealthzBindAddress, "metricsBindAddress": s.MetricsBindAddress} {
		if address == "" {
			continue
		}
		if _, err := netip.ParseAddrPort(address); err != nil {
			return fmt.Errorf("%s %q: must be an address and a port, such as 0.0.0.0:10256: %w", name, address, err)
		}
	}
	return nil
}
