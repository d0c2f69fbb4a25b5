// Package measured is what the two halves of the benchmark of mooring-proxy tell each other: the
// host what to measure, the machine what it has measured.
package measured

import (
	"time"

	"github.com/mooring-project/mooring/test/peers"
)

// Order says what is to be measured.
type Order struct {
	Subjects []peers.Subject
	// Sizes are numbers of Services in ascending order, each with so many Endpoints.
	Sizes     []int
	Endpoints int
	// Whole is the least number of Services beside which everything is measured of kube-proxy; with
	// fewer, first syncs and traffic alone. Of mooring-proxy everything is measured always.
	Whole int
	// Rounds is how often every subject is started for times; Heard is whether it is started
	// once more for counts of netlink messages, which takes time itself.
	Rounds int
	Heard  bool
	// Changes is how many are timed in each round, and HeardChanges how many are counted.
	Changes, HeardChanges int
	// ChangesLimit is the time after which no further change is begun in a round.
	ChangesLimit time.Duration
	// Limit bounds a first sync, ChangeLimit one change. A subject that has not synced within
	// Limit is not measured any further at that size.
	Limit, ChangeLimit time.Duration
	// Idle is how long a subject is watched while nothing changes.
	Idle time.Duration
	// Traffic is how long each way is loaded in each of TrafficRounds; 0 for no traffic.
	Traffic       time.Duration
	TrafficRounds int
	// Relist is whether the API server is started anew under each subject.
	Relist bool
	// Profile is whether profiles of mooring-proxy are written to Profiles.
	Profile bool
	// Desk is the host's address for requests.
	Desk string
}

// Profiles is a directory in the machine.
const Profiles = "/run/profiles"

// Floor is a client of the bench itself that reads everything and hears of changes, and does nothing
// with it. What that takes, nobody can save.
const Floor peers.Subject = "a watch alone"

// Run is one start of one subject, or of none (Floor).
type Run struct {
	Subject  peers.Subject
	Services int
	// Heard is whether netlink messages were listened to; times of such a run are not to be used.
	Heard   bool
	First   FirstSync
	Idle    *Use `json:",omitempty"`
	Changes []Change
	Memory  Memory
	Traffic []Traffic
	Relist  *Relist `json:",omitempty"`
}

// FirstSync is from the start of the process, in a kernel that has nothing of it.
type FirstSync struct {
	// Kubernetes and DNS are until these two Services answered; All until every one of a sample did
	// and the subject's metrics said that nothing is left to be done. Zero is not within the limit.
	Kubernetes, DNS, All time.Duration
	Use
	// Asked is how many Services were asked afterwards, each once, and Unanswered how many of them
	// did not answer.
	Asked, Unanswered int
}

// Use is what something took of the machine.
type Use struct {
	// CPU is user and system time of the process and its children.
	CPU time.Duration
	// Execs counts the programs that were started.
	Execs int
	// Netlink is nil if nobody listened.
	Netlink *Messages `json:",omitempty"`
}

// Messages counts netlink messages of the subject's namespace.
type Messages struct {
	// Requests go to the kernel, Replies come from it, those of notifications included.
	Requests, Replies int
	// Octets are of both.
	Octets int64
	// Lost is how many datagrams the listener had no room for; the other counts lack them.
	Lost int
}

// Change is one replaced endpoint of a Service that has one.
type Change struct {
	// Latency is from before the API write until a connection through the Service's address reached
	// the new endpoint.
	Latency time.Duration
	Use
	// Asked counts connections until then, Failed those that nobody answered.
	Asked, Failed int
}

// Memory is resident memory of the process without its children, in MiB.
type Memory struct {
	// FirstPeak is the highest mark until the first sync was done; Steady is after the idle time,
	// 0 if there was none.
	FirstPeak, Steady float64
}

// Relist is what happened when the API server was started anew and everything was listed again.
type Relist struct {
	// Peak is the highest mark of resident memory in MiB.
	Peak float64
	Use
}

// Traffic is one round of connections, each of which asks one line, to pods' own addresses or to
// those of their Services.
type Traffic struct {
	Direct bool
	// PerSecond is of several askers at once; P50 and P99 are of one.
	PerSecond float64
	P50, P99  time.Duration
	Failed    int
}

// Line is a line of what the machine prints: what it is, once, and each run when it is done.
type Line struct {
	// Kernel is the machine's release.
	Kernel string `json:",omitempty"`
	Run    *Run   `json:",omitempty"`
}
