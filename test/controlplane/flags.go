package controlplane

import (
	"fmt"
	"net/netip"
	"strings"
)

// maxSocketPath is what fits into sockaddr_un (unix(7)) with the final zero.
const maxSocketPath = 107

// paths are the files of one control plane.
type paths struct{ dir string }

func (p paths) in(name string) string { return p.dir + "/" + name }
func (p paths) logs() string          { return p.in("logs") }
func (p paths) etcdSocket() string    { return p.in("etcd.sock") }
func (p paths) tokens() string        { return p.in("tokens.csv") }
func (p paths) signingKey() string    { return p.in("service-account.key") }
func (p paths) ca() string            { return p.in("ca.crt") }
func (p paths) kubeconfig() string    { return p.in("admin.kubeconfig") }

// etcdFlags make etcd listen on a socket, so that control planes side by side
// cannot meet. It insists on host:port in what it advertises, where nobody
// ever looks in a cluster of one.
func etcdFlags(p paths) []string {
	return []string{
		"--data-dir=" + p.in("etcd"),
		"--unsafe-no-fsync",
		"--listen-client-urls=unix://" + p.etcdSocket(),
		"--advertise-client-urls=http://127.0.0.1:0",
		"--listen-peer-urls=http://127.0.0.1:0",
		"--quota-backend-bytes=4294967296",
		"--log-level=warn",
	}
}

// apiServerFlags turn off what only slows a test down: fair queueing between
// clients and profiling.
func apiServerFlags(o Options, p paths) []string {
	flags := []string{
		"--etcd-servers=unix://" + p.etcdSocket(),
		"--bind-address=" + o.BindAddress.String(),
		fmt.Sprintf("--secure-port=%d", o.SecurePort),
		"--advertise-address=" + o.AdvertiseAddress.String(),
		"--tls-cert-file=" + p.in("apiserver.crt"),
		"--tls-private-key-file=" + p.in("apiserver.key"),
		"--client-ca-file=" + p.ca(),
		"--kubelet-client-certificate=" + p.in("kubelet-client.crt"),
		"--kubelet-client-key=" + p.in("kubelet-client.key"),
		"--token-auth-file=" + p.tokens(),
		"--service-cluster-ip-range=" + o.ServiceCIDR,
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + p.signingKey(),
		"--service-account-signing-key-file=" + p.signingKey(),
		"--allow-privileged=true",
		"--enable-priority-and-fairness=false",
		"--max-requests-inflight=3000",
		"--max-mutating-requests-inflight=1000",
		"--profiling=false",
	}
	if o.RealNodes {
		flags = append(flags, "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction")
	} else {
		flags = append(flags, "--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount")
	}
	return replaceFlags(flags, o.APIServerFlags)
}

// controllerManagerFlags let the endpoint controllers write every change at
// once and give the client room. The manager serves nothing itself.
func controllerManagerFlags(o Options, p paths) []string {
	controllers := "*"
	if !o.RealNodes {
		controllers += ",-node-lifecycle-controller,-pod-garbage-collector-controller"
	}
	flags := []string{
		"--kubeconfig=" + p.kubeconfig(),
		"--secure-port=0",
		"--leader-elect=false",
		"--controllers=" + controllers,
		"--allocate-node-cidrs=false",
		"--root-ca-file=" + p.ca(),
		"--service-account-private-key-file=" + p.signingKey(),
		"--kube-api-qps=1000",
		"--kube-api-burst=2000",
		"--endpoint-updates-batch-period=0s",
		"--endpointslice-updates-batch-period=0s",
		"--profiling=false",
	}
	return replaceFlags(flags, o.ControllerManagerFlags)
}

func schedulerFlags(o Options, p paths) []string {
	flags := []string{
		"--kubeconfig=" + p.kubeconfig(),
		"--secure-port=0",
		"--leader-elect=false",
		"--profiling=false",
	}
	return replaceFlags(flags, o.SchedulerFlags)
}

// replaceFlags returns flags with those of the same name replaced by others.
// Appending is not enough: a flag that takes a list adds up.
func replaceFlags(flags, others []string) []string {
	replaced := make(map[string]bool)
	for _, f := range others {
		replaced[flagName(f)] = true
	}
	var result []string
	for _, f := range flags {
		if !replaced[flagName(f)] {
			result = append(result, f)
		}
	}
	return append(result, others...)
}

func flagName(flag string) string {
	name, _, _ := strings.Cut(strings.TrimLeft(flag, "-"), "=")
	return name
}

// servingNames lists what clients may call the API server.
func servingNames(o Options, ranges []netip.Prefix) []string {
	names := []string{
		"127.0.0.1", "::1", "localhost",
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
		o.AdvertiseAddress.String(),
	}
	if !o.BindAddress.IsUnspecified() {
		names = append(names, o.BindAddress.String())
	}
	for _, r := range ranges {
		names = append(names, firstHost(r).String())
	}
	return append(names, o.ExtraSANs...)
}
