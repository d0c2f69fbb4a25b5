package vm

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// Kernel names the kernel that commands run on.
type Kernel string

// The kernels to choose from.
const (
	Host Kernel = "host" // namespaces on the running kernel
	QEMU Kernel = "qemu" // a machine of its own
)

// Choose says on which kernel commands run and why: the host's when it has
// IPVS and lets us make namespaces, otherwise QEMU. MOORING_KERNEL=host|qemu in
// the environment overrides it; any other value is an error.
func Choose() (kernel Kernel, why string, err error) {
	switch override := os.Getenv("MOORING_KERNEL"); Kernel(override) {
	case Host, QEMU:
		return Kernel(override), "MOORING_KERNEL says so", nil
	case "":
	default:
		return "", "", fmt.Errorf("MOORING_KERNEL=%q: want host or qemu", override)
	}
	if os.Geteuid() != 0 {
		return QEMU, "not root on the host", nil
	}
	if !hostHasIPVS() {
		return QEMU, "the running kernel has no IPVS", nil
	}
	if err := inNamespaces(exec.Command("true")).Run(); err != nil {
		return QEMU, fmt.Sprintf("no namespaces on the host: %v", err), nil
	}
	return Host, "root on a kernel with IPVS", nil
}

// hostHasIPVS loads the module when it can: /proc/net/ip_vs exists only then.
func hostHasIPVS() bool {
	if _, err := os.Stat("/proc/net/ip_vs"); err == nil {
		return true
	}
	return exec.Command("modprobe", "ip_vs").Run() == nil
}

// inNamespaces makes the command start in new network, mount and process
// namespaces. Its death ends everything that it started.
func inNamespaces(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Setpgid:    true,
		Pdeathsig:  syscall.SIGKILL,
	}
	return cmd
}
