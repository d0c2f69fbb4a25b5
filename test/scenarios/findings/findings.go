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
	// But says in what sense it may be said to do what it should though Got is not Want.
	But string `json:",omitempty"`
}

// ServiceAddress is said of endpoints that see an address of the Service where they should see
// the node's own.
const ServiceAddress = "endpoints see an address of the Service that the proxy has bound to the node"

// Holds tells whether the subject does what it should.
func (f Finding) Holds() bool { return f.Want == f.Got }
