package story

import (
	"cmp"
	"context"
	"embed"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mooring-project/mooring/test/lab"
)

//go:embed objects
var objects embed.FS

// apply creates the objects of a file.
func (t *teller) apply(ctx context.Context, file string) error {
	text, err := objects.ReadFile("objects/" + file)
	if err != nil {
		return err
	}
	parsed, err := lab.ParseObjects(text)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	fmt.Fprintf(t.out, "apply %s:", file)
	for _, o := range parsed {
		kind := strings.ToLower(o.GetObjectKind().GroupVersionKind().Kind)
		fmt.Fprintf(t.out, " %s/%s", kind, o.GetName())
	}
	fmt.Fprintln(t.out)
	return t.lab.Cluster.Apply(ctx, parsed...)
}

func setTheStage(ctx context.Context, t *teller) error {
	for _, file := range []string{"cluster.yaml", "web.yaml"} {
		if err := t.apply(ctx, file); err != nil {
			return err
		}
	}
	err := t.until(ctx, func() error { return t.readyPods(ctx, 3+2+2) })
	t.showPods(ctx)
	t.check("all pods are ready, mooring-dns among them", err)
	return nil
}

// readyPods says what is missing until exactly so many pods are there, all ready.
func (t *teller) readyPods(ctx context.Context, want int) error {
	pods, err := t.lab.Cluster.List(ctx)
	if err != nil {
		return err
	}
	ready := 0
	for _, p := range pods {
		if lab.IsReady(p) {
			ready++
		}
	}
	if ready != want || len(pods) != want {
		return fmt.Errorf("%d of %d pods are ready, want %d", ready, len(pods), want)
	}
	return nil
}

func (t *teller) showPods(ctx context.Context) {
	pods, err := t.lab.Cluster.List(ctx)
	if err != nil {
		return // the next check says so
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	table := tabwriter.NewWriter(t.out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "\nNAMESPACE\tPOD\tREADY\tNODE\tADDRESS")
	for _, p := range pods {
		fmt.Fprintf(table, "%s\t%s\t%t\t%s\t%s\n", p.Namespace, p.Name, lab.IsReady(p), p.Spec.NodeName, p.Status.PodIP)
	}
	_ = table.Flush() // the output's own errors show at the end
}

// webPods gives the names of the web pods that are to stay.
func (t *teller) webPods(ctx context.Context) ([]string, error) {
	pods, err := t.lab.Cluster.List(ctx)
	var names []string
	for _, p := range pods {
		if p.Labels["app"] == "web" && p.DeletionTimestamp == nil {
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	return names, err
}

// reaches expects that answers of web pods come from all of those named.
func reaches(pods []string) func(answer) error {
	return func(a answer) error {
		if a.status != 0 {
			return fmt.Errorf("exit status %d", a.status)
		}
		for _, pod := range pods {
			if !strings.Contains(a.output, pod) {
				return fmt.Errorf("no answer from %s", pod)
			}
		}
		return nil
	}
}

// oneOf expects a single web pod's answer.
func oneOf(pods []string) func(answer) error {
	return func(a answer) error {
		if a.status != 0 || !slices.Contains(pods, a.output) {
			return fmt.Errorf("exit status %d, and the answer is from none of %s", a.status, strings.Join(pods, ", "))
		}
		return nil
	}
}

func nameAndAddress(ctx context.Context, t *teller) error {
	service, err := t.lab.Cluster.Service(ctx, "default", "web")
	if err != nil {
		return err
	}
	pods, err := t.webPods(ctx)
	if err != nil {
		return err
	}
	client, err := t.pod("default", "client")
	if err != nil {
		return err
	}
	stranger, err := t.pod("other", "stranger")
	if err != nil {
		return err
	}
	ip := service.Spec.ClusterIP
	t.await(ctx, client, "the full name has the ClusterIP "+ip, contains(ip), "nslookup", "web.default.svc.cluster.local")
	t.run(ctx, client, "so has the short name", mentions(ip), "nslookup", "web")
	// busybox's nslookup asks for a name with a dot as it is; the C library, as
	// programs use it, goes through the search path.
	t.run(ctx, client, "and the name with the namespace", contains(ip), "getent", "hosts", "web.default")
	t.await(ctx, client, "the Service answers by name", oneOf(pods), "wget", "-qO-", "http://web")
	t.run(ctx, client, "repeated requests reach all of its pods", reaches(pods), "sh", "-c",
		"for i in $(seq 9); do wget -qO- http://web; done | sort | uniq -c")
	t.run(ctx, stranger, "in another namespace the short name means nothing", doesNotExist, "nslookup", "web")
	t.run(ctx, stranger, "the name with the namespace works there", oneOf(pods), "wget", "-qO-", "http://web.default")
	// The kernel sums its counters up every two seconds.
	t.await(ctx, t.node(), "these queries came through the proxy's virtual server", counted, "ipvsadm", "-Ln", "--stats", "-u", lab.DNSAddress.String()+":53")
	return nil
}

// counted expects a virtual server with connections in ipvsadm's statistics.
func counted(a answer) error {
	for line := range strings.Lines(a.output) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "UDP" && f[2] != "0" {
			return nil
		}
	}
	return fmt.Errorf("exit status %d, and no connections counted", a.status)
}

func nodePort(ctx context.Context, t *teller) error {
	pods, err := t.webPods(ctx)
	if err != nil {
		return err
	}
	curl := func(at place, says, host string) {
		t.await(ctx, at, says, oneOf(pods), "curl", "-s", "--max-time", "5", "http://"+host+":30080")
	}
	first, second := t.lab.Nodes[0].V4.String(), t.lab.Nodes[1].V4.String()
	curl(t.node(), "on the node by localhost", "localhost")
	curl(t.node(), "on the node by its own address", first)
	curl(t.node(), "on the node by the other node's address", second)
	curl(t.outside(), "from outside by the first node", first)
	curl(t.outside(), "from outside by the second node", second)
	return nil
}

func nothingBehind(ctx context.Context, t *teller) error {
	client, err := t.pod("default", "client")
	if err != nil {
		return err
	}
	if err := t.apply(ctx, "lonely.yaml"); err != nil {
		return err
	}
	service, err := t.lab.Cluster.Service(ctx, "default", "lonely")
	if err != nil {
		return err
	}
	ip := service.Spec.ClusterIP
	t.await(ctx, client, "the name is known", contains(ip), "nslookup", "lonely.default.svc.cluster.local")
	t.await(ctx, client, "a pod is refused at once", refused, "wget", "-qO-", "http://lonely")
	t.await(ctx, t.node(), "so is the node", refused, "curl", "-sS", "--max-time", "5", "http://"+ip)
	t.run(ctx, t.node(), "and mooringctl says why", contains("connections are refused"), t.lab.Ctl("explain", "default/lonely")...)
	return nil
}

// atOnce is far below any timeout, and far above what a process needs to start on an
// emulated machine.
const atOnce = 2 * time.Second

// refused expects a refusal without a wait.
func refused(a answer) error {
	switch {
	case a.status == 0:
		return fmt.Errorf("it was answered")
	case a.took > atOnce:
		return fmt.Errorf("it took %s", a.took.Round(time.Millisecond))
	case !strings.Contains(strings.ToLower(a.output), "refused") && !strings.Contains(a.output, "Couldn't connect"):
		return fmt.Errorf("it was not refused")
	}
	return nil
}
