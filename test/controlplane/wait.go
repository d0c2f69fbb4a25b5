package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// A probe says with nil that a component is ready, else why not.
type probe func(ctx context.Context) error

// waitFor repeats a probe until it succeeds. It gives up when any process
// ends, when the start timeout is over and when ctx ends. The caller holds mu.
func (c *ControlPlane) waitFor(ctx context.Context, name string, ready probe) error {
	ctx, cancel := context.WithTimeout(ctx, c.options.StartTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		last := ready(ctx)
		if last == nil {
			return nil
		}
		for _, p := range c.processes {
			select {
			case <-p.exited:
				return p.failure(fmt.Sprintf("ended (%v)", p.cmd.ProcessState))
			default:
			}
		}
		select {
		case <-ctx.Done():
			return c.notReady(name, errors.Join(ctx.Err(), last))
		case <-tick.C:
		}
	}
}

func (c *ControlPlane) notReady(name string, cause error) error {
	for _, p := range c.processes {
		if p.name == name {
			return p.failure(fmt.Sprintf("not ready: %v", cause))
		}
	}
	return fmt.Errorf("%s: not ready: %w", name, cause)
}

// etcdListens succeeds when etcd takes connections.
func (c *ControlPlane) etcdListens(ctx context.Context) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.paths.etcdSocket())
	if err != nil {
		return err
	}
	return conn.Close()
}

// exists returns a probe that succeeds when the API answers a GET on path
// with 200. Each probe has a connection of its own: it leaves no goroutine
// behind and no connection to a server that is about to end.
func (c *ControlPlane) exists(path string) probe {
	roots := x509.NewCertPool()
	roots.AddCert(c.ca.cert)
	client := &http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: roots},
			DisableKeepAlives: true,
		},
	}
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL()+path, nil)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+c.Token())
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: %s: %s", path, resp.Status, lastLines(string(body), 5))
		}
		return nil
	}
}

// freePort finds a port that nobody listens on. It stays below the range from
// which kernels pick the ports of clients (32768 and up) and below node ports
// (30000 and up), so that nothing takes it before the server does, except
// another control plane that drew the same number.
func freePort(addr netip.Addr) (uint16, error) {
	var last error
	for range 50 {
		port := uint16(20000 + rand.IntN(10000))
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, port)))
		if err == nil {
			return port, l.Close()
		}
		last = err
	}
	return 0, fmt.Errorf("free port on %s: %w", addr, last)
}
