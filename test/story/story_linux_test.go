package story

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mooring-project/mooring/test/lab"
)

func TestShellLine(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []string
		want string
	}{
		{"program by name", []string{"nslookup", "web"}, "nslookup web"},
		{"program by path", []string{"/opt/mooring/mooringctl", "explain", "default/web"}, "mooringctl explain default/web"},
		{"script", []string{"sh", "-c", "wget -qO- http://web | sort"}, "wget -qO- http://web | sort"},
		{"word that a shell would split", []string{"echo", "a b"}, "echo 'a b'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := shellLine(c.in); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestExpectations(t *testing.T) {
	for _, c := range []struct {
		name   string
		expect func(answer) error
		answer answer
		right  bool
	}{
		{"text there", contains("10.96.0.7"), answer{output: "Address: 10.96.0.7"}, true},
		{"text there, but it failed", contains("10.96.0.7"), answer{output: "Address: 10.96.0.7", status: 1}, false},
		{"text there and the status does not matter", mentions("10.96.0.7"), answer{output: "Address: 10.96.0.7", status: 1}, true},
		{"text not there", mentions("10.96.0.7"), answer{output: "Address: 10.96.0.8"}, false},
		{"name denied", doesNotExist, answer{output: "** server can't find web: NXDOMAIN", status: 1}, true},
		{"no server is no denial", doesNotExist, answer{output: "connection timed out", status: 1}, false},
		{"one of the pods", oneOf([]string{"a", "b"}), answer{output: "b"}, true},
		{"a stranger's answer", oneOf([]string{"a", "b"}), answer{output: "c"}, false},
		{"all of the pods", exactly([]string{"a", "b"}), answer{output: "3 a\n3 b"}, true},
		{"one pod missing", exactly([]string{"a", "b"}), answer{output: "6 a"}, false},
		{"one pod too many", exactly([]string{"a", "b"}), answer{output: "2 a\n2 b\n2 c"}, false},
		{"refused by wget", refused, answer{output: "Connection refused", status: 1}, true},
		{"refused by curl", refused, answer{output: "curl: (7) Failed to connect: Couldn't connect to server", status: 7}, true},
		{"timed out", refused, answer{output: "timed out", status: 1}, false},
		{"refused, but late", refused, answer{output: "Connection refused", status: 1, took: 5 * time.Second}, false},
		{"answered", refused, answer{output: "web"}, false},
		{"connections counted", counted, answer{output: "UDP  10.96.0.10:53  18 34 34 2504 4949"}, true},
		{"no connections counted", counted, answer{output: "UDP  10.96.0.10:53  0 0 0 0 0"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.expect(c.answer); (err == nil) != c.right {
				t.Errorf("%+v: got %v", c.answer, err)
			}
		})
	}
}

func TestFlawless(t *testing.T) {
	for _, c := range []struct {
		name  string
		tally lab.Tally
		want  string
	}{
		{"all answered", lab.Tally{Requests: 100}, ""},
		{"one failed", lab.Tally{Requests: 100, Failures: []string{"refused"}}, "1 of 100 failed"},
		{"hardly asked", lab.Tally{Requests: 3}, "too few"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := fmt.Sprint(flawless(c.tally)); !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q in it", got, c.want)
			}
		})
	}
}

func TestAfterAWrongAnswerTheRestOfTheStepIsSkipped(t *testing.T) {
	var out strings.Builder
	teller := &teller{out: &out}
	teller.check("first", fmt.Errorf("wrong"))
	// The place has no namespace: running anything there would crash.
	teller.run(t.Context(), place{}, "second", contains(""), "true")
	if want := "  FAILED: first: wrong\n  skipped: second\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestObjectsParse(t *testing.T) {
	files, err := objects.ReadDir("objects")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, error %v", len(files), err)
	}
	for _, file := range files {
		text, err := objects.ReadFile("objects/" + file.Name())
		if err != nil {
			t.Fatal(err)
		}
		if parsed, err := lab.ParseObjects(text); err != nil || len(parsed) == 0 {
			t.Errorf("%s: %d objects, error %v", file.Name(), len(parsed), err)
		}
	}
}
