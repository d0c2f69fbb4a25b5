// Command controlplane builds and runs the Kubernetes control plane of the
// tests by hand:
//
//	controlplane build [program...]
//	controlplane up [flags]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/mooring-project/mooring/test/controlplane"
)

const usage = `usage:
  controlplane build [program...]   build programs, print their directory
  controlplane up [flags]           run until interrupted, print how to reach it
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "controlplane:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	command := ""
	if len(args) > 0 {
		command = args[0]
	}
	switch command {
	case "build":
		return build(ctx, args[1:], stdout, stderr)
	case "up":
		return up(ctx, args[1:], stdout, stderr)
	default:
		fmt.Fprint(stderr, usage)
		return fmt.Errorf("command %q: want build or up", command)
	}
}

func build(ctx context.Context, programs []string, stdout, stderr io.Writer) error {
	dir, err := controlplane.Build(ctx, stderr, programs...)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, dir)
	return nil
}

func up(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	options, err := upOptions(args, stderr)
	if err != nil {
		return err
	}
	c, err := controlplane.Start(ctx, options)
	if err != nil {
		return err
	}
	defer c.Stop()
	fmt.Fprintf(stdout, "url         %s\nkubeconfig  %s\nlogs        %s\nprograms    %s\n",
		c.URL(), c.Kubeconfig(), c.LogDir(), c.BinDir())
	<-ctx.Done()
	return nil
}

func upOptions(args []string, stderr io.Writer) (controlplane.Options, error) {
	o := controlplane.Options{Log: stderr}
	fs := flag.NewFlagSet("controlplane up", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.Dir, "dir", "", "directory for keys, data and logs, kept at the end (default a temporary one)")
	fs.StringVar(&o.ServiceCIDR, "service-cidr", controlplane.ServiceCIDR, "service address range, or two separated by a comma")
	fs.BoolVar(&o.RealNodes, "real-nodes", false, "run for real kubelets: service account admission, Node authorizer, node controllers")
	fs.BoolVar(&o.Scheduler, "scheduler", false, "run kube-scheduler")
	fs.BoolVar(&o.NoControllerManager, "no-controller-manager", false, "leave kube-controller-manager out")
	fs.TextVar(&o.BindAddress, "bind-address", netip.AddrFrom4([4]byte{127, 0, 0, 1}), "address that the API server listens on")
	fs.TextVar(&o.AdvertiseAddress, "advertise-address", netip.Addr{}, "address in the endpoint of default/kubernetes")
	port := fs.Uint("port", 0, "port of the API server (default a free one)")
	fs.Func("san", "another name or address for the serving certificate (repeatable)", func(s string) error {
		o.ExtraSANs = append(o.ExtraSANs, s)
		return nil
	})
	fs.Func("user", "another user as name:token[:group,group] (repeatable)", func(s string) error {
		u, err := parseUser(s)
		o.Users = append(o.Users, u)
		return err
	})
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("up: unexpected argument %q", fs.Arg(0))
	}
	if *port > 65535 {
		return o, fmt.Errorf("up: port %d: larger than 65535", *port)
	}
	o.SecurePort = uint16(*port)
	return o, nil
}

func parseUser(text string) (controlplane.User, error) {
	parts := strings.SplitN(text, ":", 3)
	if len(parts) < 2 || parts[0] == "" || parts[1] == "" {
		return controlplane.User{}, fmt.Errorf("%q: want name:token or name:token:group,group", text)
	}
	u := controlplane.User{Name: parts[0], Token: parts[1]}
	if len(parts) == 3 {
		u.Groups = strings.Split(parts[2], ",")
	}
	return u, nil
}
