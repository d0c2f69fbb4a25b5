package config

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWatch(t *testing.T) {
	path := write(t, kubeadm)
	done := make(chan error, 1)
	go func() { done <- Watch(t.Context(), path) }()
	// When Watch has begun cannot be seen from outside, so the file is written until it does.
	for deadline := time.After(5 * time.Second); ; {
		if err := os.WriteFile(path, []byte(header), 0o600); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			if !errors.Is(err, ErrChanged) {
				t.Errorf("error %v, want ErrChanged", err)
			}
			return
		case <-deadline:
			t.Fatal("nothing seen")
		default:
		}
	}
}

func TestWatchEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Watch(ctx, write(t, kubeadm)); err != nil {
		t.Error(err)
	}
	if err := Watch(t.Context(), ""); err != nil {
		t.Error(err)
	}
}
