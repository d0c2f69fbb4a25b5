package mooring

import "github.com/miekg/dns"

// reply is a message with room for its question, made in one piece for each query. It
// is never shared: plugins before ours change messages in place.
type reply struct {
	dns.Msg
	question [1]dns.Question
}

// newReply starts an authoritative reply to a query.
func newReply(query *dns.Msg, rcode int) *dns.Msg {
	m := new(reply)
	m.Id = query.Id
	m.Response = true
	m.Opcode = query.Opcode
	m.RecursionDesired = query.RecursionDesired
	m.CheckingDisabled = query.CheckingDisabled
	m.Authoritative = true
	m.Rcode = rcode
	m.question[0] = query.Question[0]
	m.Question = m.question[:1:1]
	return &m.Msg
}

// rcode gives the response code of an outcome.
func (o outcome) rcode() int {
	switch o {
	case nameError:
		return dns.RcodeNameError
	case unsure:
		return dns.RcodeServerFailure
	default:
		return dns.RcodeSuccess
	}
}
