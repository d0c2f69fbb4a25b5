package vm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// Ensure makes everything ready that Run needs on the kernel Choose names: it
// installs the missing Debian packages, for QEMU fetches the kernel and builds
// the base image in os.UserCacheDir()/mooring/vm, and finds out whether KVM
// works. What is ready already costs some milliseconds. When packages are
// missing and we are not root, the error holds the line to run. Processes that
// call it at the same time wait for each other.
func Ensure(ctx context.Context) error {
	kernel, _, err := Choose()
	if err != nil {
		return fmt.Errorf("vm: %w", err)
	}
	if kernel == Host {
		err = ensureHost(ctx, true)
	} else {
		_, err = ensureQEMU(ctx)
	}
	if err != nil {
		return fmt.Errorf("vm: %w", err)
	}
	return nil
}

// Base makes everything ready for QEMU and returns the path of the base
// initramfs, a cpio archive: a small root with this package's tools, their
// libraries and the kernel's modules.
func Base(ctx context.Context) (string, error) {
	img, err := ensureQEMU(ctx)
	if err != nil {
		return "", fmt.Errorf("vm: %w", err)
	}
	return img.base, nil
}

// Install installs the Debian packages that are missing; when we are not root,
// the error holds the line to run.
func Install(ctx context.Context, packages ...string) error {
	err := locked(ctx, func(string) error { return installPackages(ctx, packages) })
	if err != nil {
		return fmt.Errorf("vm: %w", err)
	}
	return nil
}

func ensureHost(ctx context.Context, network bool) error {
	if len(hostPackages(network)) == 0 {
		return nil
	}
	return locked(ctx, func(string) error { return installPackages(ctx, hostPackages(network)) })
}

// image is what a machine boots.
type image struct {
	kernel  string // host path of the kernel
	base    string // host path of the base initramfs
	release string // the kernel's release, as uname -r prints it
	accel   accel
}

// unusedFor is how long an image of another recipe stays in the cache.
const unusedFor = 7 * 24 * time.Hour

// ensureQEMU returns the image, which it builds when the cache has none of
// this recipe.
func ensureQEMU(ctx context.Context) (image, error) {
	if runtime.GOARCH != "amd64" {
		return image{}, fmt.Errorf("the machine exists for amd64 only, this is %s", runtime.GOARCH)
	}
	var img image
	err := locked(ctx, func(cache string) error {
		if err := installPackages(ctx, machinePackages); err != nil {
			return err
		}
		key := recipeKey(installedVersions(ctx, machinePackages))
		dir, err := cachedImage(cache, key)
		if err != nil {
			dir, err = buildImage(ctx, cache, key)
		}
		if err != nil {
			return err
		}
		removeUnused(cache, dir)
		img = openImage(dir, key)
		img.accel, err = probeAccel(ctx, cache, img)
		return err
	})
	return img, err
}

func openImage(dir, key string) image {
	return image{
		kernel:  filepath.Join(dir, "vmlinux"),
		base:    filepath.Join(dir, "base.cpio"),
		release: filepath.Base(dir)[len(key)+1:],
	}
}

// recipeKey names an image by what went into it: this package's recipe and
// the versions of the packages.
func recipeKey(versions map[string]string) string {
	sum := sha256.New()
	fmt.Fprintln(sum, recipe())
	for _, name := range slices.Sorted(maps.Keys(versions)) {
		fmt.Fprintln(sum, name, versions[name])
	}
	return hex.EncodeToString(sum.Sum(nil))[:12]
}

// cachedImage finds the folder <key>-<kernel release>.
func cachedImage(cache, key string) (string, error) {
	found, err := filepath.Glob(filepath.Join(cache, key+"-*"))
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", os.ErrNotExist
	}
	now := time.Now()
	// The time tells removeUnused; an image that cannot be touched still boots.
	_ = os.Chtimes(found[0], now, now)
	return found[0], nil
}

// removeUnused deletes images and half-built ones that nothing has used for
// long.
func removeUnused(cache, current string) {
	entries, _ := os.ReadDir(cache)
	for _, entry := range entries {
		info, err := entry.Info()
		dir := filepath.Join(cache, entry.Name())
		if err == nil && entry.IsDir() && dir != current && time.Since(info.ModTime()) > unusedFor {
			os.RemoveAll(dir)
		}
	}
}

// locked calls do with the cache directory while no other process is in here.
func locked(ctx context.Context, do func(cache string) error) error {
	base, err := os.UserCacheDir()
	if err != nil {
		return fmt.Errorf("cache directory: %w", err)
	}
	cache := filepath.Join(base, "mooring", "vm")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return fmt.Errorf("cache directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("cache directory: %w", err)
	}
	defer f.Close()
	if err := waitForLock(ctx, f); err != nil {
		return err
	}
	return do(cache)
}

// waitForLock polls, because flock cannot be interrupted by a context. The
// lock goes away with the file, or with the process.
func waitForLock(ctx context.Context, f *os.File) error {
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("lock %s: %w", f.Name(), context.Cause(ctx))
		case <-poll.C:
		}
	}
}
