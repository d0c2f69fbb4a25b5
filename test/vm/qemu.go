package vm

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
)

// runInQEMU runs a completed spec in a machine.
func runInQEMU(ctx context.Context, spec Spec) (int, error) {
	img, err := ensureQEMU(ctx)
	if err != nil {
		return -1, err
	}
	for attempt := 1; ; attempt++ {
		status, err := boot(ctx, img, spec)
		if attempt == emulatorTries || !emulatorFault(img.accel, err) {
			return status, err
		}
		fmt.Fprintln(spec.Stderr, "vm: the emulator ran code that the kernel was patching; the command is run again in a new machine")
	}
}

// emulatorTries is how often a machine is started that dies of the emulator.
const emulatorTries = 5

// emulatorFault tells whether a machine died of a fault of QEMU, not of what ran in it: the kernel
// patches its own code by way of a breakpoint instruction (text_poke_bp, arch/x86/kernel/
// alternative.c), and with a thread for each processor the emulator can run that instruction after
// it is gone from the code.
func emulatorFault(on accel, err error) bool {
	return on != kvm && err != nil && strings.Contains(err.Error(), "Oops: int3:")
}

// boot starts the machine and reads its ports until it says how the command
// ended. The machine is then killed: nothing in it outlives the run.
func boot(ctx context.Context, img image, spec Spec) (int, error) {
	m := newMachine()
	initrd, added, err := writeInitrd(img, spec, m.mark)
	if err != nil {
		return -1, fmt.Errorf("initramfs: %w", err)
	}
	defer initrd.Close()
	if spec.MemoryMiB == 0 {
		// An archive is in memory twice while the kernel unpacks it, and the
		// root may fill half of the memory.
		spec.MemoryMiB = 2048 + 3*int(added>>20)
	}
	if err := m.open(initrd, spec); err != nil {
		return -1, err
	}
	cmd := exec.Command("qemu-system-x86_64", arguments(img, spec)...)
	cmd.ExtraFiles = m.inherited
	cmd.Stdout = &m.console
	cmd.Stderr = &m.console
	return m.run(ctx, cmd, spec, func(int) (func(), error) { return func() {}, nil })
}

// writeInitrd writes base and the run's own archive into one file, which has
// no name any more when this returns: QEMU gets it as a descriptor, and it is
// gone however the run ends. added is the size of the second part.
func writeInitrd(img image, spec Spec, mark string) (f *os.File, added int64, err error) {
	f, err = os.CreateTemp("", "mooring-vm-")
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := os.Remove(f.Name()); err != nil {
		return nil, 0, err
	}
	base, err := os.Open(img.base)
	if err != nil {
		return nil, 0, err
	}
	defer base.Close()
	if _, err := io.Copy(f, base); err != nil {
		return nil, 0, err
	}
	buffered := bufio.NewWriterSize(f, 1<<20)
	a := newArchive(buffered)
	a.file("/vm/description", 0o644, []byte(describe(spec)+"mark="+quote(mark)+"\n"))
	a.directory(spec.Dir)
	for guest := range spec.Collect {
		a.directory(path.Dir(guest))
	}
	for guest, host := range spec.Files {
		a.tree(guest, host)
	}
	if err := a.close(); err != nil {
		return nil, 0, err
	}
	return f, a.size, buffered.Flush()
}

// The descriptors QEMU inherits: the initramfs, then the write ends of the
// machine's ports in the order of /dev/vport0p1 and following.
const (
	initrdDescriptor = 3
	portDescriptor   = 4
	ports            = 4
)

// commandLine is the kernel's: its console is the serial line, it prints only
// errors there, and it ends QEMU by a reboot when it dies.
const commandLine = "console=ttyS0 quiet oops=panic panic=-1 " +
	"mitigations=off nokaslr random.trust_cpu=on tsc=reliable transparent_hugepage=never"

func arguments(img image, spec Spec) []string {
	kernelLine := commandLine
	if img.accel != kvm {
		// On a busy host the emulated timer may be too late for the kernel's test of it.
		kernelLine += " no_timer_check"
		if khz := tscKilohertz(); khz != 0 {
			kernelLine += fmt.Sprintf(" tsc_early_khz=%d", khz)
		}
	}
	args := []string{
		"-machine", "q35", "-bios", "qboot.rom",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-m", strconv.Itoa(spec.MemoryMiB), "-smp", strconv.Itoa(spec.CPUs),
		"-kernel", img.kernel, "-append", kernelLine,
		"-initrd", fmt.Sprintf("/proc/self/fd/%d", initrdDescriptor),
		"-serial", "stdio",
		"-device", "virtio-serial-pci,max_ports=" + strconv.Itoa(ports+1),
	}
	if img.accel == kvm {
		args = append(args, "-accel", "kvm", "-cpu", "host")
	} else {
		// Megabytes of translated code: many programs take more of it.
		buffer := 512
		if spec.Disk != "" {
			buffer = 1536
		}
		args = append(args, "-accel", fmt.Sprintf("tcg,thread=multi,tb-size=%d", buffer), "-cpu", "max,la57=off")
	}
	if spec.Disk != "" {
		args = append(args, "-drive", "if=virtio,format=raw,snapshot=on,file="+spec.Disk)
	}
	for i := range ports {
		args = append(args,
			"-add-fd", fmt.Sprintf("fd=%d,set=%d", portDescriptor+i, i+1),
			"-chardev", fmt.Sprintf("file,id=port%d,path=/dev/fdset/%d,append=on", i, i+1),
			"-device", fmt.Sprintf("virtserialport,chardev=port%d,nr=%d", i, i+1))
	}
	if spec.Network {
		args = append(args, "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=")
	}
	if spec.Tap != "" {
		card := "virtio-net-pci,netdev=tap,romfile="
		if spec.MAC != "" {
			card += ",mac=" + spec.MAC
		}
		args = append(args, "-netdev", "tap,id=tap,script=no,downscript=no,ifname="+spec.Tap, "-device", card)
	}
	return args
}
