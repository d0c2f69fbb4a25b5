package story

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/mooring-project/mooring/test/lab"
)

// A Step is a part of the story.
type Step struct {
	Title string
	play  func(ctx context.Context, t *teller) error
}

// Steps are the whole story.
var Steps = []Step{
	{"three web pods on two nodes, two Services and DNS", setTheStage},
	{"the name and the address, from pods", nameAndAddress},
	{"the NodePort, from the nodes and from outside", nodePort},
	{"pods come and go, and nobody notices", comingAndGoing},
	{"a Service with nothing behind it", nothingBehind},
}

// A Selection says how much of the story to play.
type Selection struct {
	// Steps are numbers from 1; the first is always played, none means all.
	Steps []int
	// Patience is how long a change may take to be seen everywhere; a minute by default,
	// since an emulated machine may be busy.
	Patience time.Duration
}

func (s Selection) has(number int) bool {
	return len(s.Steps) == 0 || number == 1 || slices.Contains(s.Steps, number)
}

// Status of a story.
const (
	ok     = 0
	wrong  = 1
	broken = 130 // interrupted, as a shell reports SIGINT
)

// Play starts a lab, plays the story in it, prints it to out, and returns the exit
// status: not 0 if any answer was wrong.
func Play(ctx context.Context, out io.Writer, options lab.Options, selection Selection) (int, error) {
	start := time.Now()
	fmt.Fprintln(out, "Starting the nodes ...")
	options.Logs = lab.NewLogbook()
	l, err := lab.Start(ctx, options)
	if err != nil {
		printLogs(out, options.Logs)
		return wrong, err
	}
	t := &teller{lab: l, out: out, patience: cmp.Or(selection.Patience, time.Minute)}
	failed := t.tell(ctx, selection)
	if len(failed) > 0 && ctx.Err() == nil {
		printLogs(out, options.Logs)
	}
	status := t.verdict(ctx, failed, time.Since(start))
	return status, l.Stop()
}

// tell plays the selected steps and returns the numbers of those that failed. Without
// the first one the others make no sense.
func (t *teller) tell(ctx context.Context, selection Selection) (failed []int) {
	for i, step := range Steps {
		number := i + 1
		if !selection.has(number) {
			continue
		}
		if !t.playStep(ctx, number, step) {
			failed = append(failed, number)
			if number == 1 {
				break
			}
		}
		if ctx.Err() != nil {
			break
		}
	}
	return failed
}

// playStep plays one step and prints its mark.
func (t *teller) playStep(ctx context.Context, number int, step Step) bool {
	start := time.Now()
	fmt.Fprintf(t.out, "\n== Step %d: %s\n", number, step.Title)
	t.wrong = nil
	if err := step.play(ctx, t); err != nil {
		t.check("the step can be played to its end", err)
	}
	took := time.Since(start).Round(100 * time.Millisecond)
	if len(t.wrong) > 0 {
		fmt.Fprintf(t.out, "step %d: FAILED: %s (%s)\n", number, t.wrong[0], took)
		return false
	}
	fmt.Fprintf(t.out, "step %d: ok (%s)\n", number, took)
	return true
}

func (t *teller) verdict(ctx context.Context, failed []int, took time.Duration) int {
	took = took.Round(100 * time.Millisecond)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(t.out, "\nstory: interrupted")
		return broken
	case len(failed) > 0:
		fmt.Fprintf(t.out, "\nstory: FAILED in step %v (%s)\n", failed, took)
		return wrong
	}
	fmt.Fprintf(t.out, "\nstory: ok (%s)\n", took)
	return ok
}

func printLogs(out io.Writer, logs *lab.Logbook) {
	fmt.Fprintln(out, "\nWhat the programs printed last:")
	_, _ = logs.WriteTo(out) // the verdict matters more
}
