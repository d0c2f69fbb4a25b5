// Package findings has the form in which the comparison of proxies is recorded.
package findings

// Finding is what became of one flow, in one way, or of a behaviour.
type Finding struct {
	Subject, Configuration, Scenario string
	// Behaviour is set instead of the scenario and its flow.
	Behaviour string
	// From, To and Way are a flow: "pod", "NodePort", "udp over IPv6".
	From, To, Way string
	// Want and Got say what came of it.
	Want, Got string
	// OtherSource is true if all that is wrong is that endpoints see an address of the Service, which
	// the proxy has bound to the node, where they should see the node's own.
	OtherSource bool `json:",omitempty"`
}

// Refused and RefusedLate are what becomes of a TCP connection that is refused with its first SYN,
// or with one that is sent again a second later.
const (
	Refused     = "refused"
	RefusedLate = "refused after a second"
)

// Holds tells whether the subject does what it should.
func (f Finding) Holds() bool { return f.Want == f.Got }

// NearlyHolds tells whether it does but for the source that endpoints see, or a second.
func (f Finding) NearlyHolds() bool {
	return f.Holds() || f.OtherSource ||
		f.Want == Refused && (f.Got == RefusedLate || f.Got == Refused+", "+RefusedLate)
}
