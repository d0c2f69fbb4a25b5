package differential

import (
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// answer is a reply in a form that two servers must agree on, letter by letter.
type answer struct {
	rcode    string
	flags    string
	question string
	// answer, authority and extra are the sections without OPT, sorted; the order in a
	// section has no meaning, except where misplaced tells.
	answer, authority, extra []string
	// edns is the OPT record without its options.
	edns string
	// misplaced is an alias that comes after what it leads to.
	misplaced string
	truncated bool
}

// noReplyCode stands in the place of a response code if there is no reply.
const noReplyCode = "no reply"

// canonical brings a reply into the form that is compared. The SOA serial, which tells
// when a server saw the last change, is left out, and so are extended errors, which the
// stock plugin has not.
func canonical(m *dns.Msg) answer {
	a := answer{
		rcode: dns.RcodeToString[m.Rcode],
		flags: fmt.Sprintf("aa=%t tc=%t rd=%t ra=%t ad=%t cd=%t opcode=%d id=%d qr=%t",
			m.Authoritative, m.Truncated, m.RecursionDesired, m.RecursionAvailable, m.AuthenticatedData, m.CheckingDisabled, m.Opcode, m.Id, m.Response),
		answer: section(m.Answer), authority: section(m.Ns), extra: section(m.Extra),
		misplaced: misplaced(m.Answer), truncated: m.Truncated,
	}
	if m == noReply {
		a.rcode = noReplyCode
	}
	for _, q := range m.Question {
		a.question += q.String()
	}
	if o := m.IsEdns0(); o != nil {
		a.edns = fmt.Sprintf("version=%d do=%t size=%d", o.Version(), o.Do(), o.UDPSize())
	}
	return a
}

func section(records []dns.RR) (texts []string) {
	for _, rr := range records {
		if rr.Header().Rrtype == dns.TypeOPT {
			continue
		}
		if soa, is := rr.(*dns.SOA); is {
			normal := *soa
			normal.Serial = 0
			rr = &normal
		}
		texts = append(texts, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	slices.Sort(texts)
	return texts
}

// misplaced names an alias that follows a record of the name it leads to (RFC 1034
// section 4.3.2: the alias is put in first).
func misplaced(records []dns.RR) string {
	for i, rr := range records {
		alias, is := rr.(*dns.CNAME)
		if !is {
			continue
		}
		for _, before := range records[:i] {
			if strings.EqualFold(before.Header().Name, alias.Target) && !strings.EqualFold(alias.Target, alias.Hdr.Name) {
				return alias.String()
			}
		}
	}
	return ""
}

// differ says in which parts two answers differ; empty if in none. When a reply was cut
// to the client's size, which records were kept is chance; then the sections must be
// parts of those in whole, the uncut answer.
func differ(stock, ours, whole answer) (parts []string) {
	note := func(part string, equal bool) {
		if !equal {
			parts = append(parts, part)
		}
	}
	note("rcode", stock.rcode == ours.rcode)
	note("flags", stock.flags == ours.flags)
	note("question", stock.question == ours.question)
	note("edns", stock.edns == ours.edns)
	note("order", ours.misplaced == "")
	if stock.truncated && ours.truncated {
		note("answer", partOf(ours.answer, whole.answer))
		note("authority", partOf(ours.authority, whole.authority))
		note("extra", partOf(ours.extra, whole.extra))
		return parts
	}
	note("answer", slices.Equal(stock.answer, ours.answer))
	note("authority", slices.Equal(stock.authority, ours.authority))
	if len(ours.extra) < len(whole.extra) && len(stock.extra) < len(whole.extra) {
		note("extra", partOf(ours.extra, whole.extra)) // left out to fit, without TC
	} else {
		note("extra", slices.Equal(stock.extra, ours.extra))
	}
	return parts
}

// partOf tells whether every record of a section is in another.
func partOf(part, whole []string) bool {
	for _, text := range part {
		if !slices.Contains(whole, text) {
			return false
		}
	}
	return true
}

// String shows an answer as dig does.
func (a answer) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s edns[%s] %s\n", a.rcode, a.flags, a.edns, a.question)
	for _, part := range []struct {
		name    string
		records []string
	}{{"answer", a.answer}, {"authority", a.authority}, {"extra", a.extra}} {
		for _, record := range part.records {
			fmt.Fprintf(&text, "  %-9s %s\n", part.name, record)
		}
	}
	return text.String()
}
