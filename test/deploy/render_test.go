package deploy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// variants are the ways to deploy, by kustomize and by Helm.
var variants = []struct{ overlay, values string }{
	{"base", ""},
	{"overlays/kind", "values/kind.yaml"},
	{"overlays/kubeadm", "values/kubeadm.yaml"},
	{"overlays/migration", "values/migration.yaml"},
	{"overlays/trial", "values/trial.yaml"},
	{"overlays/node-local-dns", "values/node-local-dns.yaml"},
}

func TestChartAndOverlaysGiveTheSameObjects(t *testing.T) {
	for _, v := range variants {
		t.Run(filepath.Base(v.overlay), func(t *testing.T) {
			byKustomize, err := kustomize(v.overlay)
			if err != nil {
				t.Fatal(err)
			}
			byHelm, err := helm(v.values)
			if err != nil {
				t.Fatal(err)
			}
			if len(byKustomize) == 0 {
				t.Fatal("nothing is rendered")
			}
			if diff := cmp.Diff(contents(byKustomize), contents(byHelm)); diff != "" {
				t.Errorf("-kustomize +helm\n%s", diff)
			}
		})
	}
}

// contents gives what is to be compared: comments and white space of configuration files included,
// but not how a file ends.
func contents(objects map[string]*unstructured.Unstructured) map[string]any {
	all := map[string]any{}
	for name, o := range objects {
		all[name] = o.Object
		data, _, _ := unstructured.NestedStringMap(o.Object, "data")
		for key, text := range data {
			data[key] = strings.TrimSpace(text)
			_ = unstructured.SetNestedStringMap(o.Object, data, "data")
		}
	}
	return all
}

func TestEveryOverlayAndFileOfValuesIsTested(t *testing.T) {
	tested := map[string]bool{}
	for _, v := range variants {
		tested[v.overlay], tested[v.values] = true, true
	}
	found := map[string]bool{"base": true, "": true}
	for pattern, prefix := range map[string]string{"overlays/*": "", "helm/mooring/values/*": "helm/mooring"} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			relative, err := filepath.Rel(filepath.Join(root, prefix), path)
			if err != nil {
				t.Fatal(err)
			}
			found[relative] = true
		}
	}
	if diff := cmp.Diff(tested, found); diff != "" {
		t.Errorf("-tested +in deploy/\n%s", diff)
	}
}

// In a pod there is a place to keep a snapshot, by hand there need not be.
func TestTheCorefileIsTheExampleWithASnapshot(t *testing.T) {
	ours, err := os.ReadFile(filepath.Join(root, "dns/Corefile"))
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("../../Corefile.example")
	if err != nil {
		t.Fatal(err)
	}
	const ttl = "       ttl 30\n"
	want := strings.Replace(string(example), ttl, ttl+"       snapshot /var/lib/mooring/dns.snapshot\n", 1)
	if diff := cmp.Diff(want, string(ours)); diff != "" {
		t.Errorf("-Corefile.example +deploy/dns/Corefile\n%s", diff)
	}
}

// containers visits the containers of every pod that is deployed.
func containers(t *testing.T, visit func(where string, pod, container map[string]any)) {
	for _, v := range variants {
		objects, err := kustomize(v.overlay)
		if err != nil {
			t.Fatal(err)
		}
		for name, o := range objects {
			pod, exists, _ := unstructured.NestedMap(o.Object, "spec", "template", "spec")
			if !exists {
				continue
			}
			for _, field := range []string{"initContainers", "containers"} {
				list, _, _ := unstructured.NestedSlice(pod, field)
				for _, c := range list {
					container := c.(map[string]any)
					visit(v.overlay+" "+name+" "+container["name"].(string), pod, container)
				}
			}
		}
	}
}

func TestContainersHaveNoMoreRightsThanTheyNeed(t *testing.T) {
	capabilities := map[string]string{"mooring-proxy": "NET_ADMIN", "mooring-dns": "NET_BIND_SERVICE"}
	seen := 0
	containers(t, func(where string, pod, container map[string]any) {
		if container["name"] == "kernel" {
			return // sets kernel parameters and ends
		}
		seen++
		context, _, _ := unstructured.NestedMap(container, "securityContext")
		added, _, _ := unstructured.NestedStringSlice(context, "capabilities", "add")
		dropped, _, _ := unstructured.NestedStringSlice(context, "capabilities", "drop")
		profile, _, _ := unstructured.NestedString(pod, "securityContext", "seccompProfile", "type")
		got := map[string]any{
			"privileged": context["privileged"], "escalation": context["allowPrivilegeEscalation"],
			"read-only": context["readOnlyRootFilesystem"], "add": added, "drop": dropped, "seccomp": profile,
		}
		want := map[string]any{
			"privileged": nil, "escalation": false, "read-only": true,
			"add": []string{capabilities[container["name"].(string)]}, "drop": []string{"ALL"}, "seccomp": "RuntimeDefault",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", where, diff)
		}
	})
	if seen == 0 {
		t.Error("no container was looked at")
	}
}

// environment gives the variables of the first container of a workload's pods.
func environment(t *testing.T, workload *unstructured.Unstructured) []any {
	list, _, err := unstructured.NestedSlice(workload.Object, "spec", "template", "spec", "containers")
	if err != nil || len(list) == 0 {
		t.Fatalf("no container: %v", err)
	}
	variables, _, err := unstructured.NestedSlice(list[0].(map[string]any), "env")
	if err != nil {
		t.Fatal(err)
	}
	return variables
}
