package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRunEndsByItself(t *testing.T) {
	written := filepath.Join(t.TempDir(), "config.yaml")
	tests := []struct {
		name string
		args []string
		want int
	}{
		{"the version", []string{"--version"}, 0},
		{"help", []string{"--help"}, 0},
		{"a configuration to begin with", []string{"--write-config-to", written}, 0},
		{"one that cannot be written", []string{"--write-config-to", written + "/no/such"}, 1},
		{"a flag that is none", []string{"--no-such-flag"}, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := run(test.args); got != test.want {
				t.Errorf("exit status %d, want %d", got, test.want)
			}
		})
	}
	if content, err := os.ReadFile(written); err != nil || !strings.Contains(string(content), "kind: KubeProxyConfiguration") {
		t.Errorf("error %v, written:\n%s", err, content)
	}
}
