package dataplane

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// The oldest kernel whose nftables can do what the rules need.
const oldestMajor, oldestMinor = 5, 10

// checkRelease refuses kernels that would refuse our rules with a bare error number.
func checkRelease() error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	return checkVersion(unix.ByteSliceToString(name.Release[:]))
}

func checkVersion(release string) error {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return nil // not a number: let the kernel speak for itself
	}
	if major < oldestMajor || major == oldestMajor && minor < oldestMinor {
		return fmt.Errorf("%w: this is %s", ErrKernelTooOld, release)
	}
	return nil
}
