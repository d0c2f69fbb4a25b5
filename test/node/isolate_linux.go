package node

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// insideVariable names the prepared directory to the process in the namespace.
const insideVariable = "MOORING_NODE_DIRECTORY"

// isolate runs this program again, with the same arguments, in a network namespace of its own, and
// returns its exit status.
func isolate(directory string) (status int, err error) {
	// The death signal is tied to the thread that starts the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	command := exec.Command("/proc/self/exe", os.Args[1:]...)
	command.Args[0] = os.Args[0]
	command.Env = append(os.Environ(), insideVariable+"="+directory)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err = command.Run()
	if command.ProcessState == nil {
		return -1, fmt.Errorf("node: a network namespace (are you root?): %w", err)
	}
	return command.ProcessState.ExitCode(), nil
}

// A site is one node: its name, its address on the bridge, and the range of its pods.
type site struct {
	name, address, pods string
	tap, mac            string
}

// gateway is this process's address on the bridge: the control plane's, and that of the clients
// outside the cluster.
const gateway = "172.30.0.1"

// siteOf gives the place of a node, counted from 1.
func siteOf(number int) site {
	return site{
		name: fmt.Sprintf("node-%d", number), address: fmt.Sprintf("172.30.0.%d", 10+number), pods: fmt.Sprintf("10.244.%d.0/24", number),
		tap: fmt.Sprintf("tap%d", number), mac: fmt.Sprintf("52:54:00:12:34:%02x", number),
	}
}

// connect makes the bridge, and a tap and a route to the pods of each node.
func connect(sites []site) error {
	lines := []string{"link set lo up", "link add bridge type bridge", "address add " + gateway + "/24 dev bridge", "link set bridge up"}
	for _, s := range sites {
		lines = append(lines, "tuntap add "+s.tap+" mode tap", "link set "+s.tap+" master bridge up", "route add "+s.pods+" via "+s.address)
	}
	for _, line := range lines {
		if output, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			return fmt.Errorf("node: ip %s: %w\n%s", line, err, output)
		}
	}
	return nil
}

// disconnect undoes connect.
func disconnect(sites []site) {
	for _, s := range sites {
		_ = exec.Command("ip", "link", "delete", s.tap).Run() // the namespace ends with the process
	}
	_ = exec.Command("ip", "link", "delete", "bridge").Run()
}
