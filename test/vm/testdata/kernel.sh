# What Mooring needs of a kernel, tried for real. Stops at the first failure.
set -e

for node in a b; do
    ip netns add $node
    ip -n $node link set lo up
    [ "$(ip netns exec $node sysctl -n net.ipv4.vs.conntrack)" = 0 ]
done
ip netns exec a ipvsadm -A -t 10.96.0.1:80 -s wlc
ip netns exec a ipvsadm -A -t [fd00::1]:80 -s wlc
ip netns exec a ipvsadm -Ln | grep -q 10.96.0.1:80
[ -z "$(ip netns exec b ipvsadm -Sn)" ]
[ -z "$(ipvsadm -Sn)" ]
ip netns exec a sysctl -q -w net.ipv4.vs.conntrack=1
[ "$(ip netns exec b sysctl -n net.ipv4.vs.conntrack)" = 0 ]

port=1000
for scheduler in rr wrr lc wlc lblc lblcr dh sh mh sed nq fo ovf twos; do
    port=$((port + 1))
    for protocol in -t -u --sctp-service; do
        ipvsadm -A $protocol 10.96.0.2:$port -s $scheduler
    done
done
[ "$(ipvsadm -Sn | wc -l)" = 42 ]
ipvsadm -C

for family in ip ip6 inet arp bridge netdev; do nft add table $family probe; done
nft -f - <<'RULES'
table inet mooring {
    map services {
        type ipv4_addr . inet_proto . inet_service : verdict
    }
    set clients {
        type ipv4_addr
        flags timeout
    }
    chain refuse {
        type filter hook input priority 0
        ct state new tcp dport 1 counter reject with tcp reset
        udp dport 1 limit rate 5/second reject
        ip daddr . meta l4proto . th dport vmap @services
    }
    chain divert {
        type nat hook prerouting priority -100
        fib daddr type local tcp dport 2 redirect to :3
        tcp dport 4 dnat ip to numgen random mod 2 map { 0 : 192.0.2.1, 1 : 192.0.2.2 }
        tcp dport 5 dnat ip to jhash ip saddr mod 2 map { 0 : 192.0.2.1, 1 : 192.0.2.2 }
    }
    chain disguise {
        type nat hook postrouting priority 100
        meta mark & 0x4000 != 0 masquerade fully-random
    }
}
RULES
iptables -t nat -A POSTROUTING -m addrtype --src-type LOCAL -m comment --comment probe -j MASQUERADE
iptables-legacy -t mangle -S >/dev/null
ip6tables -A INPUT -m ipvs --ipvs -j ACCEPT
ipset create probe hash:ip,port

ip link add bridge0 type bridge
ip link add dummy0 type dummy
ip tuntap add tap0 mode tap
modprobe -a br_netfilter sctp overlay
conntrack -L >/dev/null 2>&1
nslookup localhost 127.0.0.1 >/dev/null 2>&1 || [ $? = 1 ] # no server answers, but it must not crash

# A virtual server in the node a, a real server behind it in the node b.
ip link add web netns a type veth peer name node netns b
ip -n a address add 192.0.2.1/24 dev web
ip -n b address add 192.0.2.2/24 dev node
ip -n a link set web up
ip -n b link set node up
ip -n b route add default via 192.0.2.1
ip -n a address add 10.96.0.1/32 dev lo
mkdir /tmp/www
echo served >/tmp/www/index.html
ip netns exec b busybox httpd -p 192.0.2.2:8080 -h /tmp/www
# Connections are tracked only in namespaces where a rule asks for it.
ip netns exec a nft 'table ip track { chain out { type filter hook output priority 0; ct state new counter; }; }'
ip netns exec a ipvsadm -a -t 10.96.0.1:80 -r 192.0.2.2:8080 -m
[ "$(ip netns exec a curl -s --max-time 20 http://10.96.0.1/)" = served ]
[ "$(ip netns exec a timeout 20 wget -qO- http://10.96.0.1/)" = served ]
# The statistics follow up to two seconds later, the connections at once.
[ "$(ip netns exec a ipvsadm -Lnc | grep -c '10.96.0.1:80 *192.0.2.2:8080')" = 2 ]
ip netns exec a conntrack -L -p tcp --dport 80 2>/dev/null | grep -q 10.96.0.1
echo the kernel has it all
