package proxy

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/proxy/config"
)

func TestSetConntrack(t *testing.T) {
	usual := config.Conntrack{MaxPerCore: 32768, Min: 131072}
	tests := []struct {
		name       string
		conntrack  config.Conntrack
		processors int
		present    string
		want       map[string]string
	}{
		{"nothing is asked for", config.Conntrack{Min: 1000}, 64, "10", map[string]string{}},
		{"few processors", usual, 2, "10", map[string]string{"max": "131072", "buckets": "32768"}},
		{"more processors", usual, 8, "10", map[string]string{"max": "262144", "buckets": "65536"}},
		{"very many processors", usual, 256, "10", map[string]string{"max": "1048576", "buckets": "262144"}},
		{"a limit that is high enough stays", usual, 2, "500000", map[string]string{}},
		{"times and tolerance", config.Conntrack{
			TCPEstablished: 24 * time.Hour, TCPCloseWait: time.Hour, UDP: 30 * time.Second, UDPStream: 2 * time.Minute, TCPBeLiberal: true,
		}, 2, "10", map[string]string{
			"tcp_timeout_established": "86400", "tcp_timeout_close_wait": "3600", "udp_timeout": "30", "udp_timeout_stream": "120", "tcp_be_liberal": "1",
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := map[string]string{}
			get := func(string) (string, error) { return test.present, nil }
			set := func(name, value string) error { got[name[len("net/netfilter/nf_conntrack_"):]] = value; return nil }
			if err := setConntrack(test.conntrack, test.processors, get, set); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("parameters (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSetConntrackGoesOnAfterAnError(t *testing.T) {
	refused := errors.New("read-only")
	tried := 0
	set := func(string, string) error { tried++; return refused }
	err := setConntrack(config.Conntrack{UDP: time.Second, UDPStream: time.Second}, 1, nil, set)
	if !errors.Is(err, refused) || tried != 2 {
		t.Errorf("error %v after %d attempts", err, tried)
	}
}

func TestDroppedBy(t *testing.T) {
	const statistics = `entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error  expect_new expect_create expect_delete search_restart
00000010  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 0000000a 00000001 00000000  00000000 00000000 00000000 00000000
00000010  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000010 00000000 00000000  00000000 00000000 00000000 00000000
`
	if got := droppedBy(statistics); got != 26 {
		t.Errorf("%d, want 26", got)
	}
	if got := droppedBy(""); got != 0 {
		t.Errorf("of nothing: %d", got)
	}
}
