// Package objects makes the Services and EndpointSlices that benchmarks run on, the same ones for
// the same numbers.
package objects

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Namespaces is how many the Services are spread over.
const Namespaces = 100

// NamespaceOf gives the namespace of Service number i.
func NamespaceOf(i int) string { return NamespaceName(i % Namespaces) }

// NamespaceName gives the name of namespace number n.
func NamespaceName(n int) string { return fmt.Sprintf("ns-%d", n) }

// NameOf gives the name of Service number i.
func NameOf(i int) string { return fmt.Sprintf("service-%d", i) }

// ClusterIP gives an address for Service number i, from 10.96.0.0/12; the last octet is 1 to 250.
func ClusterIP(i int) string { return fmt.Sprintf("10.%d.%d.%d", 96+i/62500, i/250%250, 1+i%250) }

// PodAddresses gives addresses for n endpoints of Service number i, from 10.128.0.0/9, where each
// Service has 128.
func PodAddresses(i, n int) []string {
	var addresses []string
	for e := range n {
		at := i*128 + e
		addresses = append(addresses, fmt.Sprintf("10.%d.%d.%d", 128+at>>16, at>>8&255, at&255))
	}
	return addresses
}

// Namespace gives a namespace.
func Namespace(name string) *corev1.Namespace {
	return &corev1.Namespace{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{
			Name: name, UID: types.UID(name), Labels: map[string]string{corev1.LabelMetadataName: name},
		},
	}
}

// Service gives a Service of TCP port 80 as Helm makes it.
func Service(namespace, name, ip string) *corev1.Service {
	return &corev1.Service{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name, UID: types.UID(namespace + "/" + name),
			Labels: map[string]string{"app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "Helm"},
			ManagedFields: managedBy("helm", `{"f:metadata":{"f:labels":{".":{},"f:app.kubernetes.io/managed-by":{},"f:app.kubernetes.io/name":{}}},`+
				`"f:spec":{"f:internalTrafficPolicy":{},"f:ports":{".":{},"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:name":{},"f:port":{},"f:protocol":{},"f:targetPort":{}}},"f:selector":{},"f:type":{}}}`),
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip},
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, Selector: map[string]string{"app.kubernetes.io/name": name},
			SessionAffinity: corev1.ServiceAffinityNone,
			Ports:           []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}},
		},
	}
}

// Slice gives the EndpointSlice of a Service, with port 8080, as the EndpointSlice controller makes it.
func Slice(service *corev1.Service, addresses []string) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: service.Namespace, Name: service.Name + "-x7k2p", GenerateName: service.Name + "-", UID: service.UID + "-x7k2p",
			Labels: map[string]string{
				discoveryv1.LabelServiceName: service.Name, discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io",
				"app.kubernetes.io/name": service.Name,
			},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Service", Name: service.Name, UID: service.UID, Controller: new(true)}},
			ManagedFields: managedBy("kube-controller-manager", `{"f:addressType":{},"f:endpoints":{},"f:metadata":{"f:annotations":{},"f:generateName":{},`+
				`"f:labels":{".":{},"f:endpointslice.kubernetes.io/managed-by":{},"f:kubernetes.io/service-name":{}},"f:ownerReferences":{}},"f:ports":{}}`),
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(8080))}},
	}
	for i, address := range addresses {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{address},
			Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
			NodeName:   new(fmt.Sprintf("worker-%d.example.test", i*37%500)),
			Zone:       new(fmt.Sprintf("region-1%c", 'a'+rune(i%3))),
			TargetRef: &corev1.ObjectReference{
				Kind: "Pod", Namespace: service.Namespace, Name: fmt.Sprintf("%s-5d4f8c7b9-%05d", service.Name, i),
				UID: types.UID(fmt.Sprintf("2f6f0c1e-0000-4000-8000-%012d", i)),
			},
		})
	}
	return slice
}

func managedBy(manager, fields string) []metav1.ManagedFieldsEntry {
	return []metav1.ManagedFieldsEntry{{
		Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", Time: &metav1.Time{Time: time.Unix(1_700_000_000, 0)},
		FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields),
	}}
}
