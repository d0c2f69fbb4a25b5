package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
)

// A Relay passes TCP connections that arrive on Listener on to an address as the lab's
// own process reaches it: the API server on the host.
type Relay struct {
	Listener net.Listener
	Upstream string
}

// Run relays until the end of ctx, then closes the listener and all connections.
func (r Relay) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = r.Listener.Close() })
	defer stop()
	var connections sync.WaitGroup
	defer connections.Wait()
	for {
		conn, err := r.Listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("relay: %w", err)
		}
		connections.Go(func() { r.serve(ctx, conn) })
	}
}

func (r Relay) serve(ctx context.Context, client net.Conn) {
	defer client.Close()
	server, err := new(net.Dialer).DialContext(ctx, "tcp", r.Upstream)
	if err != nil {
		return // the client sees its connection closed
	}
	defer server.Close()
	stop := context.AfterFunc(ctx, func() { _, _ = client.Close(), server.Close() })
	defer stop()
	var directions sync.WaitGroup
	directions.Go(func() { forward(server, client) })
	directions.Go(func() { forward(client, server) })
	directions.Wait()
}

// forward copies until src ends and tells dst so.
func forward(dst, src net.Conn) {
	_, _ = io.Copy(dst, src) // an error ends the connection, as it should
	if half, ok := dst.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
