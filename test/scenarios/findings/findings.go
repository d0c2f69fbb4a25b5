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
}

// Holds tells whether the subject does what it should.
func (f Finding) Holds() bool { return f.Want == f.Got }
