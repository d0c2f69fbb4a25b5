package controlplane

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReplaceFlags(t *testing.T) {
	flags := []string{"--a=1", "--list=x", "--b"}
	got := replaceFlags(flags, []string{"--list=y,z", "--c=3", "--b=false"})
	want := []string{"--a=1", "--list=y,z", "--c=3", "--b=false"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("flags (-want +got):\n%s", diff)
	}
}

func TestOptionsComplete(t *testing.T) {
	addr := netip.MustParseAddr
	tests := map[string]struct {
		options   Options
		advertise string
		err       string
	}{
		"nothing given":             {Options{}, "192.0.2.1", ""},
		"IPv6 first":                {Options{ServiceCIDR: "fd00:10:96::/112,10.96.0.0/16"}, "2001:db8::1", ""},
		"advertised relay":          {Options{AdvertiseAddress: addr("172.30.0.254")}, "172.30.0.254", ""},
		"loopback as an endpoint":   {Options{AdvertiseAddress: addr("127.0.0.1")}, "", "advertise address 127.0.0.1: the API takes no loopback"},
		"endpoint of other family":  {Options{AdvertiseAddress: addr("fd00::1")}, "", "must be of the family"},
		"range that is an address":  {Options{ServiceCIDR: "10.96.0.1"}, "", `service range "10.96.0.1"`},
		"ranges apart by semicolon": {Options{ServiceCIDR: "10.96.0.0/16;fd00::/112"}, "", "service range"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, _, err := tt.options.complete()
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.AdvertiseAddress != addr(tt.advertise) {
				t.Errorf("advertised %s, want %s", got.AdvertiseAddress, tt.advertise)
			}
		})
	}
}

func TestServingNames(t *testing.T) {
	o, ranges, err := Options{
		BindAddress: netip.IPv4Unspecified(),
		ServiceCIDR: DualStackServiceCIDR,
		ExtraSANs:   []string{"10.0.2.2"},
	}.complete()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"127.0.0.1", "::1", "localhost",
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
		"192.0.2.1", "10.96.0.1", "fd00:10:96::1", "10.0.2.2",
	}
	if diff := cmp.Diff(want, servingNames(o, ranges)); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

func TestUsers(t *testing.T) {
	users, err := completeUsers([]User{{Name: "proxy", Groups: []string{"a", "b"}, Token: "secret"}, {Name: "dns"}})
	if err != nil {
		t.Fatal(err)
	}
	if users[0].Name != Admin || users[0].Token == "" || users[2].Token == "" || users[0].Token == users[2].Token {
		t.Errorf("users %+v, want %s first and tokens for all", users, Admin)
	}
	path := filepath.Join(t.TempDir(), "tokens.csv")
	if err := writeTokens(path, users[1:2]); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("secret,proxy,proxy,\"a,b\"\n", string(got)); diff != "" {
		t.Errorf("token file (-want +got):\n%s", diff)
	}
}

func TestUsersThatCannotBe(t *testing.T) {
	for name, users := range map[string][]User{
		"no name":         {{Token: "x"}},
		"same twice":      {{Name: "dns"}, {Name: "dns"}},
		"second " + Admin: {{Name: Admin}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := completeUsers(users); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestSelectRecipes(t *testing.T) {
	got, err := selectRecipes(recipes("v1.37.2"), nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range got {
		names = append(names, r.name)
	}
	if diff := cmp.Diff([]string{Etcd, APIServer, ControllerManager}, names); diff != "" {
		t.Errorf("default programs (-want +got):\n%s", diff)
	}
	if _, err := selectRecipes(recipes("v1.37.2"), []string{"kube-router"}); err == nil || !strings.Contains(err.Error(), "kube-router") {
		t.Errorf("unknown program: %v, want an error that names it", err)
	}
}

func TestRecipesSetTheVersion(t *testing.T) {
	for _, r := range recipes("v1.37.2")[1:] {
		for _, want := range []string{"version.gitVersion=v1.37.2", "version.gitMajor=1 ", "version.gitMinor=37 "} {
			if !strings.Contains(r.ldflags, want) {
				t.Errorf("%s: linker flags %q: no %q", r.name, r.ldflags, want)
			}
		}
	}
}

func TestCacheKeyFollowsWhatDecidesTheBytes(t *testing.T) {
	key := func(goVersion, kubernetes, mod string) string {
		return cacheKey(goVersion, recipes(kubernetes), []byte(mod))
	}
	base := key("go1.26.8", "v1.37.2", "module a")
	if again := key("go1.26.8", "v1.37.2", "module a"); again != base {
		t.Errorf("same input: %s, then %s", base, again)
	}
	for what, other := range map[string]string{
		"toolchain":  key("go1.26.9", "v1.37.2", "module a"),
		"Kubernetes": key("go1.26.8", "v1.37.3", "module a"),
		"go.mod":     key("go1.26.8", "v1.37.2", "module b"),
	} {
		if other == base {
			t.Errorf("another %s: same key", what)
		}
	}
}

func TestPinnedModules(t *testing.T) {
	dir, err := binariesDir()
	if err != nil {
		t.Fatal(err)
	}
	goMod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	version, err := pinnedVersion(goMod, kubernetesSet.pin)
	if err != nil {
		t.Fatal(err)
	}
	staging := strings.Replace(version, "v1.", "v0.", 1)
	for line := range strings.Lines(string(goMod)) {
		if from, to, ok := strings.Cut(strings.TrimSpace(line), " => "); ok && to != from+" "+staging {
			t.Errorf("%s: replaced by %s, want version %s", from, to, staging)
		}
	}
	if _, err := pinnedVersion([]byte("module a\n"), kubernetesSet.pin); err == nil {
		t.Error("version of a go.mod without Kubernetes: no error")
	}
}

func TestLastLines(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", ""},
		{"a\n", "a"},
		{"a\nb\nc\n\n", "b\nc"},
	} {
		if got := lastLines(tt.text, 2); got != tt.want {
			t.Errorf("last 2 lines of %q: %q, want %q", tt.text, got, tt.want)
		}
	}
}
