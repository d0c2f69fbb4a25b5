package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/mooring-project/mooring/test/bench/proxy/measured"
)

// profileTime is how long a processor profile is taken.
const profileTime = 10 * time.Second

// profile writes a profile of mooring-proxy into the directory that the host collects, named after
// what is going on: of the processor, which takes some time, or of the heap.
func (s *subject) profile(ctx context.Context, services int, when, kind string) error {
	client := &http.Client{Transport: &http.Transport{DialContext: s.Dial, DisableKeepAlives: true}}
	url := "http://127.0.0.1:10249/debug/pprof/" + kind
	if kind == "profile" {
		url += fmt.Sprintf("?seconds=%.0f", profileTime.Seconds())
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	for err != nil && ctx.Err() == nil { // it has only been started
		_ = pause(ctx, 50*time.Millisecond) // ends the loop as well
		response, err = client.Do(request)
	}
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if err := os.MkdirAll(measured.Profiles, 0o755); err != nil {
		return err
	}
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(measured.Profiles, fmt.Sprintf("%s-%d.%s", when, services, kind)), content, 0o600)
}

// profiled does something while a processor profile is taken, if so asked and of the subject that
// can be.
func (s *subject) profiled(ctx context.Context, b *bench, services int, when string, do func() error) error {
	if !b.profiles(s.proxy.Subject) {
		return do()
	}
	done := make(chan error, 1)
	go func() { done <- s.profile(ctx, services, when, "profile") }()
	err := do()
	if failed := <-done; failed != nil {
		slog.Warn("no profile", "of", when, "error", failed)
	}
	return err
}
