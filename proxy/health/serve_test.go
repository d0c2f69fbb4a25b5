package health

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func taken(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

func TestAnAddressThatCannotBeHad(t *testing.T) {
	address := taken(t).Addr().String()
	l := Listener{Address: address, HardFail: true, Logger: slog.New(slog.DiscardHandler)}
	if err := l.Serve(t.Context(), nil); err == nil || !strings.Contains(err.Error(), address) {
		t.Errorf("error %v does not name %s", err, address)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	l.HardFail = false
	if err := l.Serve(ctx, nil); err != nil {
		t.Errorf("error %v without HardFail", err)
	}
}

func TestServe(t *testing.T) {
	free := taken(t)
	address := free.Addr().String()
	free.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	l := Listener{Address: address, HardFail: true, Logger: slog.New(slog.DiscardHandler)}
	go func() { done <- l.Serve(ctx, http.NotFoundHandler()) }()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for deadline := time.Now().Add(5 * time.Second); ; {
		response, err := client.Get("http://" + address)
		if err == nil {
			response.Body.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestNoAddressMeansNoServer(t *testing.T) {
	if err := (Listener{}).Serve(t.Context(), nil); err != nil {
		t.Error(err)
	}
}
