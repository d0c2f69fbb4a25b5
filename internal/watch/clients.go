package watch

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/flowcontrol"
	mcsv1 "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"
)

const protobuf = "application/vnd.kubernetes.protobuf"

// clients talk to one API server. A client for each of the few API groups that are
// needed spares the binary the other fifty of client-go's clientset.
type clients struct {
	byGroup    map[schema.GroupVersion]rest.Interface
	parameters runtime.ParameterCodec
	// metadataTypes are the content types to ask for metadata alone.
	metadataTypes string
	// host and hint are for errors: where the server is and where that was said.
	host, hint string
}

// An apiGroup is a version of an API group, and what makes its types known.
type apiGroup struct {
	version schema.GroupVersion
	add     func(*runtime.Scheme) error
}

// watchedGroups are those of the kinds.
var watchedGroups = []apiGroup{
	{corev1.SchemeGroupVersion, corev1.AddToScheme},
	{discoveryv1.SchemeGroupVersion, discoveryv1.AddToScheme},
	{networkingv1.SchemeGroupVersion, networkingv1.AddToScheme},
	{mcsv1.SchemeGroupVersion, mcsv1.Install},
}

// newScheme knows these API groups and no other.
func newScheme(groups []apiGroup) (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		return nil, fmt.Errorf("scheme: %w", err)
	}
	for _, group := range groups {
		if err := group.add(scheme); err != nil {
			return nil, fmt.Errorf("scheme: %w", err)
		}
	}
	return scheme, nil
}

func newClients(config *KubernetesConfig, groups []apiGroup) (*clients, error) {
	server, hint, err := restConfig(config)
	if err != nil {
		return nil, err
	}
	server.QPS = config.QPS
	if config.QPS >= 0 { // one limit for the clients of all groups
		server.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(cmp.Or(config.QPS, rest.DefaultQPS), cmp.Or(config.Burst, rest.DefaultBurst))
	}
	server.UserAgent = config.UserAgent
	server.ContentType, server.AcceptContentTypes = config.ContentType, config.AcceptContentTypes
	if server.ContentType == "" {
		server.ContentType = protobuf
	}
	if server.AcceptContentTypes == "" {
		server.AcceptContentTypes = server.ContentType + ",application/json"
	}
	if config.MaxInflight > 0 {
		server.Wrap(limitInflight(config.MaxInflight))
	}
	scheme, err := newScheme(groups)
	if err != nil {
		return nil, err
	}
	server.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	client, err := rest.HTTPClientFor(server)
	if err != nil {
		return nil, fmt.Errorf("API server %s: %w; %s", server.Host, err, hint)
	}
	c := &clients{
		byGroup: make(map[schema.GroupVersion]rest.Interface), parameters: runtime.NewParameterCodec(scheme),
		metadataTypes: metadataOnly(server.AcceptContentTypes), host: server.Host, hint: hint,
	}
	for _, g := range groups {
		gv, group := g.version, rest.CopyConfig(server)
		group.GroupVersion, group.APIPath = &gv, "/apis"
		if gv.Group == "" {
			group.APIPath = "/api"
		}
		if c.byGroup[gv], err = rest.RESTClientForConfigAndClient(group, client); err != nil {
			return nil, fmt.Errorf("API server %s: %w; %s", server.Host, err, hint)
		}
	}
	return c, nil
}

// limitInflight lets n requests at a time wait for the head of their answer. A watch
// counts until it has been accepted only.
func limitInflight(n int) func(http.RoundTripper) http.RoundTripper {
	slots := make(chan struct{}, n)
	return func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
				return next.RoundTrip(r)
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		})
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// restConfig finds the server and tells where its address came from.
func restConfig(config *KubernetesConfig) (server *rest.Config, hint string, err error) {
	switch {
	case config.Kubeconfig != "":
		hint = "check --kubeconfig " + config.Kubeconfig
		if _, err := os.Stat(config.Kubeconfig); err != nil {
			return nil, "", fmt.Errorf("kubeconfig %s: %w", config.Kubeconfig, err)
		}
		server, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
			&clientcmd.ClientConfigLoadingRules{ExplicitPath: config.Kubeconfig},
			&clientcmd.ConfigOverrides{CurrentContext: config.Context, ClusterInfo: clientcmdapi.Cluster{Server: config.Master}},
		).ClientConfig()
		if err != nil {
			return nil, "", fmt.Errorf("kubeconfig %s: %w", config.Kubeconfig, err)
		}
	case config.Master != "":
		hint = "check the address of the API server in flags or configuration"
		server = &rest.Config{Host: config.Master, TLSClientConfig: rest.TLSClientConfig{
			CertFile: config.CertFile, KeyFile: config.KeyFile, CAFile: config.CAFile,
		}}
	default:
		hint = "check the Pod's service account and KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT, or set --kubeconfig"
		server, err = rest.InClusterConfig()
		if err != nil {
			return nil, "", fmt.Errorf("no API server: %w; outside a Pod set --kubeconfig FILE or --source manifests:PATH", err)
		}
	}
	return server, hint, nil
}

func (c *clients) list(ctx context.Context, k *kind, namespace string, options *metav1.ListOptions) (runtime.Object, error) {
	return c.byGroup[k.resource.GroupVersion()].Get().
		NamespaceIfScoped(namespace, k.namespaced).Resource(k.resource.Resource).
		VersionedParams(options, c.parameters).Do(ctx).Get()
}

// metadata is list with nothing but the metadata of each object.
func (c *clients) metadata(ctx context.Context, k *kind, namespace string, options *metav1.ListOptions) (runtime.Object, error) {
	return c.byGroup[k.resource.GroupVersion()].Get().SetHeader("Accept", c.metadataTypes).
		NamespaceIfScoped(namespace, k.namespaced).Resource(k.resource.Resource).
		VersionedParams(options, c.parameters).Do(ctx).Get()
}

func (c *clients) watch(ctx context.Context, k *kind, namespace string, options *metav1.ListOptions) (watch.Interface, error) {
	watched := *options
	watched.Watch = true
	return c.byGroup[k.resource.GroupVersion()].Get().
		NamespaceIfScoped(namespace, k.namespaced).Resource(k.resource.Resource).
		VersionedParams(&watched, c.parameters).Watch(ctx)
}

// explain makes an error one that names the server, the cause and what to look at, and
// that has the same text each time.
func (c *clients) explain(k *kind, err error) error {
	var refused apierrors.APIStatus
	if !errors.As(err, &refused) {
		return fmt.Errorf("API server %s: %w; %s; retrying", c.host, rootCause(err), c.hint)
	}
	switch {
	case k.optional && isMissing(err):
		return fmt.Errorf("API server %s: %w; going on without %s", c.host, err, k.resource.Resource)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("API server %s: %w; the ClusterRole needs list and watch for %s; retrying", c.host, err, k.resource.GroupResource())
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("API server %s: %w; %s: the credentials are not accepted; retrying", c.host, err, c.hint)
	}
	return fmt.Errorf("API server %s: %s: %w; retrying", c.host, k.resource.Resource, err)
}

// rootCause strips the request, its timing and local ports from a network error.
func rootCause(err error) error {
	var number syscall.Errno
	var dns *net.DNSError
	var unknownCA x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var request *url.Error
	switch {
	case errors.As(err, &number):
		return number
	case errors.As(err, &dns):
		return fmt.Errorf("look up %s: %s", dns.Name, strings.TrimSpace(dns.Err))
	case errors.As(err, &unknownCA):
		return unknownCA
	case errors.As(err, &hostname):
		return hostname
	case errors.As(err, &request):
		return request.Err
	}
	return err
}
