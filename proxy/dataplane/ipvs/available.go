package ipvs

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

// ErrUnavailable says that the kernel has no IPVS and could not be made to have it.
var ErrUnavailable = errors.New("the kernel has no IPVS: run `modprobe ip_vs` on the node, or mount the node's " +
	"/lib/modules read-only into the container and let it have CAP_SYS_MODULE, or boot a kernel built with CONFIG_IP_VS")

// familyName is that of generic netlink.
const familyName = "IPVS"

// Available makes sure that the kernel answers for IPVS, loading the module ip_vs if
// it does not. Schedulers are loaded by the kernel itself when first asked for.
func Available(ctx context.Context) error {
	if registered() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	output, err := exec.CommandContext(ctx, "modprobe", "ip_vs").CombinedOutput()
	if registered() {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w (modprobe ip_vs: %w: %s)", ErrUnavailable, err, strings.TrimSpace(string(output)))
	}
	return ErrUnavailable
}

func registered() bool {
	_, err := netlink.GenlFamilyGet(familyName)
	return err == nil
}
