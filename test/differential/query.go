package differential

import (
	"fmt"

	"github.com/miekg/dns"
)

// query is a question and how it is asked.
type query struct {
	name   string
	qtype  uint16
	tcp    bool
	client client
}

// client is what a query says about who asks.
type client struct {
	// size is the EDNS buffer size, 0 without EDNS.
	size       uint16
	do         bool
	rd, cd, ad bool
}

// clients are the clients that ask.
var clients = []client{
	{rd: true},
	{},
	{rd: true, size: 512},
	{rd: true, size: 1232},
	{rd: true, size: 1232, ad: true},
	{rd: true, size: 4096, do: true},
	{rd: true, cd: true, size: 4096, do: true},
	{cd: true, ad: true},
}

func (q query) String() string {
	transport := "UDP"
	if q.tcp {
		transport = "TCP"
	}
	return fmt.Sprintf("%s %s over %s %+v", q.name, dns.TypeToString[q.qtype], transport, q.client)
}

// message makes the query.
func (q query) message() *dns.Msg {
	m := new(dns.Msg)
	m.Id = 4711
	m.Question = []dns.Question{{Name: q.name, Qtype: q.qtype, Qclass: dns.ClassINET}}
	m.RecursionDesired, m.CheckingDisabled, m.AuthenticatedData = q.client.rd, q.client.cd, q.client.ad
	if q.client.size > 0 {
		m.SetEdns0(q.client.size, q.client.do)
	}
	return m
}

// limit is the number of octets that a reply may have.
func (q query) limit() int {
	switch {
	case q.tcp:
		return dns.MaxMsgSize
	case q.client.size > dns.MinMsgSize:
		return int(q.client.size)
	}
	return dns.MinMsgSize
}
