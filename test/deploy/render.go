package deploy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// root is the directory deploy/ of the repository, from this package.
const root = "../../deploy"

// An object is named in a set as people would look for it.
func name(o *unstructured.Unstructured) string {
	return o.GetKind() + " " + filepath.Join(o.GetNamespace(), o.GetName())
}

// kustomize renders a directory of deploy/, as `kubectl kustomize` does.
func kustomize(directory string) (map[string]*unstructured.Unstructured, error) {
	result, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(root, directory))
	if err != nil {
		return nil, fmt.Errorf("kustomize %s: %w", directory, err)
	}
	text, err := result.AsYaml()
	if err != nil {
		return nil, fmt.Errorf("kustomize %s: %w", directory, err)
	}
	return parse(text)
}

// helm renders the chart with a file of values below its directory, the defaults if it is empty, as
// `helm template --namespace kube-system` does.
func helm(values string) (map[string]*unstructured.Unstructured, error) {
	chart, err := loader.Load(filepath.Join(root, "helm/mooring"))
	if err != nil {
		return nil, fmt.Errorf("chart: %w", err)
	}
	given := map[string]any{}
	if values != "" {
		file, err := os.Open(filepath.Join(root, "helm/mooring", values))
		if err != nil {
			return nil, err
		}
		defer file.Close()
		if given, err = loader.LoadValues(file); err != nil {
			return nil, fmt.Errorf("values %s: %w", values, err)
		}
	}
	release := common.ReleaseOptions{Name: "mooring", Namespace: "kube-system", IsInstall: true}
	all, err := util.ToRenderValues(chart, given, release, common.DefaultCapabilities)
	if err != nil {
		return nil, fmt.Errorf("values %s: %w", values, err)
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return nil, fmt.Errorf("chart: %w", err)
	}
	var text bytes.Buffer
	for path, content := range files {
		if filepath.Ext(path) == ".yaml" {
			text.WriteString("---\n" + content + "\n")
		}
	}
	return parse(text.Bytes())
}

// parse reads a stream of YAML documents.
func parse(text []byte) (map[string]*unstructured.Unstructured, error) {
	objects := map[string]*unstructured.Unstructured{}
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		o := &unstructured.Unstructured{}
		err := decoder.Decode(o)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", len(objects)+1, err)
		}
		if o.Object == nil {
			continue // a template that gives nothing
		}
		if _, twice := objects[name(o)]; twice {
			return nil, fmt.Errorf("%s is there twice", name(o))
		}
		objects[name(o)] = o
	}
}

// examples reads the files of deploy/examples, in the namespace default.
func examples() (map[string]*unstructured.Unstructured, error) {
	paths, err := filepath.Glob(filepath.Join(root, "examples/*.yaml"))
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		text.WriteString("---\n" + string(content) + "\n")
	}
	objects, err := parse(text.Bytes())
	for _, o := range objects {
		o.SetNamespace("default")
	}
	return objects, err
}
