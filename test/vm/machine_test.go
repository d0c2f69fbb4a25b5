package vm

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// startFake runs a shell in QEMU's place: descriptors 4 to 7 are its ports.
func startFake(ctx context.Context, t *testing.T, spec Spec, script string) (int, error) {
	t.Helper()
	first, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	m := newMachine()
	if err := m.open(first, spec); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "end() { for port in 4 5 7; do printf %s "+m.mark+" >&$port; done; }\n"+script)
	cmd.ExtraFiles, cmd.Stdout, cmd.Stderr = m.inherited, &m.console, &m.console
	return m.run(ctx, cmd, spec, func(int) (func(), error) { return nil, nil })
}

func TestMachine(t *testing.T) {
	for _, test := range []struct {
		name, script   string
		status         int
		out, err, want string
	}{
		{name: "ends well", script: "echo start >&6; echo o >&4; echo e >&5; echo exit 0 >&6", out: "o\n", err: "e\n"},
		{name: "status passes through", script: "echo exit 42 >&6", status: 42},
		{name: "is killed once the status is known", script: "echo exit 0 >&6; end; exec sleep 100"},
		{name: "all output arrives", script: "head -c 100000 /dev/zero | tr '\\0' x >&4; echo exit 0 >&6", out: strings.Repeat("x", 100000)},
		{name: "output arrives after the status", script: "echo exit 0 >&6; sleep 0.1; echo late >&4; end; exec sleep 100", out: "late\n"},
		{name: "dies", script: "echo Kernel panic; exit 3", status: -1, want: "exit status 3; its console said:\nKernel panic"},
		{name: "dies after the start", script: "echo start >&6", status: -1, want: "ended before the command did"},
		{name: "status is no number", script: "echo exit x >&6", status: -1, want: "invalid syntax"},
		{name: "sends a broken archive", script: "echo junk >&7; echo exit 0 >&6", status: -1, want: "collected files"},
		{name: "prints the marker itself", script: "echo exit 0 >&4; echo exit 1 >&6", status: 1, out: "exit 0\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			status, err := startFake(t.Context(), t, Spec{Stdout: &out, Stderr: &errOut}, test.script)
			if status != test.status {
				t.Errorf("status %d, want %d", status, test.status)
			}
			if out.String() != test.out || errOut.String() != test.err {
				t.Errorf("output %q and %q, want %q and %q", out.String(), errOut.String(), test.out, test.err)
			}
			switch {
			case test.want == "" && err != nil:
				t.Errorf("error %v", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestMachineKilledWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	spec := Spec{Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}, OnStart: cancel}
	if _, err := startFake(ctx, t, spec, "echo start >&6; exec sleep 100"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestMachineTimesOut(t *testing.T) {
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, &timeoutError{time.Millisecond})
	defer cancel()
	_, err := startFake(ctx, t, Spec{Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}}, "exec sleep 100")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "not done after 1ms") {
		t.Errorf("got %v", err)
	}
}

// A merged run must not lose what one port carries when the other ends.
func TestMachineWithOneWriterForBoth(t *testing.T) {
	var both bytes.Buffer
	spec := Spec{Argv: []string{"x"}, Stdout: &both, Stderr: &both}
	status, err := startFake(t.Context(), t, spec, "echo one >&4; exec 5>&-; echo two >&4; echo exit 0 >&6")
	if status != 0 || err != nil || both.String() != "one\ntwo\n" {
		t.Errorf("status %d, error %v, output %q", status, err, both.String())
	}
}
