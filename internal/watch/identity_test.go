package watch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestClusterIsToldByAddressAndAuthority(t *testing.T) {
	directory := t.TempDir()
	for name, content := range map[string]string{"a.crt": "one", "b.crt": "another"} {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	name := func(master, authority string) string {
		text, err := KubernetesConfig{Master: master, CAFile: filepath.Join(directory, authority)}.Cluster()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	one := name("https://10.96.0.1:443", "a.crt")
	if one != name("https://10.96.0.1:443", "a.crt") || !strings.HasPrefix(one, "https://10.96.0.1:443, certificate authority ") {
		t.Errorf("the cluster is called %q", one)
	}
	if one == name("https://10.96.0.1:443", "b.crt") || one == name("https://10.96.0.2:443", "a.crt") {
		t.Errorf("other clusters are called %q too", one)
	}
	if _, err := (KubernetesConfig{Master: "https://10.96.0.1:443", CAFile: filepath.Join(directory, "none")}).Cluster(); err == nil {
		t.Error("no error without the authority's file")
	}
}
