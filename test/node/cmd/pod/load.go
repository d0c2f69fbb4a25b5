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

// interval lies between two requests, patience is how long one may take, counted in ticks of this
// program's: an emulated machine that starts other pods may stand still for longer than that, and
// client and server with it.
const (
	interval = 200 * time.Millisecond
	patience = 10 * time.Second
	tick     = 100 * time.Millisecond
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
	limited, cancel := withPatience(ctx)
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

// withPatience gives a context that ends when patience has passed while this program ran: ticks
// that nobody can take are not made up for.
func withPatience(ctx context.Context) (context.Context, context.CancelFunc) {
	limited, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		for range patience / tick {
			select {
			case <-limited.Done():
				return
			case <-ticker.C:
			}
		}
	}()
	return limited, cancel
}

// resolve asks the cluster's DNS once.
func (c *client) resolve(ctx context.Context) (*dns.Msg, error) {
	resolver := dns.Client{Timeout: time.Hour} // ctx ends first
	conn, err := resolver.DialContext(ctx, c.server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	reply, _, err := resolver.ExchangeWithConn(new(dns.Msg).SetQuestion(c.name, dns.TypeA), conn)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("no answer: %w", ctx.Err())
	}
	return reply, err
}

func (c *client) ask(ctx context.Context) error {
	reply, err := c.resolve(ctx)
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
