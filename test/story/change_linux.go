package story

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mooring-project/mooring/internal/testkit/printed"
	"github.com/mooring-project/mooring/test/lab"
)

// comingAndGoing changes the pods behind the Service while a client keeps asking.
func comingAndGoing(ctx context.Context, t *teller) error {
	service, err := t.lab.Cluster.Service(ctx, "default", "web")
	if err != nil {
		return err
	}
	client, err := t.pod("default", "client")
	if err != nil {
		return err
	}
	ip := service.Spec.ClusterIP
	asker, err := t.startAsking(client, "http://web", "http://"+ip)
	if err != nil {
		return err
	}
	failed := errors.Join(
		t.replaceOnePod(ctx, client),
		t.scaleTo(ctx, client, 5),
		t.scaleTo(ctx, client, 2),
	)
	t.run(ctx, client, "the name still has the same ClusterIP", mentions(ip), "nslookup", "web")
	return errors.Join(failed, t.stopAsking(asker))
}

// replaceOnePod deletes a pod and waits until another answers in its place.
func (t *teller) replaceOnePod(ctx context.Context, client place) error {
	before, err := t.webPods(ctx)
	if err != nil {
		return err
	}
	victim := before[0]
	fmt.Fprintf(t.out, "\ndelete pod %s\n", victim)
	if err := t.lab.Cluster.DeletePod(ctx, "default", victim); err != nil {
		return err
	}
	return t.settle(ctx, client, 3, victim)
}

func (t *teller) scaleTo(ctx context.Context, client place, replicas int32) error {
	fmt.Fprintf(t.out, "\nscale deployment web to %d\n", replicas)
	if err := t.lab.Cluster.Scale(ctx, "default", "web", replicas); err != nil {
		return err
	}
	return t.settle(ctx, client, int(replicas), "")
}

// settle waits until so many web pods are ready and no other is left, then until
// requests reach all of them.
func (t *teller) settle(ctx context.Context, client place, count int, without string) error {
	const others = 2 + 2 // mooring-dns and clients
	var pods []string
	err := t.until(ctx, func() (err error) {
		if pods, err = t.webPods(ctx); err != nil {
			return err
		}
		if slices.Contains(pods, without) {
			return fmt.Errorf("pod %s is still there", without)
		}
		return t.readyPods(ctx, count+others)
	})
	if err != nil {
		return err
	}
	t.showPods(ctx)
	t.await(ctx, client, fmt.Sprintf("requests reach the %d pods that are there now, and no other", count), exactly(pods), "sh", "-c",
		fmt.Sprintf("for i in $(seq %d); do wget -qO- http://web; done | sort | uniq -c", 3*count))
	return nil
}

// exactly expects answers from all of the pods and from nobody else, as uniq -c counts
// them.
func exactly(pods []string) func(answer) error {
	return func(a answer) error {
		if err := reaches(pods)(a); err != nil {
			return err
		}
		if lines := len(strings.Split(a.output, "\n")); lines != len(pods) {
			return fmt.Errorf("answers from %d pods, want %d", lines, len(pods))
		}
		return nil
	}
}

// An asking is a client that keeps asking in a pod.
type asking struct {
	process *lab.Process
	printed *printed.Text
}

func (t *teller) startAsking(client place, urls ...string) (*asking, error) {
	command, printed := t.lab.Asker(urls...), &printed.Text{}
	fmt.Fprintf(t.out, "\n[%s]$ %s &\n", client.name, shellLine(command))
	process, err := client.ns.Start(lab.Command{Args: command, Output: printed})
	if err != nil {
		return nil, err
	}
	return &asking{process, printed}, nil
}

// enough is how many requests the client must have got through, lest it prove nothing.
const enough = 20

// stopAsking ends the client and checks that it saw no failure.
func (t *teller) stopAsking(a *asking) error {
	a.process.Signal(syscall.SIGTERM)
	select {
	case <-a.process.Done():
	case <-time.After(commandTimeout):
		a.process.Stop(0)
	}
	var tallies []lab.Tally
	if err := json.Unmarshal([]byte(a.printed.String()), &tallies); err != nil {
		return fmt.Errorf("the asking client printed no tally: %w: %s", err, a.printed)
	}
	fmt.Fprintln(t.out, "\nThe client that kept asking meanwhile:")
	for _, tally := range tallies {
		fmt.Fprintf(t.out, "%s: %d requests, %d failures, answers of %d pods, the slowest after %s\n",
			tally.URL, tally.Requests, len(tally.Failures), len(tally.Answers), tally.Slowest.Round(time.Millisecond))
		t.check("no request to "+tally.URL+" failed", flawless(tally))
	}
	return nil
}

func flawless(t lab.Tally) error {
	switch {
	case len(t.Failures) > 0:
		return fmt.Errorf("%d of %d failed, first %s", len(t.Failures), t.Requests, t.Failures[0])
	case t.Requests < enough:
		return fmt.Errorf("only %d requests were made, too few to show anything", t.Requests)
	}
	return nil
}
