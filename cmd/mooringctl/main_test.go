package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const manifests = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.96.0.10, selector: {app: web}, ports: [{port: 80}]}
`

func TestRun(t *testing.T) {
	good, bad := filepath.Join(t.TempDir(), "good.yaml"), filepath.Join(t.TempDir(), "bad.yaml")
	for path, text := range map[string]string{good: manifests, bad: strings.Replace(manifests, "10.96.0.10", "nowhere", 1)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name    string
		args    []string
		want    string // in the output
		wantErr string // in the error
	}{
		{"a Service without endpoints", []string{"explain", "--source=manifests:" + good, "default/web"}, "its selector app=web matches no Pod", ""},
		{"a Service that does not exist", []string{"explain", "--source=manifests:" + good, "default/nope"}, "Service default/nope does not exist", ""},
		{"a bad manifest is said at once", []string{"explain", "--source=manifests:" + bad, "default/web"}, "", "bad.yaml:5"},
		{"no namespace", []string{"explain", "web"}, "", "NAMESPACE/NAME"},
		{"no Service", []string{"explain"}, "", "NAMESPACE/NAME"},
		{"no command", nil, "", "command is missing"},
		{"an unknown command", []string{"destroy"}, "", `"destroy"`},
		{"an unknown source", []string{"explain", "--source=etcd", "a/b"}, "", "manifests:PATH"},
		{"drains without a proxy", []string{"drains", "--proxy=127.0.0.1:1"}, "", "on its own node"},
		{"the version", []string{"version"}, "mooringctl", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			err := run(t.Context(), test.args, &out)
			if !strings.Contains(out.String(), test.want) {
				t.Errorf("output %q does not say %q", out.String(), test.want)
			}
			if (err == nil) != (test.wantErr == "") || err != nil && !strings.Contains(err.Error(), test.wantErr) {
				t.Errorf("error %v, want %q", err, test.wantErr)
			}
		})
	}
}
