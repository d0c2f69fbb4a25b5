package health

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

func TestHandler(t *testing.T) {
	tests := []struct {
		name           string
		updated        time.Duration // before now; 0 for never
		pending        time.Duration // before now; 0 for nothing
		eligible       bool
		healthz, livez int
	}{
		{"nothing applied yet", 0, 0, true, 503, 200},
		{"nothing applied for too long", 0, time.Hour, true, 503, 503},
		{"up to date", time.Hour, 0, true, 200, 200},
		{"up to date on a node that goes", time.Hour, 0, false, 503, 200},
		{"a change waits for a moment", time.Hour, time.Second, true, 200, 200},
		{"a change waits too long", time.Hour, time.Minute, true, 503, 503},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				report := Report{Eligible: test.eligible, Families: []string{"IPv4", "IPv6"}}
				if test.updated != 0 {
					report.LastUpdated = time.Now().Add(-test.updated)
				}
				if test.pending != 0 {
					report.PendingSince = time.Now().Add(-test.pending)
				}
				told := map[string]int{}
				server := Server{
					Report: func() Report { return report }, Patience: patience,
					Answered: func(path string, code int) { told[path] = code },
				}
				got := map[string]int{"/healthz": get(t, server, "/healthz").Code, "/livez": get(t, server, "/livez").Code}
				if diff := cmp.Diff(map[string]int{"/healthz": test.healthz, "/livez": test.livez}, got); diff != "" {
					t.Errorf("answers (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(got, told); diff != "" {
					t.Errorf("told (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func get(t *testing.T, server Server, path string) *httptest.ResponseRecorder {
	t.Helper()
	recorder := httptest.NewRecorder()
	server.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
	return recorder
}

func TestBodiesAreKubeProxys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().UTC()
		updated := now.Add(-time.Hour)
		family := map[string]any{"lastUpdated": updated.Format(time.RFC3339Nano), "healthy": true}
		tests := []struct {
			name, path string
			eligible   bool
			want       map[string]any
		}{
			{"healthz", "/healthz", true, map[string]any{
				"lastUpdated": now.Format(time.RFC3339Nano), "currentTime": now.Format(time.RFC3339Nano),
				"nodeEligible": true, "healthy": true, "status": map[string]any{"IPv4": family},
			}},
			{"healthz of a node that goes", "/healthz", false, map[string]any{
				"lastUpdated": updated.Format(time.RFC3339Nano), "currentTime": now.Format(time.RFC3339Nano),
				"nodeEligible": false, "healthy": true, "status": map[string]any{"IPv4": family},
			}},
			{"livez says nothing of the node", "/livez", false, map[string]any{
				"lastUpdated": now.Format(time.RFC3339Nano), "currentTime": now.Format(time.RFC3339Nano),
				"healthy": true, "status": map[string]any{"IPv4": family},
			}},
		}
		for _, test := range tests {
			server := Server{Patience: patience, Report: func() Report {
				return Report{LastUpdated: updated, Eligible: test.eligible, Families: []string{"IPv4"}}
			}}
			var got map[string]any
			if err := json.Unmarshal(get(t, server, test.path).Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			// In the machine's own zone; the moment is what counts.
			for _, name := range []string{"lastUpdated", "currentTime"} {
				moment, err := time.Parse(time.RFC3339Nano, got[name].(string))
				if err != nil {
					t.Fatal(err)
				}
				got[name] = moment.UTC().Format(time.RFC3339Nano)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", test.name, diff)
			}
		}
	})
}
