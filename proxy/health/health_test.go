package health

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestHandler(t *testing.T) {
	tests := []struct {
		name   string
		report func(now time.Time) Report
		want   int
	}{
		{"nothing applied yet", func(time.Time) Report { return Report{} }, http.StatusServiceUnavailable},
		{"up to date", func(now time.Time) Report { return Report{LastUpdated: now.Add(-time.Hour)} }, http.StatusOK},
		{"a change waits for a moment", func(now time.Time) Report {
			return Report{LastUpdated: now.Add(-time.Hour), PendingSince: now.Add(-time.Second)}
		}, http.StatusOK},
		{"a change waits too long", func(now time.Time) Report {
			return Report{LastUpdated: now.Add(-time.Hour), PendingSince: now.Add(-time.Minute)}
		}, http.StatusServiceUnavailable},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				handler := Handler(func() Report { return test.report(time.Now()) })
				for _, path := range []string{"/healthz", "/livez"} {
					recorder := httptest.NewRecorder()
					handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
					if recorder.Code != test.want || !strings.Contains(recorder.Body.String(), `"lastUpdated"`) {
						t.Errorf("%s: %d %s, want %d", path, recorder.Code, recorder.Body, test.want)
					}
				}
			})
		})
	}
}

func TestServeNamesTheAddressItCannotHave(t *testing.T) {
	taken := httptest.NewServer(http.NotFoundHandler())
	defer taken.Close()
	address := taken.Listener.Addr().String()
	err := Serve(context.Background(), address, nil, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), address) {
		t.Errorf("error %v does not name %s", err, address)
	}
}
