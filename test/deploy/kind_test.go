package deploy

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
)

func TestKindConfigurationIsUnderstoodAndNamesTheAPIServer(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "kind/cluster.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var cluster v1alpha4.Cluster
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&cluster); err != nil {
		t.Fatal(err)
	}
	// What kind's internal/apis/config has as NoneProxyMode.
	if cluster.Networking.KubeProxyMode != "none" {
		t.Errorf("kubeProxyMode %q", cluster.Networking.KubeProxyMode)
	}
	objects, err := kustomize("overlays/kind")
	if err != nil {
		t.Fatal(err)
	}
	// kind names a node's container, and so the node, by the cluster and the node's role.
	want := cluster.Name + "-" + string(v1alpha4.ControlPlaneRole)
	found := false
	for _, variable := range environment(t, objects["DaemonSet kube-system/mooring-proxy"]) {
		v := variable.(map[string]any)
		found = found || v["name"] == "KUBERNETES_SERVICE_HOST" && v["value"] == want
	}
	if !found {
		t.Errorf("mooring-proxy does not reach the API server by the name %s", want)
	}
}
