package watch

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mooring-project/mooring/internal/intern"
	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

// A cluster is what a set of manifests says, checked as the API server would have.
type cluster struct {
	selection *selectors
	converter converter

	places     map[string]*document // what has been read, to find duplicates
	services   []*readService
	slices     []*model.EndpointSlice
	sliced     map[model.ServiceKey]bool // Services with EndpointSlices of their own
	pods       []*corev1.Pod
	modelPods  []*model.Pod
	nodes      []*model.Node
	zones      map[string]string
	namespaces map[string]bool
	hidden     map[string]bool // Namespaces that the selector does not want
	cidrs      []netip.Prefix

	// notes are remarks that are no errors.
	notes []string
}

type readService struct {
	document *document
	api      *corev1.Service
	model    *model.Service
}

func newCluster(selection *selectors, names *intern.Names) *cluster {
	return &cluster{
		selection: selection, converter: converter{names: names, literal: selection.Literal, noTargets: selection.NoTargets},
		places: make(map[string]*document), sliced: make(map[model.ServiceKey]bool),
		zones:      make(map[string]string),
		namespaces: map[string]bool{metav1.NamespaceDefault: true}, hidden: make(map[string]bool),
	}
}

// notRead are kinds that people keep beside Services and that say nothing to us.
var notRead = strings.Fields(`ClusterRole ClusterRoleBinding ConfigMap ControllerRevision CronJob
	CustomResourceDefinition DaemonSet Deployment Event Gateway HorizontalPodAutoscaler HTTPRoute Ingress
	IngressClass Job Lease LimitRange NetworkPolicy PersistentVolume PersistentVolumeClaim PodDisruptionBudget
	PriorityClass ReplicaSet ReplicationController ResourceQuota Role RoleBinding RuntimeClass Secret
	ServiceAccount StatefulSet StorageClass`)

// add takes in one object.
func (c *cluster) add(d *document) error {
	switch d.apiVersion + "/" + d.kind {
	case "v1/Service":
		return addObject(c, d, true, c.addService)
	case "discovery.k8s.io/v1/EndpointSlice":
		return addObject(c, d, true, c.addSlice)
	case "v1/Pod":
		return addObject(c, d, true, c.addPod)
	case "v1/Node":
		return addObject(c, d, false, c.addNode)
	case "v1/Namespace":
		return addObject(c, d, false, c.addNamespace)
	case "networking.k8s.io/v1/ServiceCIDR":
		return addObject(c, d, false, c.addServiceCIDR)
	}
	if slices.Contains(notRead, d.kind) {
		c.mention(d)
		return nil
	}
	c.notes = append(c.notes, fmt.Sprintf("%s:%d: %s of %s is not read; kinds read are Service, EndpointSlice, Pod, Node, Namespace, ServiceCIDR",
		d.place, d.line, d.object(), d.apiVersion))
	return nil
}

// mention records the namespace of an object of which nothing else is wanted.
func (c *cluster) mention(d *document) {
	if d.namespace != "" {
		c.namespaces[d.namespace] = true
	}
}

// addObject decodes and checks what all kinds have in common.
func addObject[T any, P interface {
	*T
	metav1.Object
}](c *cluster, d *document, namespaced bool, add func(*document, P) error,
) error {
	object := P(new(T))
	if namespaced && d.namespace == "" {
		d.namespace = metav1.NamespaceDefault
	}
	if err := d.decode(object); err != nil {
		return err
	}
	if err := checkName(d); err != nil {
		return err
	}
	if earlier := c.places[d.object()]; earlier != nil {
		return d.errorf("metadata.name", "is given twice, first at %s:%d", earlier.place, earlier.line)
	}
	c.places[d.object()] = d
	if namespaced {
		object.SetNamespace(d.namespace)
		c.namespaces[d.namespace] = true
		if !c.selection.allows(d.namespace) {
			return nil
		}
	}
	return add(d, object)
}

func checkName(d *document) error {
	check := validation.IsDNS1123Subdomain
	switch d.kind {
	case "Service":
		check = validation.IsDNS1035Label
	case "Namespace":
		check = validation.IsDNS1123Label
	}
	if d.name == "" {
		return d.errorf("metadata.name", "is missing")
	}
	if wrong := check(d.name); len(wrong) > 0 {
		return d.errorf("metadata.name", "%q: %s", d.name, wrong[0])
	}
	if wrong := validation.IsDNS1123Label(d.namespace); d.namespace != "" && len(wrong) > 0 {
		return d.errorf("metadata.namespace", "%q: %s", d.namespace, wrong[0])
	}
	return nil
}

// problems makes errors of what the converter could not use.
func (c *cluster) problems(d *document) error {
	var broken error
	for _, p := range c.converter.take() {
		broken = errors.Join(broken, d.errorf(p.field, "%s", p.text))
	}
	return broken
}

func (c *cluster) addService(d *document, in *corev1.Service) error {
	if !c.selection.services.Matches(labels.Set(in.Labels)) {
		return nil
	}
	out := c.converter.service(in)
	if err := errors.Join(c.problems(d), checkService(d, in, out)); err != nil {
		return err
	}
	if out.Headless && c.selection.NoHeadless {
		return nil
	}
	c.services = append(c.services, &readService{d, in, out})
	return nil
}

func (c *cluster) addSlice(d *document, in *discoveryv1.EndpointSlice) error {
	if !c.selection.labels.Matches(labels.Set(in.Labels)) {
		return nil
	}
	out := c.converter.slice(in)
	if out == nil {
		return d.errorf("metadata.labels", "label %s, which names the Service, is missing", discoveryv1.LabelServiceName)
	}
	if in.AddressType == "" {
		return d.errorf("addressType", "is missing; must be IPv4, IPv6 or FQDN")
	}
	if err := c.problems(d); err != nil {
		return err
	}
	c.slices, c.sliced[out.Service] = append(c.slices, out), true
	return nil
}

// addPod keeps every Pod to look for endpoints: in a cluster the slices would have the
// labels of the Service, not those of the Pod.
func (c *cluster) addPod(d *document, in *corev1.Pod) error {
	out := c.converter.pod(in)
	if err := c.problems(d); err != nil || out == nil {
		return err
	}
	c.pods = append(c.pods, in)
	if c.selection.labels.Matches(labels.Set(in.Labels)) {
		c.modelPods = append(c.modelPods, out)
	}
	return nil
}

func (c *cluster) addNode(d *document, in *corev1.Node) error {
	out := c.converter.node(in)
	c.nodes, c.zones[out.Name] = append(c.nodes, out), out.Zone
	return c.problems(d)
}

func (c *cluster) addNamespace(_ *document, in *corev1.Namespace) error {
	if !c.selection.namespaces.Matches(labels.Set(in.Labels)) {
		c.hidden[in.Name] = true
	}
	c.namespaces[in.Name] = true
	return nil
}

func (c *cluster) addServiceCIDR(d *document, in *networkingv1.ServiceCIDR) error {
	c.cidrs = append(c.cidrs, c.converter.serviceCIDR(in)...)
	return c.problems(d)
}

// finish checks what concerns several objects and looks up endpoints.
func (c *cluster) finish() error {
	if err := c.checkShared(); err != nil {
		return err
	}
	if c.selection.NoEndpoints {
		c.slices = nil
		return nil
	}
	if c.selection.NoHeadless {
		c.dropHeadlessSlices()
	}
	for _, s := range c.services {
		if len(s.api.Spec.Selector) > 0 && s.model.Type != model.ExternalName && !c.sliced[s.model.Key] {
			c.slices = append(c.slices, resolveSlices(&c.converter, s.api, s.model.Key, families(s), c.pods, c.zones)...)
		}
	}
	return nil
}

// dropHeadlessSlices keeps the slices of Services that are kept.
func (c *cluster) dropHeadlessSlices() {
	kept := make(map[model.ServiceKey]bool)
	for _, s := range c.services {
		kept[s.model.Key] = true
	}
	c.slices = slices.DeleteFunc(c.slices, func(s *model.EndpointSlice) bool { return !kept[s.Service] })
}

// families gives the IP families of a Service, true for IPv4: those it says, those of
// its addresses, or both.
func families(s *readService) []bool {
	var out []bool
	for _, family := range s.api.Spec.IPFamilies {
		out = append(out, family == corev1.IPv4Protocol)
	}
	if len(out) > 0 {
		return out
	}
	for _, addr := range s.model.ClusterIPs {
		out = append(out, addr.Is4())
	}
	if len(out) > 0 {
		return out
	}
	return []bool{true, false}
}

// commit makes this cluster the whole content of the store.
func (c *cluster) commit(tx *state.Txn) {
	present := make(map[objectKey]bool)
	for _, s := range c.services {
		tx.PutService(s.model)
		present[objectKey{s.model.Key.Namespace, s.model.Key.Name}] = true
	}
	sweep(tx, serviceKind(&c.selection.Selection), present)
	clear(present)
	for _, s := range c.slices {
		tx.PutSlice(s)
		present[objectKey{s.Service.Namespace, s.Name}] = true
	}
	sweep(tx, sliceKind(&c.selection.Selection), present)
	clear(present)
	for _, p := range c.modelPods {
		tx.PutPod(p)
		present[objectKey{p.Namespace, p.Name}] = true
	}
	sweep(tx, podKind(&c.selection.Selection), present)
	clear(present)
	for _, n := range c.nodes {
		tx.PutNode(n)
		present[objectKey{name: n.Name}] = true
	}
	sweep(tx, nodeKind(""), present)
	clear(present)
	for name := range c.namespaces {
		if !c.hidden[name] && c.selection.allows(name) {
			tx.PutNamespace(&model.Namespace{Name: name})
			present[objectKey{name: name}] = true
		}
	}
	sweep(tx, namespaceKind(&c.selection.Selection), present)
	tx.SetServiceCIDRs(sortedPrefixes(c.cidrs))
	tx.SetSynced()
}
