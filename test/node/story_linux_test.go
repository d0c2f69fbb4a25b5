package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// example applies a file of deploy/examples, with the web server of these tests for nginx, which
// cannot be fetched here.
func (c *cluster) example(name string) {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.source, "deploy/examples", name))
	if err != nil {
		c.t.Fatal(err)
	}
	c.apply(strings.ReplaceAll(string(text), "image: nginx", "image: "+webImage))
}

// rollout waits until a workload of kube-system is as it should be.
func (c *cluster) rollout(workload string) {
	c.t.Helper()
	c.kubectl("-n", "kube-system", "rollout", "status", workload, "--timeout="+patience.String())
}

// client starts a pod of busybox that waits to be told what to do. On the host's network it is
// privileged and plays the node's administrator.
func (c *cluster) client(name string, host bool) {
	c.t.Helper()
	c.apply(fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: %s}, spec: {hostNetwork: %t, terminationGracePeriodSeconds: 0,
	  tolerations: [{operator: Exists}], containers: [{name: client, image: %q, imagePullPolicy: IfNotPresent,
	  command: [sleep, infinity], securityContext: {privileged: %t}}]}}`, name, host, busyboxImage, host))
	c.kubectl("wait", "--for=condition=Ready", "pod/"+name, "--timeout="+patience.String())
}

// says runs a command in a pod until what it prints pleases.
func (c *cluster) says(pod, what string, pleases func(output string) bool, command ...string) string {
	c.t.Helper()
	var said string
	c.eventually(what, func() error {
		output, err := c.tryKubectl(append([]string{"exec", pod, "--"}, command...)...)
		said = output
		if !pleases(output) {
			return fmt.Errorf("%s in %s: %s", strings.Join(command, " "), pod, got(output, err))
		}
		return nil
	})
	c.t.Logf("%s$ %s\n%s", pod, strings.Join(command, " "), said)
	return said
}

// got tells what came instead of what was wanted.
func got(answer string, err error) string {
	if err != nil {
		return fmt.Sprintf("%s (%v)", answer, err)
	}
	return fmt.Sprintf("%q", answer)
}

func contains(parts ...string) func(string) bool {
	return func(output string) bool {
		return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(output, part) })
	}
}

// pods gives the names of the pods with a label that are not about to go.
func (c *cluster) pods(label string) []string {
	c.t.Helper()
	output, err := c.tryKubectl("get", "pods", "-l", label, "-o",
		`go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}} {{end}}{{end}}`)
	if err != nil {
		c.t.Fatalf("pods: %v\n%s", err, output)
	}
	return strings.Fields(output)
}

// field reads one field of an object.
func (c *cluster) field(path string, object ...string) string {
	c.t.Helper()
	output, err := c.tryKubectl(append(append([]string{"get"}, object...), "-o", "jsonpath={"+path+"}")...)
	if err != nil {
		c.t.Fatalf("%s of %s: %v\n%s", path, strings.Join(object, " "), err, output)
	}
	return output
}

// fetch asks from outside the cluster, from an address of this host.
func fetch(ctx context.Context, from, url string) (string, error) {
	dialer := &net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialer.DialContext}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return strings.TrimSpace(string(body)), err
}

// reaches waits until a URL is answered from outside by one of the pods.
func (c *cluster) reaches(what, from, url string, pods []string) {
	c.t.Helper()
	c.eventually(what, func() error {
		answer, err := fetch(c.t.Context(), from, url)
		if err != nil || !slices.Contains(pods, answer) {
			return fmt.Errorf("%s; want one of %s", got(answer, err), strings.Join(pods, " "))
		}
		return nil
	})
}

// A load asks http://web.default.svc.cluster.local by name, five times a second if it can.
type load struct {
	c   *cluster
	url string
}

// A report is what cmd/pod says of it.
type report struct {
	Requests int
	Failures []string
	Slowest  float64
}

// startLoad starts a pod that keeps asking. The report is of the time when it first had success:
// whoever asks for a Service may be faster than the proxy that hears of it.
func (c *cluster) startLoad() (*load, report) {
	c.t.Helper()
	c.apply(fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: load}, spec: {terminationGracePeriodSeconds: 0, containers: [
	  {name: load, image: %q, args: ["http://web.default.svc.cluster.local", ":8080"]}]}}`, loadImage))
	c.kubectl("wait", "--for=condition=Ready", "pod/load", "--timeout="+patience.String())
	l := &load{c, "http://" + net.JoinHostPort(c.field(".status.podIP", "pod", "load"), "8080")}
	var first report
	c.eventually("the load runs", func() error {
		r, err := l.report()
		if err != nil || r.Requests == len(r.Failures) {
			return errors.New(got(fmt.Sprintf("%+v", r), err))
		}
		first = r
		return nil
	})
	return l, first
}

func (l *load) report() (report, error) {
	var r report
	text, err := fetch(l.c.t.Context(), gateway, l.url)
	if err == nil {
		err = json.Unmarshal([]byte(text), &r)
	}
	return r, err
}

// check expects that no request has failed since an earlier report. A step may be done sooner than
// one request: then it waits for the next.
func (l *load) check(what string, since report) report {
	l.c.t.Helper()
	var r report
	l.c.eventually("the load goes on", func() (err error) {
		if r, err = l.report(); err == nil && r.Requests == since.Requests {
			err = errors.New("it stands still")
		}
		return err
	})
	failures := r.Failures[len(since.Failures):]
	l.c.t.Logf("%s: %d requests, %d failures; the slowest so far took %.2f s", what, r.Requests-since.Requests, len(failures), r.Slowest)
	if len(failures) > 0 {
		l.c.t.Errorf("%s: %d requests failed:\n%s", what, len(failures), strings.Join(failures, "\n"))
	}
	return r
}

// nameAndAddress asks as pods do.
func nameAndAddress(c *cluster) {
	c.example("web.yaml")
	c.kubectl("rollout", "status", "deployment/web", "--timeout="+patience.String())
	c.client("client", false)
	ip := c.field(".spec.clusterIP", "service", "web")
	c.says("client", "the full name has the ClusterIP "+ip, contains(ip), "nslookup", "web.default.svc.cluster.local")
	c.says("client", "so has the short name", contains(ip), "nslookup", "web")
	c.says("client", "repeated requests reach all pods", contains(c.pods("app=web")...), "sh", "-c",
		"for i in $(seq 9); do wget -qO- http://web; done | sort | uniq -c")
	c.example("headless.yaml")
	c.kubectl("rollout", "status", "statefulset/db", "--timeout="+patience.String())
	c.says("client", "a pod of a StatefulSet has a name", contains(c.field(".status.podIP", "pod", "db-1")),
		"nslookup", "db-1.db.default.svc.cluster.local")
	c.apply(`{apiVersion: v1, kind: Service, metadata: {name: lonely}, spec: {selector: {app: nobody}, ports: [{port: 80}]}}`)
	c.says("client", "a Service without endpoints refuses", contains("refused"), "wget", "-qO-", "http://lonely")
}

// fromOutside asks by the node's address, and by that of a load balancer.
func fromOutside(c *cluster) {
	node, web := c.sites[0], c.pods("app=web")
	c.example("nodeport.yaml")
	c.reaches("the NodePort from outside", gateway, "http://"+node.address+":30080", web)
	c.client("administrator", true)
	c.says("administrator", "the NodePort on the node by localhost", contains("web-"), "wget", "-qO-", "http://localhost:30080")

	const balancer, admitted = "203.0.113.10", "192.0.2.7"
	c.example("loadbalancer.yaml")
	c.kubectl("patch", "service", "web-public", "--subresource=status", "--type=merge", "-p",
		`{"status":{"loadBalancer":{"ingress":[{"ip":"`+balancer+`"}]}}}`)
	c.ip("address", "add", admitted+"/32", "dev", "bridge")
	c.ip("route", "add", balancer+"/32", "via", node.address)
	c.reaches("the load balancer's address from a network that is admitted", admitted, "http://"+balancer, web)
	if answer, err := fetch(c.t.Context(), gateway, "http://"+balancer); err == nil {
		c.t.Errorf("the load balancer's address answers another network: %q", answer)
	}

	c.example("scheduler.yaml")
	ip := c.field(".spec.clusterIP", "service", "web-balanced")
	c.says("administrator", "a Service with a scheduler of its own", contains(ip+":80 wlc"), "ipvsadm", "-Ln")
}

// left waits until web has so many pods, those that are ending among them.
func (c *cluster) left(want int) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("%d pods are left", want), func() error {
		output, err := c.tryKubectl("get", "pods", "-l", "app=web", "-o", "name")
		if n := len(strings.Fields(output)); err != nil || n != want {
			return errors.New(got(output, err))
		}
		return nil
	})
}

// comeAndGo changes the pods of web under load.
func comeAndGo(c *cluster, l *load, since report) report {
	c.kubectl("delete", "pod", c.pods("app=web")[0], "--wait=false")
	c.kubectl("scale", "deployment/web", "--replicas=5")
	c.kubectl("rollout", "status", "deployment/web", "--timeout="+patience.String())
	c.kubectl("scale", "deployment/web", "--replicas=2")
	c.left(2)
	c.kubectl("rollout", "restart", "deployment/web")
	c.kubectl("rollout", "status", "deployment/web", "--timeout="+patience.String())
	// The roll-out is done when the new pods are ready; the old ones may be ending still.
	c.left(2)
	return l.check("a pod deleted, web scaled to 5 and 2, and updated", since)
}

// updateItself changes the version of both programs under load.
func updateItself(c *cluster, l *load, since report) report {
	c.kubectl("-n", "kube-system", "set", "image", "daemonset/mooring-proxy", "*=localhost/mooring-proxy:"+secondVersion)
	c.rollout("daemonset/mooring-proxy")
	if version := c.kubectl("-n", "kube-system", "exec", "daemonset/mooring-proxy", "--", "/mooringctl", "version"); !strings.Contains(version, secondVersion) {
		c.t.Errorf("version %q after the update, want %s", version, secondVersion)
	}
	since = l.check("mooring-proxy updated", since)
	c.kubectl("-n", "kube-system", "set", "image", "deployment/mooring-dns", "*=localhost/mooring-dns:"+secondVersion)
	c.rollout("deployment/mooring-dns")
	c.eventually("the old pods of mooring-dns are gone", func() error {
		output, err := c.tryKubectl("-n", "kube-system", "get", "pods", "-l", "app.kubernetes.io/name=mooring-dns", "-o", "jsonpath={.items[*].spec.containers[0].image}")
		if err != nil || strings.Contains(output, ":"+firstVersion) {
			return errors.New(got(output, err))
		}
		return nil
	})
	return l.check("mooring-dns updated", since)
}
