package watch_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/watch"
	"github.com/mooring-project/mooring/test/controlplane"
)

// testEvents has two nodes say the same about a Service, and one something else.
func testEvents(t *testing.T, plane *controlplane.ControlPlane, api kubernetes.Interface, web model.ServiceKey) {
	first, second := tell(t, plane, "n1"), tell(t, plane, "n2")
	const note = `mooring.dev/scheduler: "fair": no scheduler has that name`
	first.Warn(web, "InvalidAnnotation", note)
	until(t, "the first event", func() bool { return len(events(t, api)) == 1 })
	second.Warn(web, "InvalidAnnotation", note)
	second.Warn(web, "InvalidAnnotation", strings.Repeat("ä", 2000))
	second.Warn(model.ServiceKey{Namespace: "shop", Name: "gone"}, "InvalidAnnotation", note)
	until(t, "the second event, and that the first was seen again", func() bool {
		all := events(t, api)
		return len(all) == 2 && (all[0].Series != nil || all[1].Series != nil)
	})
	service, err := api.CoreV1().Services(web.Namespace).Get(t.Context(), web.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: "shop", Name: "web", UID: service.UID}
	for _, e := range events(t, api) {
		if e.Regarding != want || e.Type != "Warning" || e.Reason != "InvalidAnnotation" || e.ReportingController != "mooring-proxy" {
			t.Errorf("event %+v", e)
		}
	}
}

// tell has a node's Events written until the test ends.
func tell(t *testing.T, plane *controlplane.ControlPlane, node string) *watch.Events {
	t.Helper()
	e, err := watch.NewEvents(watch.KubernetesConfig{Kubeconfig: plane.Kubeconfig(), Logger: slog.New(slog.NewTextHandler(testLog{t}, nil))}, "mooring-proxy", node)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); e.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return e
}

func events(t *testing.T, api kubernetes.Interface) []eventsv1.Event {
	t.Helper()
	list, err := api.EventsV1().Events("shop").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}
