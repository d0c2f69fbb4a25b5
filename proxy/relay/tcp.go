package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// dialTimeout bounds the wait for the endpoint; the client waits as long.
const dialTimeout = 10 * time.Second

// serveTCP accepts until the listener is closed.
func (s *Set) serveTCP(listener *net.TCPListener, r *relay) {
	for {
		client, err := listener.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			s.logger.Error("relay does not accept", "listener", listener.Addr(), "err", err)
			select {
			case <-s.ctx.Done():
				return
			case <-time.After(time.Second): // most likely out of file descriptors
			}
			continue
		}
		s.running.Go(func() { s.carryTCP(client, r.target.Load().String()) })
	}
}

// carryTCP joins a client to the target until both directions have ended.
func (s *Set) carryTCP(client *net.TCPConn, target string) {
	defer client.Close()
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(s.ctx, "tcp", target)
	if err != nil {
		s.logger.Debug("relay: target refused", "target", target, "err", err)
		client.SetLinger(0) //nolint:errcheck // a reset tells the client what a refusal would
		return
	}
	server := conn.(*net.TCPConn)
	defer server.Close()
	stop := context.AfterFunc(s.ctx, func() {
		client.Close()
		server.Close()
	})
	defer stop()
	var directions sync.WaitGroup
	directions.Go(func() { copyHalf(server, client) })
	directions.Go(func() { copyHalf(client, server) })
	directions.Wait()
}

// copyHalf carries one direction and passes its end on, so that a half-closed connection
// stays half open.
func copyHalf(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		to.SetLinger(0) //nolint:errcheck // an abort on one side is an abort on the other
		to.Close()
		return
	}
	to.CloseWrite() //nolint:errcheck // the peer may have gone already
}
