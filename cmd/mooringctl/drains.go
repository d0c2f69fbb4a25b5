package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"
)

// drains is what mooring-proxy answers at /drains.
type drains struct {
	Leaving []struct {
		drain
		Deadline    time.Time `json:"deadline"`
		Connections uint32    `json:"connections"`
	} `json:"leaving"`
	Left []struct {
		drain
		Left    time.Time `json:"left"`
		Outcome string    `json:"outcome"`
		Cut     uint32    `json:"cut"`
	} `json:"left"`
}

type drain struct {
	Service  string    `json:"service"`
	Server   string    `json:"virtualServer"`
	Endpoint string    `json:"endpoint"`
	Since    time.Time `json:"since"`
}

// printDrains prints which endpoints of a node are leaving, and which have left lately, as the
// mooring-proxy at an address knows them.
func printDrains(ctx context.Context, address string, out io.Writer) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/drains", http.NoBody)
	if err != nil {
		return fmt.Errorf("--proxy %q: %w", address, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("mooring-proxy is asked on its own node: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("mooring-proxy at %s: %s", address, response.Status)
	}
	var found drains
	if err := json.NewDecoder(response.Body).Decode(&found); err != nil {
		return fmt.Errorf("mooring-proxy at %s: %w", address, err)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SERVICE\tVIRTUAL SERVER\tENDPOINT\tSINCE\tSTATE")
	line := func(d drain, state string) {
		if d.Service == "" {
			d.Service = "(deleted)"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", d.Service, d.Server, d.Endpoint, d.Since.Format(time.RFC3339), state)
	}
	for _, l := range found.Leaving {
		line(l.drain, fmt.Sprintf("%d connections, until %s", l.Connections, l.Deadline.Format(time.RFC3339)))
	}
	for _, l := range found.Left {
		state := "left " + l.Left.Format(time.RFC3339)
		if l.Cut > 0 {
			state += fmt.Sprintf(", %d connections cut", l.Cut)
		}
		line(l.drain, state)
	}
	return table.Flush()
}
