package ipvs

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/proxy/plan"
)

// Messages of the generic netlink family IPVS (include/uapi/linux/ip_vs.h).
const (
	genericHeaderBytes = 4
	protocolVersion    = 1
	attributeAlign     = 4

	commandNewService = 1
	commandSetService = 2
	commandDelService = 3
	commandGetService = 4
	commandNewDest    = 5
	commandSetDest    = 6
	commandDelDest    = 7
	commandGetDest    = 8
	commandSetConfig  = 13

	attributeService       = 1
	attributeDest          = 2
	attributeTimeoutTCP    = 4
	attributeTimeoutTCPFin = 5
	attributeTimeoutUDP    = 6

	serviceFamily    = 1
	serviceProtocol  = 2
	serviceAddress   = 3
	servicePort      = 4
	serviceMark      = 5
	serviceScheduler = 6
	serviceFlags     = 7
	serviceTimeout   = 8
	serviceNetmask   = 9

	destAddress        = 1
	destPort           = 2
	destForward        = 3
	destWeight         = 4
	destUpperThreshold = 5
	destLowerThreshold = 6
	destActive         = 7
	destInactive       = 8
	destFamily         = 11
	destCounters       = 12

	counterConnections = 1
	counterPacketsIn   = 2
	counterPacketsOut  = 3
	counterBytesIn     = 4
	counterBytesOut    = 5
)

// commands are those of the verbs, for virtual servers and for real servers.
var commands = map[plan.Kind]map[plan.Verb]uint8{
	plan.VirtualServer: {plan.Add: commandNewService, plan.Update: commandSetService, plan.Delete: commandDelService},
	plan.RealServer:    {plan.Add: commandNewDest, plan.Update: commandSetDest, plan.Delete: commandDelDest},
}

// An encoder appends netlink messages to a buffer that it keeps.
type encoder struct{ buffer []byte }

// begin appends the headers of a message and gives its place for end.
func (e *encoder) begin(family uint16, flags uint16, sequence uint32, command uint8) int {
	at := len(e.buffer)
	e.buffer = append(e.buffer, 0, 0, 0, 0)
	e.buffer = binary.NativeEndian.AppendUint16(e.buffer, family)
	e.buffer = binary.NativeEndian.AppendUint16(e.buffer, unix.NLM_F_REQUEST|flags)
	e.buffer = binary.NativeEndian.AppendUint32(e.buffer, sequence)
	e.buffer = append(e.buffer, 0, 0, 0, 0, command, protocolVersion, 0, 0)
	return at
}

// end notes the length of a message. All attributes are padded, and so is the message.
func (e *encoder) end(at int) {
	binary.NativeEndian.PutUint32(e.buffer[at:], uint32(len(e.buffer)-at))
}

// nest begins an attribute that holds others and gives its place for unnest.
func (e *encoder) nest(kind uint16) int {
	at := len(e.buffer)
	e.buffer = append(e.buffer, 0, 0)
	e.buffer = binary.NativeEndian.AppendUint16(e.buffer, kind|unix.NLA_F_NESTED)
	return at
}

func (e *encoder) unnest(at int) {
	binary.NativeEndian.PutUint16(e.buffer[at:], uint16(len(e.buffer)-at))
}

// attribute appends the header of an attribute of some octets and gives room for them.
func (e *encoder) attribute(kind uint16, octets int) []byte {
	e.buffer = binary.NativeEndian.AppendUint16(e.buffer, uint16(unix.NLA_HDRLEN+octets))
	e.buffer = binary.NativeEndian.AppendUint16(e.buffer, kind)
	at := len(e.buffer)
	padded := (octets + attributeAlign - 1) &^ (attributeAlign - 1)
	for range padded {
		e.buffer = append(e.buffer, 0)
	}
	return e.buffer[at : at+octets]
}

func (e *encoder) uint16(kind, value uint16) {
	binary.NativeEndian.PutUint16(e.attribute(kind, 2), value)
}

func (e *encoder) uint32(kind uint16, value uint32) {
	binary.NativeEndian.PutUint32(e.attribute(kind, 4), value)
}

// port appends a number in the order of the network.
func (e *encoder) port(kind, value uint16) {
	binary.BigEndian.PutUint16(e.attribute(kind, 2), value)
}

// service appends what names a virtual server, and its value if it is to have one.
func (e *encoder) service(key plan.Key, value *plan.Value) {
	nest := e.nest(attributeService)
	family, netmask := uint16(unix.AF_INET), uint32(noNetmask4)
	if key.Addr.Is6() {
		family, netmask = unix.AF_INET6, noNetmask6
	}
	e.uint16(serviceFamily, family)
	if key.Mark != 0 {
		e.uint32(serviceMark, key.Mark)
	} else {
		e.uint16(serviceProtocol, uint16(key.Protocol))
		e.address(serviceAddress, key.Addr)
		e.port(servicePort, key.Port)
	}
	if value != nil {
		copy(e.attribute(serviceScheduler, len(value.Scheduler)+1), value.Scheduler)
		flags := e.attribute(serviceFlags, 8)
		binary.NativeEndian.PutUint32(flags, value.Flags)
		binary.NativeEndian.PutUint32(flags[4:], ^uint32(0)) // which flags are given
		e.uint32(serviceTimeout, value.Persistence)
		e.uint32(serviceNetmask, netmask)
	}
	e.unnest(nest)
}

// dest appends what names a real server, and its value if it is to have one.
func (e *encoder) dest(key plan.Key, value *plan.Value) {
	nest := e.nest(attributeDest)
	e.address(destAddress, key.Endpoint.Addr())
	e.port(destPort, key.Endpoint.Port())
	if value != nil {
		e.uint32(destForward, uint32(value.Forward))
		e.uint32(destWeight, value.Weight)
		e.uint32(destUpperThreshold, 0)
		e.uint32(destLowerThreshold, 0)
	}
	e.unnest(nest)
}

func (e *encoder) address(kind uint16, addr netip.Addr) {
	if addr.Is4() {
		a := addr.As4()
		copy(e.attribute(kind, len(a)), a[:])
		return
	}
	a := addr.As16()
	copy(e.attribute(kind, len(a)), a[:])
}

// request appends the message of a request.
func (e *encoder) request(family, flags uint16, sequence uint32, r request) {
	message := e.begin(family, flags, sequence, commands[r.key.Kind][r.verb])
	value := &r.value
	if r.verb == plan.Delete {
		value = nil
	}
	if r.key.Kind == plan.RealServer {
		e.service(r.key, nil)
		e.dest(r.key, value)
	} else {
		e.service(r.key, value)
	}
	e.end(message)
}
