package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// desk is where the host does what only it can do.
type desk struct{ address string }

// fill has the API server hold so many Services.
func (d desk) fill(ctx context.Context, services, endpoints int) error {
	_, err := d.ask(ctx, fmt.Sprintf("/fill?services=%d&endpoints=%d", services, endpoints))
	return err
}

// restart starts the API server anew and returns when it is ready.
func (d desk) restart(ctx context.Context) error {
	_, err := d.ask(ctx, "/restart")
	return err
}

// lists tells how often the API server has listed EndpointSlices since its start.
func (d desk) lists(ctx context.Context) (int, error) {
	answer, err := d.ask(ctx, "/lists")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(answer)
}

func (d desk) ask(ctx context.Context, path string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+d.address+path, http.NoBody)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", fmt.Errorf("desk: %w", err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("desk: %s: %s: %s", path, response.Status, answer)
	}
	return string(answer), nil
}
