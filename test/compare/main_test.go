package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mooring-project/mooring/test/peers"
	"github.com/mooring-project/mooring/test/scenarios/findings"
)

// TestMooringProxyDiffersNowhere is the short form of the comparison: mooring-proxy alone, as a
// process with a real API server, in some scenarios and in all behaviours.
func TestMooringProxyDiffersNowhere(t *testing.T) {
	if testing.Short() {
		t.Skip("the kernel machine and the control plane take minutes the first time; run without -short")
	}
	t.Chdir("../..")
	found, _, err := compare(t.Context(), options{
		subjects: string(peers.Mooring), scenarios: "plain,external-local,no-endpoints", configurations: "base",
		timeout: 10 * time.Minute, log: t.Output(),
	})
	if err != nil {
		t.Fatal(err)
	}
	behaviours := 0
	for _, f := range found {
		if f.Behaviour != "" {
			behaviours++
		}
		if !f.Holds() {
			t.Errorf("%+v", f)
		}
	}
	if behaviours == 0 || len(found) == behaviours {
		t.Errorf("%d findings, %d of them about behaviours", len(found), behaviours)
	}
}

func TestReport(t *testing.T) {
	flow := func(subject, to, way, got string) findings.Finding {
		return findings.Finding{Subject: subject, Configuration: "base", Scenario: "plain", From: "pod", To: to, Way: way, Want: "local sees 10.0.0.1", Got: got}
	}
	report := write([]findings.Finding{
		flow("a", "NodePort", "tcp", "local sees 10.0.0.1"), flow("a", "NodePort", "udp", "local sees 10.0.0.1"), flow("a", "ClusterIP", "tcp", "local sees 10.0.0.1"),
		flow("b", "NodePort", "tcp", "local sees 10.0.0.1"), flow("b", "NodePort", "udp", "refused"), flow("b", "ClusterIP", "tcp", "local sees 10.0.0.1"),
		{Subject: "b", Configuration: "base", Scenario: "hints", From: "pod", To: "NodePort", Want: "local", Got: "remote", OtherSource: true},
		{Subject: "b", Configuration: "base", Scenario: "none", From: "pod", To: "NodePort", Want: findings.Refused, Got: findings.RefusedLate},
		{Subject: "a", Behaviour: "it drains", Want: "goes on", Got: "goes on"},
		{Subject: "b", Behaviour: "it drains", Want: "goes on", Got: "cut"},
	}, []string{"a", "b"}, head{kernel: "6.12", at: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)})
	for _, want := range []string{
		"on 2026-11-28 12:00 UTC, kernel 6.12;",
		"| - plain | 2 | 2 | 1 |\n", "| hints | 1 | 1 | 0 (1) |\n", "| none | 1 | 1 | 0 (1) |\n", "| **all** | 4 | 4 | 1 (3) |\n",
		"| it drains | yes | no: cut |\n",
		"## Where a differs\n\nNowhere.\n",
		"| plain | base | pod -> NodePort | 1 | udp: refused | local sees 10.0.0.1 |\n",
	} {
		if !strings.Contains(report, want) {
			t.Errorf("no %q in\n%s", want, report)
		}
	}
}

func TestFindingsOfOneSubjectAtATime(t *testing.T) {
	file := filepath.Join(t.TempDir(), "findings")
	for _, step := range []struct{ subject, got string }{{"a", "cut"}, {"b", "goes on"}, {"a", "goes on"}} {
		all, err := merge(file, []findings.Finding{{Subject: step.subject, Behaviour: "it drains", Want: "goes on", Got: step.got}})
		if err != nil {
			t.Fatal(err)
		}
		if last := all[len(all)-1]; last.Subject != step.subject || last.Got != step.got {
			t.Errorf("after %+v: %+v", step, all)
		}
	}
	if all, err := merge(file, nil); err != nil || len(all) != 2 || !all[0].Holds() || !all[1].Holds() {
		t.Errorf("in the end %+v, error %v", all, err)
	}
}
