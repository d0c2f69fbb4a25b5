package controlplane

import "syscall"

// childAttr makes the kernel kill the child when the thread that started it
// ends, which runProcess ties to the child's own life, so that no server
// outlives a test that was killed. The child gets a process group of its own:
// an interrupt typed at a terminal reaches us only, and we stop in order.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
