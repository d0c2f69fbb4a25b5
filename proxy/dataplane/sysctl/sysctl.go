// Package sysctl reads and writes kernel parameters of the calling thread's network
// namespace.
package sysctl

import (
	"fmt"
	"os"
	"path"
	"strings"
)

const root = "/proc/sys"

// Get reads a parameter such as "net/ipv4/ip_forward".
func Get(name string) (string, error) {
	content, err := os.ReadFile(path.Join(root, name))
	if err != nil {
		return "", fmt.Errorf("sysctl %s: %w", name, err)
	}
	return strings.TrimSpace(string(content)), nil
}

// Ensure writes a parameter unless it has the value already: /proc/sys is often
// mounted read-only in containers, which is no harm as long as the value is right.
func Ensure(name, value string) error {
	current, err := Get(name)
	if err != nil {
		return err
	}
	if current == value {
		return nil
	}
	if err := os.WriteFile(path.Join(root, name), []byte(value), 0o644); err != nil {
		return fmt.Errorf("sysctl %s: is %s and should be %s: %w", name, current, value, err)
	}
	return nil
}
