package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mooring-project/mooring/test/peers"
)

// smoke leaves out the mode that takes half a minute to start beside ten Services.
var smoke = []peers.Subject{peers.Mooring, peers.KubeProxyNFTables}

// TestBench measures a little of everything and finds each subject in every table.
func TestBench(t *testing.T) {
	if testing.Short() {
		t.Skip("the kernel machine and kube-proxy take minutes the first time; run without -short")
	}
	var document strings.Builder
	args := []string{
		"-subjects=" + join(smoke), "-sizes=10", "-whole=10", "-rounds=1", "-changes=2", "-heard-changes=1", "-idle=1s", "-traffic=300ms", "-traffic-rounds=1", "-timeout=20m",
	}
	if err := run(t.Context(), args, &document, t.Output()); err != nil {
		t.Fatal(err)
	}
	for _, s := range smoke {
		rows := 0
		for line := range strings.Lines(document.String()) {
			if strings.HasPrefix(line, fmt.Sprintf("| 10 | %s | ", s)) {
				rows++
			}
			if strings.Contains(line, "not within") {
				t.Errorf("%s", line)
			}
		}
		if rows != 5 {
			t.Errorf("%s is in %d tables of 5", s, rows)
		}
	}
	if t.Failed() {
		t.Logf("%s", &document)
	}
}
