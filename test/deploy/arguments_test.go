package deploy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mooring-project/mooring/proxy/config"
)

func TestMooringProxyUnderstandsItsArguments(t *testing.T) {
	for _, v := range variants {
		t.Run(strings.ReplaceAll(v.overlay, "/", "-"), func(t *testing.T) {
			objects, err := kustomize(v.overlay)
			if err != nil {
				t.Fatal(err)
			}
			file := "kind: KubeProxyConfiguration\napiVersion: kubeproxy.config.k8s.io/v1alpha1\n" // kube-proxy's own
			if o, exists := objects["ConfigMap kube-system/mooring-proxy"]; exists {
				file, _, _ = unstructured.NestedString(o.Object, "data", "config.conf")
			}
			path := filepath.Join(t.TempDir(), "config.conf")
			if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
				t.Fatal(err)
			}
			pod, _, _ := unstructured.NestedMap(objects["DaemonSet kube-system/mooring-proxy"].Object, "spec", "template", "spec")
			for _, field := range []string{"initContainers", "containers"} {
				list, _, _ := unstructured.NestedSlice(pod, field)
				if len(list) != 1 {
					t.Fatalf("%d %s", len(list), field)
				}
				args, _, _ := unstructured.NestedStringSlice(list[0].(map[string]any), "args")
				for i, arg := range args {
					if strings.HasPrefix(arg, "--config=") {
						args[i] = "--config=" + path
					}
				}
				if _, err := config.Parse(args); err != nil {
					t.Errorf("%s %q: %v", field, args, err)
				}
			}
		})
	}
}
