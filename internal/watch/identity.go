package watch

import (
	"crypto/sha256"
	"fmt"
	"time"

	"k8s.io/client-go/rest"
)

// Cluster names the cluster that a configuration leads to, as far as that can be told without
// asking it: the API server's address, which is the same for the Pods of many clusters, and a
// fingerprint of the certificate authority, which is not. It contacts nobody.
func (c KubernetesConfig) Cluster() (string, error) {
	server, _, err := restConfig(&c)
	if err != nil {
		return "", err
	}
	if err := rest.LoadTLSFiles(server); err != nil {
		return "", fmt.Errorf("API server %s: %w", server.Host, err)
	}
	authority := sha256.Sum256(server.CAData)
	return fmt.Sprintf("%s, certificate authority %x", server.Host, authority[:8]), nil
}

// Extent says in words that stay the same which objects a configuration asks for.
func (c KubernetesConfig) Extent() string { return fmt.Sprintf("%+v, %+v", c.Selection, c.Want) }

// Current gives the time at which a source was heard of for each of its kinds: everything it has
// brought was current then. Kinds that never were heard of do not count, as those that a server
// lacks.
func Current(kinds []KindStatus) (current time.Time) {
	for _, kind := range kinds {
		if !kind.Contact.IsZero() && (current.IsZero() || kind.Contact.Before(current)) {
			current = kind.Contact
		}
	}
	return current
}
