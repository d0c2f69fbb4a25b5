package nodeport

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var client = http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// freeAddress gives a loopback address on which nobody listens.
func freeAddress(t *testing.T) netip.AddrPort {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).AddrPort()
}

func check(address netip.AddrPort) Check {
	return Check{Namespace: "shop", Name: "web", Address: address}
}

func TestAnswers(t *testing.T) {
	tests := []struct {
		name    string
		local   int
		healthy bool
		code    int
		weight  string
		body    string
	}{
		{"endpoints here", 2, true, 200, "2", `{"service":{"namespace":"shop","name":"web"},"localEndpoints":2,"serviceProxyHealthy":true}`},
		{"none here", 0, true, 503, "0", `{"service":{"namespace":"shop","name":"web"},"localEndpoints":0,"serviceProxyHealthy":true}`},
		{"a proxy in trouble", 2, false, 503, "2", `{"service":{"namespace":"shop","name":"web"},"localEndpoints":2,"serviceProxyHealthy":false}`},
	}
	address := freeAddress(t)
	var healthy atomic.Bool
	set := NewSet(healthy.Load, slog.New(slog.DiscardHandler))
	defer set.Close()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			healthy.Store(test.healthy)
			if !set.Apply(map[Check]int{check(address): test.local}) {
				t.Fatal("not complete")
			}
			response, err := client.Get("http://" + address.String() + "/any/path")
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			compact := strings.NewReplacer("\n", "", "\t", "", ": ", ":").Replace(string(body))
			if diff := cmp.Diff(test.body, compact); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
			if weight := response.Header.Get("X-Load-Balancing-Endpoint-Weight"); response.StatusCode != test.code || weight != test.weight {
				t.Errorf("%d with weight %s, want %d with %s", response.StatusCode, weight, test.code, test.weight)
			}
		})
	}
	set.Apply(nil)
	if _, err := client.Get("http://" + address.String()); err == nil {
		t.Error("a Service that is gone is still answered for")
	}
}

func TestATakenPortIsLoggedOnceAndTriedAgain(t *testing.T) {
	other, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken, free := other.Addr().(*net.TCPAddr).AddrPort(), freeAddress(t)
	var log bytes.Buffer
	set := NewSet(func() bool { return true }, slog.New(slog.NewTextHandler(&log, nil)))
	defer set.Close()
	want := map[Check]int{check(taken): 1, check(free): 1}
	for range 2 {
		if set.Apply(want) {
			t.Error("complete on a taken port")
		}
	}
	if n := strings.Count(log.String(), "service=shop/web"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, log.String())
	}
	other.Close()
	if !set.Apply(want) {
		t.Error("not complete although the port is free")
	}
}
