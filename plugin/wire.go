package mooring

import (
	"context"
	"encoding/binary"
	"net"
	"reflect"
	"slices"
	"sync"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// wireHandler stands before all other plugins of a server block and has replies packed
// by a wireWriter, after all of them have seen and changed the message.
type wireHandler struct {
	next plugin.Handler
	// decorated says, once the first query has come, whether the listener's writer has
	// been replaced. A chain is built for each listener, so there is one answer.
	decorated func(context.Context) bool
}

// packOutside puts a wireHandler first in the chain.
func packOutside(config *dnsserver.Config) {
	config.Plugin = slices.Insert(config.Plugin, 0, func(next plugin.Handler) plugin.Handler {
		return &wireHandler{next, onceDecorated()}
	})
}

// Name implements plugin.Handler.
func (h *wireHandler) Name() string { return pluginName + "-wire" }

// ServeDNS implements plugin.Handler.
func (h *wireHandler) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	if scrub, is := w.(*request.ScrubWriter); is && sends(scrub.ResponseWriter) && !h.decorated(ctx) {
		w = &wireWriter{ScrubWriter: scrub, query: r}
	}
	return h.next.ServeDNS(ctx, w, r)
}

// onceDecorated looks at the server of the first query and remembers what it saw.
func onceDecorated() func(context.Context) bool {
	var once sync.Once
	decorated := false
	return func(ctx context.Context) bool {
		once.Do(func() {
			server, _ := ctx.Value(dnsserver.Key{}).(*dnsserver.Server)
			decorated = decorates(server)
		})
		return decorated
	}
}

// decorates tells whether a plugin has replaced the writer of a server's UDP socket, as
// shed does. Such a writer gets what the server writes as messages, and would miss what
// is written as octets. The plugin may stand in any block that shares the listener, and
// CoreDNS keeps what it chose in a field of its own; if that cannot be read, the answer
// is yes, which is slower and never wrong.
func decorates(server *dnsserver.Server) bool {
	if server == nil {
		return true
	}
	field := reflect.ValueOf(server).Elem().FieldByName("udpDecorateWriterFunc")
	return !field.IsValid() || field.Kind() != reflect.Func || !field.IsNil()
}

// sends tells the writer of a socket from those that keep the message for a plugin that
// asked the server itself: the former alone knows of its connection.
func sends(w dns.ResponseWriter) bool {
	_, knows := w.(dns.ConnectionStater)
	return knows
}

// wireWriter packs the usual replies in one pass. What it cannot pack, or what does not
// fit, takes the way through CoreDNS's ScrubWriter, which computes the length of every
// reply before it is packed, for large ones with a compression map of its own.
type wireWriter struct {
	*request.ScrubWriter
	query *dns.Msg
}

// wireSize is the size of the buffers; larger replies are left to the ScrubWriter.
const wireSize = 4096

var wireBuffers = sync.Pool{New: func() any { return new([wireSize]byte) }}

// WriteMsg implements dns.ResponseWriter.
func (w *wireWriter) WriteMsg(m *dns.Msg) error {
	buffer := wireBuffers.Get().(*[wireSize]byte)
	defer wireBuffers.Put(buffer)
	wire := w.pack(buffer[:], m)
	if wire == nil {
		return w.ScrubWriter.WriteMsg(m)
	}
	_, err := w.Write(wire)
	return err
}

// unfragmented is the size up to which a reply need not be compressed to stay in one
// packet of IPv6, as the ScrubWriter sees it.
const unfragmented = 1220

// pack gives the reply as octets, nil if it has to take the other way.
func (w *wireWriter) pack(buffer []byte, m *dns.Msg) []byte {
	if len(m.Question) != 1 || m.Rcode > 15 || m.IsTsig() != nil {
		return nil
	}
	state := request.Request{Req: w.query, W: w.ResponseWriter}
	state.SizeAndDo(m)
	p := packer{wire: buffer[:min(state.Size(), len(buffer))], owner: m.Question[0].Name}
	p.header(m)
	p.question(&m.Question[0])
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			p.record(rr)
		}
	}
	if p.failed || p.uncompressed && p.end > unfragmented {
		return nil
	}
	return p.wire[:p.end]
}

// packer packs one message (RFC 1035 section 4).
type packer struct {
	wire []byte
	end  int
	// owner is the name in the question, which is at questionName.
	owner string
	// uncompressed is true if a record has names in full.
	uncompressed, failed bool
}

// questionName is a compression pointer to the name behind the header.
const questionName = 0xc000 | headerSize

const headerSize = 12

func (p *packer) header(m *dns.Msg) {
	bits := uint16(m.Opcode&0xf)<<11 | uint16(m.Rcode&0xf)
	flags := [...]struct {
		set   bool
		shift int
	}{
		{m.Response, 15},
		{m.Authoritative, 10},
		{m.Truncated, 9},
		{m.RecursionDesired, 8},
		{m.RecursionAvailable, 7},
		{m.Zero, 6},
		{m.AuthenticatedData, 5},
		{m.CheckingDisabled, 4},
	}
	for _, flag := range flags {
		if flag.set {
			bits |= 1 << flag.shift
		}
	}
	counts := [...]int{int(m.Id), int(bits), len(m.Question), len(m.Answer), len(m.Ns), len(m.Extra)}
	for i, count := range counts {
		binary.BigEndian.PutUint16(p.wire[2*i:], uint16(count))
	}
	p.end = headerSize
}

func (p *packer) question(q *dns.Question) {
	end, err := dns.PackDomainName(q.Name, p.wire, p.end, nil, false)
	if err != nil || end+4 > len(p.wire) {
		p.failed = true
		return
	}
	binary.BigEndian.PutUint16(p.wire[end:], q.Qtype)
	binary.BigEndian.PutUint16(p.wire[end+2:], q.Qclass)
	p.end = end + 4
}

func (p *packer) record(rr dns.RR) {
	if p.failed {
		return
	}
	switch rr := rr.(type) {
	case *dns.A:
		if ip := rr.A.To4(); ip != nil && rr.Hdr.Name == p.owner {
			p.address(&rr.Hdr, ip)
			return
		}
	case *dns.AAAA:
		if len(rr.AAAA) == net.IPv6len && rr.Hdr.Name == p.owner {
			p.address(&rr.Hdr, rr.AAAA)
			return
		}
	}
	_, opt := rr.(*dns.OPT)
	p.uncompressed = p.uncompressed || !opt
	end, err := dns.PackRR(rr, p.wire, p.end, nil, false)
	p.end, p.failed = end, err != nil
}

// address packs a record whose owner is the name in the question.
func (p *packer) address(h *dns.RR_Header, ip []byte) {
	if p.end+12+len(ip) > len(p.wire) {
		p.failed = true
		return
	}
	to := p.wire[p.end:]
	binary.BigEndian.PutUint16(to, questionName)
	binary.BigEndian.PutUint16(to[2:], h.Rrtype)
	binary.BigEndian.PutUint16(to[4:], h.Class)
	binary.BigEndian.PutUint32(to[6:], h.Ttl)
	binary.BigEndian.PutUint16(to[10:], uint16(len(ip)))
	p.end += 12 + copy(to[12:], ip)
}
