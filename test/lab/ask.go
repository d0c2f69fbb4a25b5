package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// A Tally is what a client that keeps asking one URL has seen.
type Tally struct {
	URL      string         `json:"url"`
	Requests int            `json:"requests"`
	Answers  map[string]int `json:"answers"` // by the body, which names the pod
	Failures []string       `json:"failures,omitempty"`
	Slowest  time.Duration  `json:"slowest"`
}

// askTimeout is when a request counts as failed. It is below the five seconds after
// which resolvers ask again, so that a lost query or packet is not hidden by patience.
const askTimeout = 3 * time.Second

// Ask requests every URL once per pause, each time by a new lookup and a new
// connection, until the end of ctx, and returns the tallies in the order of the URLs.
func Ask(ctx context.Context, pause time.Duration, urls ...string) []Tally {
	tallies := make([]Tally, len(urls))
	var clients sync.WaitGroup
	for i, url := range urls {
		tallies[i] = Tally{URL: url, Answers: make(map[string]int)}
		clients.Go(func() { tallies[i].keepAsking(ctx, pause) })
	}
	clients.Wait()
	return tallies
}

func (t *Tally) keepAsking(ctx context.Context, pause time.Duration) {
	client := &http.Client{
		Timeout: askTimeout,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext:       (&net.Dialer{Resolver: &net.Resolver{PreferGo: true}}).DialContext,
		},
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		// A request under way at the end is finished, else it would look failed.
		t.ask(client)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (t *Tally) ask(client *http.Client) {
	start := time.Now()
	body, err := fetch(client, t.URL)
	t.Requests++
	t.Slowest = max(t.Slowest, time.Since(start))
	if err != nil {
		t.Failures = append(t.Failures, fmt.Sprintf("%s: %v", start.Format("15:04:05.000"), err))
		return
	}
	t.Answers[body]++
}

func fetch(client *http.Client, url string) (string, error) {
	response, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1024))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", response.Status)
	}
	return strings.TrimSpace(string(body)), err
}

// WriteTallies prints tallies as one line of JSON.
func WriteTallies(w io.Writer, tallies []Tally) error { return json.NewEncoder(w).Encode(tallies) }
