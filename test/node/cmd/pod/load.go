package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// interval lies between two requests, patience is how long one may take: emulated machines that
// start other pods meanwhile are slow.
const (
	interval = 200 * time.Millisecond
	patience = 10 * time.Second
)

// A report tells how the requests went. Each is a question to the cluster's DNS over UDP, asked
// once, and an HTTP request to the answer over a connection of its own.
type report struct {
	Requests int
	Failures []string
	// Slowest is the longest time of a request, in seconds.
	Slowest float64
}

type client struct {
	name, port string // of the URL
	server     string // of the cluster's DNS
	http       *http.Client

	mu     sync.Mutex
	report report
}

// load asks until ctx ends. GET at the address gives the report.
func load(ctx context.Context, target, address string) error {
	c, err := newClient(target)
	if err != nil {
		return err
	}
	go func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for ctx.Err() == nil {
			c.request(ctx)
			<-ticker.C
		}
	}()
	return serve(ctx, address, func(w http.ResponseWriter, _ *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		// The reader notices what is cut off.
		_ = json.NewEncoder(w).Encode(c.report)
	})
}

func newClient(target string) (*client, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	resolver, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		return nil, err
	}
	c := &client{name: dns.Fqdn(u.Hostname()), port: u.Port(), server: net.JoinHostPort(resolver.Servers[0], resolver.Port)}
	if c.port == "" {
		c.port = "80"
	}
	c.http = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return c, nil
}

func (c *client) request(ctx context.Context) {
	begin := time.Now()
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := c.ask(limited)
	if ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Requests++
	c.report.Slowest = max(c.report.Slowest, time.Since(begin).Seconds())
	if err != nil {
		c.report.Failures = append(c.report.Failures, begin.UTC().Format("15:04:05.000 ")+err.Error())
	}
}

func (c *client) ask(ctx context.Context) error {
	resolver := dns.Client{Timeout: patience}
	reply, _, err := resolver.ExchangeContext(ctx, new(dns.Msg).SetQuestion(c.name, dns.TypeA), c.server)
	if err != nil {
		return fmt.Errorf("name: %w", err)
	}
	if len(reply.Answer) != 1 {
		return fmt.Errorf("name: %s with %d records", dns.RcodeToString[reply.Rcode], len(reply.Answer))
	}
	a, ok := reply.Answer[0].(*dns.A)
	if !ok {
		return fmt.Errorf("name: %s", reply.Answer[0])
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(a.A.String(), c.port), nil)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("address: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("address: %s", response.Status)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}
