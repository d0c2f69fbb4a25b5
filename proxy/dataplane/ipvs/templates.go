package ipvs

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/mooring-project/mooring/internal/model"
)

// Template is IPVS's memory of where a client of a persistent virtual server goes.
type Template struct {
	Protocol model.Protocol
	Client   netip.Addr
	// Virtual is the virtual server's address, Real the real server's.
	Virtual, Real netip.AddrPort
	// Left is for how long the client is remembered yet.
	Left time.Duration
}

// Templates lists those of the network namespace of the calling thread, at the cost of all its
// connections.
func Templates() ([]Template, error) {
	file, err := os.Open("/proc/thread-self/net/ip_vs_conn")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("connections of ipvs: %w", err)
	}
	defer file.Close()
	return parseTemplates(file)
}

// parseTemplates reads the lines that ip_vs_conn_seq_show writes (ip_vs_conn.c):
//
//	Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
//	TCP 0AF40102 0000 0A60000A 0050 0AF40103 1F90 NONE          10799
//
// Templates are those of port 0.
func parseTemplates(text io.Reader) ([]Template, error) {
	var templates []Template
	for lines := bufio.NewScanner(text); ; {
		if !lines.Scan() {
			return templates, lines.Err()
		}
		fields := strings.Fields(lines.Text())
		if len(fields) < 9 || fields[2] != "0000" {
			continue
		}
		client, clientRead := shown(fields[1], fields[2])
		virtual, virtualRead := shown(fields[3], fields[4])
		real, realRead := shown(fields[5], fields[6])
		seconds, err := strconv.ParseUint(fields[8], 10, 32)
		protocol := map[string]model.Protocol{"TCP": model.TCP, "UDP": model.UDP, "SCTP": model.SCTP}[fields[0]]
		if clientRead && virtualRead && realRead && err == nil && protocol != 0 {
			templates = append(templates, Template{protocol, client.Addr(), virtual, real, time.Duration(seconds) * time.Second})
		}
	}
}

// shown reads an address, of IPv4 as eight hexadecimal digits, and a port.
func shown(address, port string) (netip.AddrPort, bool) {
	digits, err := hex.DecodeString(port)
	if err != nil || len(digits) != 2 {
		return netip.AddrPort{}, false
	}
	addr, err := netip.ParseAddr(address)
	if octets, isHex := hex.DecodeString(address); err != nil && isHex == nil && len(octets) == 4 {
		addr, err = netip.AddrFrom4([4]byte(octets)), nil
	}
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(digits)), err == nil
}
