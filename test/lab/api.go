package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// An API is a real API server outside of the lab. Inside it is reached at RelayAddress
// with the same port, which is to be its advertised address.
type API struct {
	// Upstream is its address as the lab's own process reaches it.
	Upstream string
	// Kubeconfig is the file for the lab and the proxies. Its server is the relay.
	Kubeconfig string
}

func (a *API) port() (string, error) {
	_, port, err := net.SplitHostPort(a.Upstream)
	if err != nil {
		return "", fmt.Errorf("address of the API server: %w", err)
	}
	return port, nil
}

// restConfig is a client configuration for the lab's own process, which is not on the
// underlay: the server's name stays, the connections go to the upstream address.
func (a *API) restConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", a.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", a.Kubeconfig, err)
	}
	config.QPS = -1
	config.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, a.Upstream)
	}
	return config, nil
}

// serviceAccountDir is where programs in pods look for their credentials.
const serviceAccountDir = "/run/secrets/kubernetes.io/serviceaccount"

// writeServiceAccount gives the pods credentials, so that they find the API server by
// its Service as in any cluster. All pods share this lab's /run.
func (a *API) writeServiceAccount() error {
	config, err := clientcmd.BuildConfigFromFlags("", a.Kubeconfig)
	if err != nil {
		return fmt.Errorf("kubeconfig %s: %w", a.Kubeconfig, err)
	}
	if err := os.MkdirAll(serviceAccountDir, 0o755); err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"token": []byte(config.BearerToken), "ca.crt": config.CAData, "namespace": []byte("kube-system"),
	} {
		if err := os.WriteFile(filepath.Join(serviceAccountDir, name), content, 0o600); err != nil {
			return fmt.Errorf("service account: %w", err)
		}
	}
	return nil
}
