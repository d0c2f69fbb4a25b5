package story

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/mooring-project/mooring/test/lab"
)

// A teller runs commands in the lab and prints them with what comes back.
type teller struct {
	lab   *lab.Lab
	out   io.Writer
	wrong []string // what was wrong in this step
	// patience is how long a change may take to be seen everywhere.
	patience time.Duration
}

const (
	// commandTimeout bounds a single command of the story.
	commandTimeout = 15 * time.Second
	pollPause      = 100 * time.Millisecond
)

// A place is where a command runs, and how the prompt calls it.
type place struct {
	name string
	ns   *lab.Namespace
}

// An answer is what a command gave.
type answer struct {
	output string
	status int
	took   time.Duration
}

// contains expects status 0 and a text.
func contains(text string) func(answer) error {
	return func(a answer) error {
		if a.status != 0 {
			return fmt.Errorf("exit status %d", a.status)
		}
		if !strings.Contains(a.output, text) {
			return fmt.Errorf("no %q in the answer", text)
		}
		return nil
	}
}

// mentions expects a text whatever the status: busybox's nslookup reports one that is
// not 0 when any name of the search path does not exist.
func mentions(text string) func(answer) error {
	return func(a answer) error {
		a.status = 0
		return contains(text)(a)
	}
}

// doesNotExist expects that a name server denied a name, in all forms it was asked for.
func doesNotExist(a answer) error {
	if a.status == 0 || !strings.Contains(a.output, "NXDOMAIN") || strings.Contains(a.output, "Name:") {
		return fmt.Errorf("exit status %d, and it is not denied", a.status)
	}
	return nil
}

func (t *teller) pod(namespace, name string) (place, error) {
	s, err := t.lab.Kubelet.Sandbox(namespace, name)
	if err != nil {
		return place{}, err
	}
	return place{"pod " + namespace + "/" + name, s.Namespace}, nil
}

// node is the node on which commands are run.
func (t *teller) node() place {
	n := t.lab.Nodes[0]
	return place{n.Name, n.Namespace}
}

func (t *teller) outside() place { return place{"outside client", t.lab.Outside} }

// run runs a command once, prints it and checks the answer. After a wrong answer the
// other commands of the step are skipped: they would not tell more, only later.
func (t *teller) run(ctx context.Context, at place, says string, expect func(answer) error, command ...string) {
	if t.skips(says) {
		return
	}
	a := t.exec(ctx, at, command)
	t.print(at, command, a)
	t.check(says+after(a), expect(a))
}

// await is run, but repeats the command until the answer is as expected or patience is
// over, and prints the last one.
func (t *teller) await(ctx context.Context, at place, says string, expect func(answer) error, command ...string) {
	if t.skips(says) {
		return
	}
	start := time.Now()
	for {
		a := t.exec(ctx, at, command)
		err := expect(a)
		if err != nil && time.Since(start) < t.patience && pause(ctx) == nil {
			continue
		}
		t.print(at, command, a)
		t.check(says+after(a), err)
		return
	}
}

func (t *teller) skips(says string) bool {
	if len(t.wrong) > 0 {
		fmt.Fprintf(t.out, "  skipped: %s\n", says)
	}
	return len(t.wrong) > 0
}

func (t *teller) exec(ctx context.Context, at place, command []string) answer {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	start := time.Now()
	output, status, err := at.ns.Exec(ctx, command...)
	if err != nil {
		output, status = err.Error(), -1
	}
	if ctx.Err() != nil {
		output += fmt.Sprintf("\n(killed after %s)", commandTimeout)
	}
	return answer{strings.Trim(output, "\n"), status, time.Since(start)}
}

func (t *teller) print(at place, command []string, a answer) {
	fmt.Fprintf(t.out, "\n[%s]$ %s\n", at.name, shellLine(command))
	if a.output != "" {
		fmt.Fprintf(t.out, "%s\n", a.output)
	}
}

func after(a answer) string { return fmt.Sprintf(" (%.1fs)", a.took.Seconds()) }

// check prints whether something is as it should be, and remembers it if not.
func (t *teller) check(says string, err error) {
	if err != nil {
		t.wrong = append(t.wrong, fmt.Sprintf("%s: %v", says, err))
		fmt.Fprintf(t.out, "  FAILED: %s: %v\n", says, err)
		return
	}
	fmt.Fprintf(t.out, "  ok: %s\n", says)
}

// until polls a condition that is not a command.
func (t *teller) until(ctx context.Context, condition func() error) error {
	deadline := time.Now().Add(t.patience)
	for {
		err := condition()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		if stop := pause(ctx); stop != nil {
			return errors.Join(stop, err)
		}
	}
}

func pause(ctx context.Context) error {
	select {
	case <-time.After(pollPause):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
