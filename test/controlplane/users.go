package controlplane

import (
	"crypto/rand"
	"encoding/csv"
	"fmt"
	"os"
	"slices"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Admin is the name of the user whom every control plane has and who may do
// everything.
const Admin = "admin"

// A User may log in with a bearer token. What the user may do is up to RBAC:
// the groups system:masters (everything), system:nodes or none and bindings
// that the test creates.
type User struct {
	Name   string
	Groups []string
	Token  string // generated when empty
}

// completeUsers puts the administrator first and fills in missing tokens.
func completeUsers(extra []User) ([]User, error) {
	users := []User{{Name: Admin, Groups: []string{"system:masters"}}}
	for _, u := range extra {
		if u.Name == "" {
			return nil, fmt.Errorf("user: name is empty")
		}
		if slices.ContainsFunc(users, func(other User) bool { return other.Name == u.Name }) {
			return nil, fmt.Errorf("user %s: named twice (%s exists always)", u.Name, Admin)
		}
		users = append(users, u)
	}
	for i := range users {
		if users[i].Token == "" {
			users[i].Token = rand.Text()
		}
	}
	return users, nil
}

// writeTokens writes the file for --token-auth-file: token, user, uid, groups.
func writeTokens(path string, users []User) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	w := csv.NewWriter(f)
	for _, u := range users {
		if err := w.Write([]string{u.Token, u.Name, u.Name, strings.Join(u.Groups, ",")}); err != nil {
			return fmt.Errorf("token file: %w", err)
		}
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return fmt.Errorf("token file: %w", err)
	}
	return f.Close()
}

// User returns the named user with the token, Admin included.
func (c *ControlPlane) User(name string) (User, error) {
	for _, u := range c.users {
		if u.Name == name {
			return u, nil
		}
	}
	return User{}, fmt.Errorf("user %s: unknown to this control plane, name it in Options.Users", name)
}

// WriteKubeconfig writes a kubeconfig for the named user to path, with the
// certificate authority inside, so that the file alone is enough in another
// machine. The server is a URL as that machine reaches it, for example
// https://10.0.2.2:26443; empty stands for URL. The host in it must be among
// the names in the serving certificate: see Options.ExtraSANs.
func (c *ControlPlane) WriteKubeconfig(path, server, user string) error {
	u, err := c.User(user)
	if err != nil {
		return fmt.Errorf("kubeconfig: %w", err)
	}
	if server == "" {
		server = c.URL()
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["mooring"] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: c.ca.pem}
	config.AuthInfos[u.Name] = &clientcmdapi.AuthInfo{Token: u.Token}
	config.Contexts["mooring"] = &clientcmdapi.Context{Cluster: "mooring", AuthInfo: u.Name}
	config.CurrentContext = "mooring"
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return nil
}
