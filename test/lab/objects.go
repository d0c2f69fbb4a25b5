package lab

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// An Object is any API object.
type Object interface {
	metav1.Object
	runtime.Object
}

// ParseObjects reads YAML documents of core and apps objects.
func ParseObjects(documents []byte) ([]Object, error) {
	var objects []Object
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(documents)))
	for i := 1; ; i++ {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("manifest: document %d: %w", i, err)
		}
		if len(bytes.TrimSpace(document)) == 0 {
			continue
		}
		decoded, _, err := scheme.Codecs.UniversalDeserializer().Decode(document, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("manifest: document %d: %w", i, err)
		}
		object, ok := decoded.(Object)
		if !ok {
			return nil, fmt.Errorf("manifest: document %d: %T has no metadata", i, decoded)
		}
		objects = append(objects, object)
	}
}

// formatObject writes an object as a manifest, with its kind.
func formatObject(o Object) ([]byte, error) {
	kinds, _, err := scheme.Scheme.ObjectKinds(o)
	if err != nil {
		return nil, err
	}
	o.GetObjectKind().SetGroupVersionKind(kinds[0])
	return yaml.Marshal(o)
}

// NodeObjects are the Node objects for the machines of a network.
func NodeObjects(n *Network) []Object {
	var objects []Object
	for _, node := range n.Nodes {
		v4, v6 := podRanges(node.number)
		objects = append(objects, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: node.Name, Labels: map[string]string{corev1.LabelHostname: node.Name}},
			Spec:       corev1.NodeSpec{PodCIDR: v4.String(), PodCIDRs: []string{v4.String(), v6.String()}},
			Status: corev1.NodeStatus{
				Addresses: []corev1.NodeAddress{
					{Type: corev1.NodeHostName, Address: node.Name},
					{Type: corev1.NodeInternalIP, Address: node.V4.String()},
					{Type: corev1.NodeInternalIP, Address: node.V6.String()},
				},
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "LabIsUp"}},
			},
		})
	}
	return objects
}
