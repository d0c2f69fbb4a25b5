package vm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// tools are the Debian packages whose programs go into the machine.
var tools = []string{
	"busybox", "conntrack", "curl", "ipset", "iproute2", "iptables", "ipvsadm",
	"kmod", "nftables", "tcpdump",
}

// machinePackages are what QEMU and the making of its image need.
var machinePackages = append([]string{"qemu-system-x86", "xz-utils", "zstd"}, tools...)

// hostPrograms are programs that commands on the host's kernel expect, with
// the packages they are in. Any system that has them will do.
var hostPrograms = map[string]string{
	"busybox": "busybox", "conntrack": "conntrack", "curl": "curl", "ip": "iproute2", "ipset": "ipset",
	"iptables": "iptables", "ipvsadm": "ipvsadm", "modprobe": "kmod", "nft": "nftables", "tcpdump": "tcpdump",
}

// networkProgram connects a namespace on the host; it is in a package of its
// own name.
const networkProgram = "slirp4netns"

// hostPackages names the packages of the programs that are missing.
func hostPackages(network bool) []string {
	missing := map[string]bool{}
	for program, name := range hostPrograms {
		if _, err := exec.LookPath(program); err != nil {
			missing[name] = true
		}
	}
	if _, err := exec.LookPath(networkProgram); err != nil && network {
		missing[networkProgram] = true
	}
	return slices.Sorted(maps.Keys(missing))
}

// kernelPackage is the meta package whose dependency is the image to boot.
const kernelPackage = "linux-image-6.12-cloud-amd64"

// installPackages installs what is missing, as root; otherwise its error holds
// the line to run.
func installPackages(ctx context.Context, wanted []string) error {
	if _, err := exec.LookPath("dpkg-query"); err != nil {
		return fmt.Errorf("needs these Debian packages or their like: %s; there is no package manager we know here: %w",
			strings.Join(wanted, " "), err)
	}
	missing := missingPackages(ctx, wanted)
	if len(missing) == 0 {
		return nil
	}
	install := append([]string{"install", "--no-install-recommends", "-y"}, missing...)
	if os.Geteuid() != 0 {
		return fmt.Errorf("missing packages; run: sudo apt-get update && sudo apt-get %s", strings.Join(install, " "))
	}
	return withLists(ctx, func() error { return command(ctx, "", "apt-get", install...) })
}

// withLists tries once more with fresh package lists, which are missing on a
// new machine and name packages that no longer exist on an old one.
func withLists(ctx context.Context, try func() error) error {
	first := try()
	if first == nil || ctx.Err() != nil {
		return first
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w; if the package lists are missing or old, run: sudo apt-get update", first)
	}
	if err := command(ctx, "", "apt-get", "update"); err != nil {
		return errors.Join(first, err)
	}
	return try()
}

func missingPackages(ctx context.Context, wanted []string) []string {
	installed := installedVersions(ctx, wanted)
	var missing []string
	for _, name := range wanted {
		if installed[name] == "" {
			missing = append(missing, name)
		}
	}
	return missing
}

// installedVersions maps each installed package of the list to its version.
func installedVersions(ctx context.Context, names []string) map[string]string {
	args := append([]string{"-W", "-f", "${binary:Package} ${db:Status-Status} ${Version}\n"}, names...)
	// The exit status is 1 as soon as one name is unknown; the rest is printed.
	out, _ := exec.CommandContext(ctx, "dpkg-query", args...).Output()
	versions := map[string]string{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[1] == "installed" {
			name, _, _ := strings.Cut(fields[0], ":")
			versions[name] = fields[2]
		}
	}
	return versions
}

// kernelImagePackage asks apt which image the meta package stands for.
func kernelImagePackage(ctx context.Context) (string, error) {
	var name string
	err := withLists(ctx, func() error {
		out, err := output(ctx, "apt-cache", "depends", kernelPackage)
		if err != nil {
			return err
		}
		name, err = imageDependency(out)
		return err
	})
	return name, err
}

var dependsLine = regexp.MustCompile(`(?m)^\s+Depends: (linux-image-\S+)$`)

func imageDependency(depends string) (string, error) {
	found := dependsLine.FindStringSubmatch(depends)
	if found == nil {
		return "", fmt.Errorf("package %s: no linux-image among its dependencies", kernelPackage)
	}
	return found[1], nil
}

// command runs a program in dir and puts what it printed into the error.
func command(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, lastLines(string(out), 10))
	}
	return nil
}

// output runs a program and returns what it printed.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return string(out), nil
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
