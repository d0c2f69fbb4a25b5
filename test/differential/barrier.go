package differential

import (
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcsv1alpha1 "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

// The barrier is one object of every kind that differs from step to step. Watches are
// sent in order, so a server that has the step's barrier has all that came before it.
// The namespace barrierToggle exists in odd steps only.
const (
	barrierNamespace = "zz"
	barrierToggle    = "zz-odd"
	barrierName      = "barrier"
	barrierTimeout   = 20 * time.Second
)

// barrierMeta is selected by every stanza.
func barrierMeta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{
		"app": "x", "team": "a",
		discoveryv1.LabelServiceName: barrierName, mcsv1alpha1.LabelServiceName: barrierName, mcsv1alpha1.LabelSourceCluster: "c0",
	}}
}

// barrierAddr is the address in the barrier of a step.
func barrierAddr(step int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 18, byte(step >> 8), byte(step)})
}

// barrier gives the objects of a step.
func barrier(step int) []object {
	ip := barrierAddr(step).String()
	objects := []object{
		&corev1.Namespace{ObjectMeta: barrierMeta("", barrierNamespace)},
		&corev1.Service{ObjectMeta: barrierMeta(barrierNamespace, barrierName), Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip}, Ports: []corev1.ServicePort{{Port: 1, Protocol: corev1.ProtocolTCP}},
		}},
		&discoveryv1.EndpointSlice{
			ObjectMeta: barrierMeta(barrierNamespace, barrierName), AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{ip}}},
		},
		&corev1.Pod{ObjectMeta: barrierMeta(barrierNamespace, barrierName), Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
		}},
		&mcsv1alpha1.ServiceImport{ObjectMeta: barrierMeta(barrierNamespace, barrierName), Spec: mcsv1alpha1.ServiceImportSpec{
			Type: mcsv1alpha1.ClusterSetIP, IPs: []string{ip},
		}},
	}
	if step%2 == 1 {
		objects = append(objects, &corev1.Namespace{ObjectMeta: barrierMeta("", barrierToggle)})
	}
	return objects
}

// await waits until a server has the barrier of a step.
func (s *server) await(step int) error {
	deadline := time.Now().Add(barrierTimeout)
	for {
		missing := s.missing(step)
		if missing == "" {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("step %d: after %s the server still has not the newest %s; its Corefile:\n%s", step, barrierTimeout, missing, s.corefile)
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// missing names the first kind of which a server has not the barrier of a step.
func (s *server) missing(step int) string {
	if s.stock != nil {
		return s.stockMissing(step)
	}
	return s.mooringMissing(step)
}

func (s *server) stockMissing(step int) string {
	objects, ip := s.stock.APIConn, barrierAddr(step).String()
	_, err := objects.GetNamespaceByName(barrierToggle)
	service := barrierName + "." + barrierNamespace
	switch {
	case (err == nil) != (step%2 == 1):
		return "namespaces"
	case len(objects.SvcIndexReverse(ip)) == 0:
		return "services"
	case !s.has("noendpoints") && len(objects.EpIndexReverse(ip)) == 0:
		return "endpointslices"
	case s.has("pods verified") && len(objects.PodIndex(ip)) == 0:
		return "pods"
	case s.has("multicluster "):
		return s.stockImportsMissing(service, ip)
	}
	return ""
}

func (s *server) stockImportsMissing(service, ip string) string {
	imports := s.stock.APIConn.SvcImportIndex(service)
	if len(imports) != 1 || imports[0].ClusterIPs[0] != ip {
		return "serviceimports"
	}
	slices := s.stock.APIConn.McEpIndex(service)
	if len(slices) != 1 || slices[0].Endpoints.Subsets[0].Addresses[0].IP != ip {
		return "endpointslices of imports"
	}
	return ""
}

func (s *server) mooringMissing(step int) string {
	snap, addr := s.mooring.Store.Load(), barrierAddr(step)
	switch {
	case (snap.Namespace(barrierToggle) != nil) != (step%2 == 1):
		return "namespaces"
	case s.has("pods verified") && !podHas(snap, addr):
		return "pods"
	case s.mooring.Imports != nil && serviceMissing(s.mooring.Imports.Load(), addr, true) != "":
		return serviceMissing(s.mooring.Imports.Load(), addr, true) + " of imports"
	}
	return serviceMissing(snap, addr, !s.has("noendpoints"))
}

// serviceMissing names what is missing of the barrier's Service and, if wanted, its
// EndpointSlice.
func serviceMissing(snap *state.Snapshot, addr netip.Addr, slices bool) string {
	service := snap.Service(model.ServiceKey{Namespace: barrierNamespace, Name: barrierName})
	switch {
	case service == nil || service.Service.ClusterIPs[0] != addr:
		return "services"
	case slices && (len(service.Slices) != 1 || service.Slices[0].Endpoints[0].Addr != addr):
		return "endpointslices"
	}
	return ""
}

func podHas(snap *state.Snapshot, addr netip.Addr) bool {
	use := snap.Address(addr)
	return use != nil && len(use.Pods) > 0
}
