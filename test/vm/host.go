package vm

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// runOnHost runs a completed spec on the running kernel, in namespaces of its
// own and below a root of bind mounts, so that nothing it mounts or names
// shows on the host. What it writes below existing directories is written
// there; only /run and the directories of Files are private.
func runOnHost(ctx context.Context, spec Spec) (int, error) {
	if err := ensureHost(ctx, spec.Network); err != nil {
		return -1, err
	}
	root, err := os.MkdirTemp("", "mooring-vm-")
	if err != nil {
		return -1, fmt.Errorf("root: %w", err)
	}
	// The mount on it goes away with the namespace.
	defer os.Remove(root)
	text, err := describeHost(spec, root)
	if err != nil {
		return -1, err
	}
	description, writer, err := os.Pipe()
	if err != nil {
		return -1, fmt.Errorf("description: %w", err)
	}
	defer writer.Close()
	m := newMachine()
	if err := m.open(description, spec); err != nil {
		description.Close()
		return -1, err
	}
	defer description.Close()
	cmd := inNamespaces(exec.Command("/bin/bash", "-c", string(guestFile("launch.sh"))+string(guestFile("host.sh"))))
	cmd.ExtraFiles = []*os.File{description, nil, m.inherited[1], m.inherited[2], m.inherited[3], m.inherited[4]}
	cmd.Stdout = &m.console
	cmd.Stderr = &m.console
	return m.run(ctx, cmd, spec, func(pid int) (func(), error) {
		detach := func() {}
		if spec.Network {
			detach, err = attachNetwork(pid)
			if err != nil {
				return nil, err
			}
		}
		_, err := io.WriteString(writer, text)
		writer.Close()
		return detach, err
	})
}

// describeHost is describe and what host.sh needs besides.
func describeHost(spec Spec, root string) (string, error) {
	guests := slices.Sorted(maps.Keys(spec.Files))
	hosts := make([]string, len(guests))
	for i, guest := range guests {
		host, err := filepath.Abs(spec.Files[guest])
		if err == nil {
			host, err = filepath.EvalSymlinks(host)
		}
		if err != nil {
			return "", err
		}
		hosts[i] = host
	}
	return describe(spec) + fmt.Sprintf("root=%s\nguests=(%s)\nhosts=(%s)\n",
		quote(root), quoteAll(guests), quoteAll(hosts)), nil
}

// attachNetwork gives the process's network namespace an eth0 from which
// 10.0.2.2 is the host's loopback: the same user-mode network as QEMU's.
func attachNetwork(pid int) (detach func(), err error) {
	ready, announce, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	defer ready.Close()
	var said strings.Builder
	cmd := exec.Command(networkProgram, "--netns-type=path", "--ready-fd=3", fmt.Sprintf("/proc/%d/ns/net", pid), "eth0")
	cmd.ExtraFiles = []*os.File{announce}
	cmd.Stdout = &said
	cmd.Stderr = &said
	stop, ended, started := make(chan struct{}), make(chan error, 1), make(chan error, 1)
	go supervise(cmd, started, stop, ended)
	err = <-started
	announce.Close()
	if err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	detach = func() {
		close(stop)
		<-ended //nolint:errcheck // it was killed
	}
	if _, err := io.ReadFull(ready, make([]byte, 1)); err != nil {
		detach()
		return nil, fmt.Errorf("network: slirp4netns: %w\n%s", err, said.String())
	}
	return detach, nil
}
