package vm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// accel is how QEMU runs the machine's processors.
type accel string

const (
	kvm accel = "kvm" // on the host's, by hardware
	tcg accel = "tcg" // emulated
)

// probeDeadline is ample for a machine under a KVM that works, which boots in
// about a second.
const probeDeadline = 8 * time.Second

// probeAccel finds out whether KVM works by booting a machine with it: a
// /dev/kvm that opens can still be of no use inside another virtual machine.
// The verdict holds until the host boots again.
func probeAccel(ctx context.Context, cache string, img image) (accel, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return tcg, nil
	}
	file := filepath.Join(cache, "accel")
	verdict, _ := os.ReadFile(file)
	fields := strings.Fields(string(verdict))
	if len(fields) == 2 && fields[0] == strings.TrimSpace(string(boot)) {
		return accel(fields[1]), nil
	}
	works := tcg
	if bootsWithKVM(ctx, img) {
		works = kvm
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	line := fmt.Sprintf("%s %s\n", strings.TrimSpace(string(boot)), works)
	return works, os.WriteFile(file, []byte(line), 0o644)
}

func bootsWithKVM(ctx context.Context, img image) bool {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	f.Close()
	spec := Spec{Argv: []string{"true"}, Timeout: probeDeadline, MemoryMiB: 1024}
	if spec.complete() != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, probeDeadline)
	defer cancel()
	img.accel = kvm
	status, err := boot(ctx, img, spec)
	return err == nil && status == 0
}
