package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const probeTimeout = 2 * time.Second

// probe makes one readiness probe against a pod from its node, as the kubelet does.
// Ports are numbers, kinds tcpSocket and httpGet.
func probe(ctx context.Context, from *Namespace, pod netip.Addr, p *corev1.Probe) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	switch {
	case p.TCPSocket != nil:
		conn, err := from.Dial(ctx, "tcp", target(pod, p.TCPSocket.Port))
		if err != nil {
			return err
		}
		return conn.Close()
	case p.HTTPGet != nil:
		return get(ctx, from, "http://"+target(pod, p.HTTPGet.Port)+p.HTTPGet.Path)
	}
	return fmt.Errorf("readiness probe: only tcpSocket and httpGet work in the lab")
}

func target(pod netip.Addr, port intstr.IntOrString) string {
	return net.JoinHostPort(pod.String(), strconv.Itoa(port.IntValue()))
}

func get(ctx context.Context, from *Namespace, url string) error {
	client := http.Client{Transport: &http.Transport{DialContext: from.Dial, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	return nil
}
