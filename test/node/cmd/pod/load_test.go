package main

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func TestPatienceEndsARequestThatIsNotAnswered(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c := &client{name: "web.", server: silent.LocalAddr().String()}
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan error)
	go func() {
		_, err := c.resolve(ctx)
		asked <- err
	}()
	if _, _, err := silent.ReadFrom(make([]byte, 512)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}

	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		limited, cancel := withPatience(t.Context())
		defer cancel()
		<-limited.Done()
		if took := time.Since(begin); took != patience {
			t.Errorf("ended after %s", took)
		}
	})
}
