package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDrains(t *testing.T) {
	answers := map[string]string{"/drains": `{
  "leaving": [{"service": "default/web", "virtualServer": "tcp 10.96.0.10:80", "endpoint": "10.244.1.2:8080",
    "since": "2026-11-28T12:00:00Z", "deadline": "2026-11-28T12:15:00Z", "connections": 3}],
  "left": [{"virtualServer": "tcp 10.96.0.11:80", "endpoint": "10.244.1.3:8080",
    "since": "2026-11-28T11:00:00Z", "left": "2026-11-28T11:15:00Z", "outcome": "cut", "cut": 2}]
}`}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if text, is := answers[r.URL.Path]; is {
			w.Write([]byte(text)) //nolint:errcheck // the test sees it
			return
		}
		http.NotFound(w, r)
	}))
	defer server.Close()
	proxy := "--proxy=" + strings.TrimPrefix(server.URL, "http://")
	var out bytes.Buffer
	if err := run(t.Context(), []string{"drains", proxy}, &out); err != nil {
		t.Fatal(err)
	}
	const want = `SERVICE      VIRTUAL SERVER     ENDPOINT         SINCE                 STATE
default/web  tcp 10.96.0.10:80  10.244.1.2:8080  2026-11-28T12:00:00Z  3 connections, until 2026-11-28T12:15:00Z
(deleted)    tcp 10.96.0.11:80  10.244.1.3:8080  2026-11-28T11:00:00Z  left 2026-11-28T11:15:00Z, 2 connections cut
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	delete(answers, "/drains")
	if err := run(t.Context(), []string{"drains", proxy}, &out); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("an older mooring-proxy: error %v", err)
	}
}
