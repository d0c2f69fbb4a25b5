package vm

import (
	"bufio"
	"context"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

//go:embed guest/init guest/launch.sh guest/host.sh guest/fstab
var guestFiles embed.FS

// guestFile is the text of one of the files in guest/.
func guestFile(name string) []byte {
	// The name is a constant of this package and the file is embedded.
	text, _ := guestFiles.ReadFile("guest/" + name)
	return text
}

// recipeVersion changes when the code below puts other things into the image.
const recipeVersion = 1

// recipe is everything of this package that the base image depends on.
func recipe() string {
	return fmt.Sprint(recipeVersion, kernelPackage, programs, links, dataFiles, smallFiles, modules,
		string(guestFile("init")), string(guestFile("launch.sh")), string(guestFile("fstab")))
}

// programs are the host's programs that the machine has, with their libraries.
var programs = []string{
	"/bin/bash", "/bin/busybox", "/bin/ip", "/bin/kmod", "/bin/ss", "/sbin/bridge", "/sbin/ipvsadm", "/sbin/tc",
	"/usr/bin/curl", "/usr/bin/tcpdump", "/usr/sbin/conntrack", "/usr/sbin/ipset", "/usr/sbin/nft",
	"/usr/sbin/xtables-legacy-multi", "/usr/sbin/xtables-nft-multi",
}

// links are the other names of those programs. Everything busybox can do has
// a link too unless the name is taken.
var links = []struct{ target, names string }{
	{"bash", "/usr/bin/sh"},
	{"../bin/ip", "/usr/sbin/ip"},
	{"../bin/kmod", "/usr/sbin/modprobe /usr/sbin/insmod /usr/sbin/rmmod /usr/sbin/lsmod /usr/sbin/depmod /usr/sbin/modinfo"},
	{"xtables-nft-multi", "/usr/sbin/iptables /usr/sbin/iptables-save /usr/sbin/iptables-restore " +
		"/usr/sbin/ip6tables /usr/sbin/ip6tables-save /usr/sbin/ip6tables-restore " +
		"/usr/sbin/iptables-nft /usr/sbin/iptables-nft-save /usr/sbin/iptables-nft-restore " +
		"/usr/sbin/ip6tables-nft /usr/sbin/ip6tables-nft-save /usr/sbin/ip6tables-nft-restore"},
	{"xtables-legacy-multi", "/usr/sbin/iptables-legacy /usr/sbin/iptables-legacy-save /usr/sbin/iptables-legacy-restore " +
		"/usr/sbin/ip6tables-legacy /usr/sbin/ip6tables-legacy-save /usr/sbin/ip6tables-legacy-restore"},
	{"usr/bin", "/bin"},
	{"usr/sbin", "/sbin"},
	{"usr/lib", "/lib"},
	{"usr/lib64", "/lib64"},
}

// dataFiles are patterns of the host's files that programs load by name:
// the C library's name services, iptables' matches and targets.
var dataFiles = []string{
	"/usr/lib/x86_64-linux-gnu/libnss_dns.so.2",
	"/usr/lib/x86_64-linux-gnu/libnss_files.so.2",
	"/usr/lib/x86_64-linux-gnu/xtables/*.so",
}

// smallFiles are the configuration of the machine.
var smallFiles = map[string]string{
	"/etc/passwd":        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
	"/etc/group":         "root:x:0:\nnogroup:x:65534:\n",
	"/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
	"/etc/hosts":         "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 mooring\n",
	"/etc/resolv.conf":   "",
	// Loading a module makes no device that nobody asked for.
	"/etc/modprobe.d/devices.conf": "options dummy numdummies=0\noptions ifb numifbs=0\n",
	"/etc/protocols":               "ip 0 IP\nicmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nipv6-icmp 58 IPv6-ICMP\nsctp 132 SCTP\n",
}

// emptyDirectories exist in the machine for mounts and temporary files.
var emptyDirectories = []string{"/dev", "/proc", "/sys", "/run/netns", "/tmp", "/root", "/mnt", "/var/tmp", "/var/lib", "/var/log"}

// buildImage makes the folder <key>-<kernel release> in the cache, under
// another name until it is whole.
func buildImage(ctx context.Context, cache, key string) (string, error) {
	work, err := os.MkdirTemp(cache, "building-")
	if err != nil {
		return "", fmt.Errorf("image: %w", err)
	}
	defer os.RemoveAll(work)
	kernel, err := fetchKernel(ctx, filepath.Join(work, "kernel"))
	if err != nil {
		return "", fmt.Errorf("kernel: %w", err)
	}
	result := filepath.Join(work, "image")
	if err := os.Mkdir(result, 0o755); err != nil {
		return "", fmt.Errorf("image: %w", err)
	}
	if err := kernel.extract(ctx, filepath.Join(result, "vmlinux")); err != nil {
		return "", fmt.Errorf("kernel: %w", err)
	}
	if err := writeBase(ctx, filepath.Join(result, "base.cpio"), kernel); err != nil {
		return "", fmt.Errorf("image: %w", err)
	}
	final := filepath.Join(cache, key+"-"+kernel.release)
	if err := os.Rename(result, final); err != nil {
		return "", fmt.Errorf("image: %w", err)
	}
	return final, nil
}

// writeBase writes the base initramfs.
func writeBase(ctx context.Context, file string, kernel *kernelFiles) error {
	moduleTree, err := kernel.selectModules(ctx, modules)
	if err != nil {
		return fmt.Errorf("modules: %w", err)
	}
	applets, err := output(ctx, "busybox", "--list")
	if err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	buffered := bufio.NewWriterSize(f, 1<<20)
	a := newArchive(buffered)
	addPrograms(a)
	addConfiguration(a)
	for applet := range strings.FieldsSeq(applets) {
		if !a.seen["usr/sbin/"+applet] && applet != "busybox" {
			a.symlink("/usr/bin/"+applet, "busybox")
		}
	}
	a.tree("/usr/lib/modules", moduleTree)
	if err := a.close(); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	return f.Close()
}

func addPrograms(a *archive) {
	for _, link := range links {
		for name := range strings.FieldsSeq(link.names) {
			a.symlink(name, link.target)
		}
	}
	addELF(a, programs...)
	for _, pattern := range dataFiles {
		found, err := filepath.Glob(pattern)
		a.fail(err)
		addELF(a, found...)
	}
	a.tree("/etc/iproute2", "/etc/iproute2")
}

func addConfiguration(a *archive) {
	for _, name := range emptyDirectories {
		a.directory(name)
	}
	for name, content := range smallFiles {
		a.file(name, 0o644, []byte(content))
	}
	a.file("/etc/fstab", 0o644, guestFile("fstab"))
	a.file("/init", 0o755, guestFile("init"))
	a.file("/vm/launch.sh", 0o644, guestFile("launch.sh"))
	// The kernel opens it before anything is mounted.
	a.device("/dev/console", 5, 1)
}
