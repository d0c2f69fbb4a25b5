package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/mooring-project/mooring/test/bench/proxy/measured"
	"github.com/mooring-project/mooring/test/peers"
)

// invented are findings in which kube-proxy ipvs does not get ready beside 1000 Services, and
// nftables does not follow there.
func invented() (head, findings) {
	h := head{order: measured.Order{Subjects: peers.Subjects, Sizes: []int{100, 1000}, Limit: time.Minute, ChangeLimit: time.Minute, Idle: time.Second}}
	run := func(s peers.Subject, services int, ms time.Duration) measured.Run {
		return measured.Run{
			Subject: s, Services: services,
			First:   measured.FirstSync{Kubernetes: ms * time.Millisecond, DNS: ms * time.Millisecond, All: 10 * ms * time.Millisecond, Use: measured.Use{CPU: ms * time.Millisecond}},
			Changes: []measured.Change{{Latency: ms * time.Millisecond, Use: measured.Use{CPU: ms * time.Millisecond}, Asked: 3, Failed: 1}},
			Memory:  measured.Memory{FirstPeak: 50, Steady: 40}, Relist: &measured.Relist{Peak: 60},
			Idle:    &measured.Use{CPU: time.Millisecond},
			Traffic: []measured.Traffic{{PerSecond: 90, P50: time.Millisecond, P99: time.Millisecond}, {Direct: true, PerSecond: 100, P50: time.Millisecond, P99: time.Millisecond}},
		}
	}
	heard := run(peers.Mooring, 1000, 1)
	heard.Heard, heard.Changes[0].Netlink = true, &measured.Messages{Requests: 7, Replies: 8}
	unfinished := measured.Run{Subject: peers.KubeProxyIPVS, Services: 1000, First: measured.FirstSync{DNS: 2 * time.Second}}
	lost := run(peers.KubeProxyNFTables, 1000, 300)
	lost.Changes[0].Latency = 0
	floor := measured.Run{Subject: measured.Floor, Services: 1000, First: measured.FirstSync{All: 50 * time.Millisecond}}
	return h, findings{
		floor,
		run(peers.Mooring, 100, 10), run(peers.KubeProxyIPVS, 100, 20), run(peers.KubeProxyNFTables, 100, 30),
		run(peers.Mooring, 1000, 20), unfinished, lost, heard,
	}
}

func TestDocumentSays(t *testing.T) {
	text := write(invented())
	for situation, want := range map[string]string{
		"a target that is missed":      "| one change, p50, to that beside 100 Services | 2.00 | at most 1.20 | missed |",
		"a target that is met":         "| first sync of kube-proxy nftables to ours | 15.0 | at least 10.0 | met |",
		"one without a measurement":    "| CPU of one change of kube-proxy ipvs to ours |  | at least 100 | not measured |",
		"the relist":                   "| peak of a relist to that | 1.50 | at most 1.30 | missed |",
		"who reads alone":              "| 1000 | a watch alone | | | 0.05 | 0.25 | |",
		"a sync that took too long":    "| 1000 | kube-proxy ipvs | not within 1m0s | 2.00 | not within 1m0s |",
		"a change that was not seen":   "| 1000 | kube-proxy nftables | 1 of 1 not within 1m0s |",
		"messages of another start":    " | 7 | 8 | 1 of 3 |",
		"how traffic is to the direct": "| 100 | mooring-proxy | 90 | 100 | 0.90 |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s: no %q in\n%s", situation, want, text)
		}
	}
}

// columns of a line of a table.
func columns(line string) int { return strings.Count(line, "|") }

func TestTablesAreWhole(t *testing.T) {
	width := 0
	for line := range strings.Lines(write(invented())) {
		switch {
		case !strings.HasPrefix(line, "|"):
			width = 0
		case width == 0:
			width = columns(line)
		case columns(line) != width:
			t.Errorf("%d columns instead of %d: %s", columns(line), width, line)
		}
	}
}

func TestPlotIsXML(t *testing.T) {
	plot := draw(invented())
	for decoder := xml.NewDecoder(strings.NewReader(plot)); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if strings.Contains(plot, "NaN") || strings.Contains(plot, "Inf") {
		t.Error("a point that is nowhere")
	}
	if got := strings.Count(plot, "<polyline"); got != 4*len(peers.Subjects) {
		t.Errorf("%d lines, want one for each subject in each of 4 panels", got)
	}
}

func TestParse(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string // of the error
	}{
		{"defaults", nil, ""},
		{"short", []string{"-short"}, ""},
		{"an unknown subject", []string{"-subjects", "kube-router"}, `"kube-router" is none of mooring-proxy,`},
		{"sizes that go down", []string{"-sizes", "100,10"}, "in ascending order"},
		{"more than there are addresses", []string{"-sizes", "60000"}, "from 1 to 50000"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := parse(test.args)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestShortLeavesWhatIsGiven(t *testing.T) {
	o, err := parse([]string{"-short", "-changes", "7"})
	if err != nil || o.Changes != 7 || o.Rounds != 1 {
		t.Errorf("%d changes, %d rounds, error %v; want 7 and 1", o.Changes, o.Rounds, err)
	}
}
