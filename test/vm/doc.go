// Package vm runs a command on a kernel that has IPVS.
//
// Mooring's proxy programs the kernel, so its tests need one that has the IP
// virtual server, nftables, connection tracking and network namespaces, and
// root on it. Where the running kernel has them and we are root, the command
// runs in namespaces of its own on the host. Anywhere else it runs in a small
// QEMU machine: Debian's cloud kernel, started directly, with its root in an
// initramfs. The initramfs is a cached base (tools, libraries, kernel modules)
// followed by a short archive that holds what one run needs.
//
// The command's standard output and error, its exit status and the files it
// leaves behind each travel on a virtio port of their own; the serial console
// carries nothing but what the kernel has to say, and is shown when it dies.
package vm
