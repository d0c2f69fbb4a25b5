package controlplane

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// Names of the programs that Build knows.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	KubeProxy         = "kube-proxy"
	Kubelet           = "kubelet"
	Kubectl           = "kubectl"
)

// A recipe says how one program is built. Changing it changes the key of the
// cache directory.
type recipe struct {
	name    string
	module  string // directory of the pinning module, relative to binaries/
	pkg     string
	ldflags string
}

// A set is what is built together, since one version decides all of it.
type set struct {
	name string
	// modules are directories relative to binaries/; the first requires pin.
	modules []string
	pin     string
	prefix  string // of the output directory's name, before the pin's version
	recipes func(version string) []recipe
}

var (
	kubernetesSet = set{name: "Kubernetes", modules: []string{".", "etcd"}, pin: "k8s.io/kubernetes", recipes: recipes}
	nodeSet       = set{
		name: "containerd", modules: []string{"node"}, pin: "github.com/containerd/containerd/v2", prefix: "containerd-",
		recipes: nodeRecipes,
	}
)

// nodeRecipes lists what a node runs besides kubelet, for a version of containerd.
func nodeRecipes(containerd string) []recipe {
	const ours, plugins = "github.com/containerd/containerd/v2", "github.com/containernetworking/plugins/plugins/"
	ldflags := "-s -w -X " + ours + "/version.Version=" + containerd
	var list []recipe
	for _, pkg := range []string{ours + "/cmd/containerd", ours + "/cmd/containerd-shim-runc-v2", ours + "/cmd/ctr"} {
		list = append(list, recipe{name: path.Base(pkg), module: "node", pkg: pkg, ldflags: ldflags})
	}
	for _, pkg := range []string{"ipam/host-local", "main/loopback", "main/ptp"} {
		list = append(list, recipe{name: path.Base(pkg), module: "node", pkg: plugins + pkg, ldflags: "-s -w"})
	}
	return list
}

// recipes lists every program for a Kubernetes version such as v1.37.2. The
// version is set at link time because module builds carry no git metadata: a
// server without it reports v0.0.0-master and confuses clients that compare.
func recipes(kubernetes string) []recipe {
	major, minor, _ := strings.Cut(strings.TrimPrefix(kubernetes, "v"), ".")
	minor, _, _ = strings.Cut(minor, ".")
	ldflags := strings.Join([]string{
		"-s -w",
		"-X k8s.io/component-base/version.gitVersion=" + kubernetes,
		"-X k8s.io/component-base/version.gitMajor=" + major,
		"-X k8s.io/component-base/version.gitMinor=" + minor,
		"-X k8s.io/component-base/version.gitTreeState=clean",
		"-X k8s.io/client-go/pkg/version.gitVersion=" + kubernetes,
	}, " ")
	list := []recipe{{name: Etcd, module: "etcd", pkg: "go.etcd.io/etcd/server/v3", ldflags: "-s -w"}}
	for _, name := range []string{APIServer, ControllerManager, Scheduler, KubeProxy, Kubelet, Kubectl} {
		list = append(list, recipe{name: name, module: ".", pkg: "k8s.io/kubernetes/cmd/" + name, ldflags: ldflags})
	}
	return list
}

// Programs returns the names that Build accepts.
func Programs() []string {
	var names []string
	for _, r := range recipes("") {
		names = append(names, r.name)
	}
	return names
}

// selectRecipes picks the named recipes; no names stand for what Start needs.
func selectRecipes(all []recipe, names []string) ([]recipe, error) {
	if len(names) == 0 {
		names = []string{Etcd, APIServer, ControllerManager}
	}
	var chosen []recipe
	for _, name := range names {
		i := slices.IndexFunc(all, func(r recipe) bool { return r.name == name })
		if i < 0 {
			return nil, fmt.Errorf("program %q: unknown, want one of %s", name, strings.Join(Programs(), ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// cacheKey names everything that decides the bytes of the binaries: toolchain,
// recipes and pinned modules. go.sum is left out: it verifies, it chooses
// nothing.
func cacheKey(goVersion string, all []recipe, goMods ...[]byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%v\n%v\n", goVersion, buildEnv, all)
	for _, mod := range goMods {
		fmt.Fprintf(h, "%d\n%s", len(mod), mod)
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// pinnedVersion reads the version of a module from the text of a go.mod.
func pinnedVersion(goMod []byte, module string) (string, error) {
	pattern := regexp.MustCompile(`(?m)^(?:require)?\s+` + regexp.QuoteMeta(module) + ` (v\S+)`)
	m := pattern.FindSubmatch(goMod)
	if m == nil {
		return "", fmt.Errorf("no requirement on %s", module)
	}
	return string(m[1]), nil
}

// binariesDir finds the pinning module on disk: upwards from the working
// directory, where `go test` and `go run` leave us, or beside this source file
// when the binary was built without -trimpath.
func binariesDir() (string, error) {
	const rel = "test/controlplane/binaries"
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("working directory: %w", err)
	}
	var candidates []string
	for up := dir; ; up = filepath.Dir(up) {
		candidates = append(candidates, filepath.Join(up, rel))
		if up == filepath.Dir(up) {
			break
		}
	}
	if _, source, _, ok := runtime.Caller(0); ok && filepath.IsAbs(source) {
		candidates = append(candidates, filepath.Join(filepath.Dir(source), "binaries"))
	}
	for _, c := range candidates {
		if _, err := os.Stat(filepath.Join(c, "go.mod")); err == nil {
			return c, nil
		}
	}
	return "", fmt.Errorf("%s/go.mod: not found above %s; run inside the source tree", rel, dir)
}
