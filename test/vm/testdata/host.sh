# The command vm on a host whose kernel has IPVS, which is what the machine is.
exec 2>&1
vm kernel
mkdir /opt
cat >/command <<'END'
pwd
echo "$A"
cat /srv/deep/hosts /opt/added
ip -br link show dev lo | cut -d' ' -f1
ipvsadm -A -t 10.96.0.1:80 -s mh
ipvsadm -Sn
ip netns add inside
ip netns list
mkdir -p /out && echo collected >/out/file
echo error >/dev/stderr
sleep 1000 &
exit 5
END
vm exec -file /srv/deep/hosts=/etc/hosts -file /opt/added=/etc/group -file /command=/command \
    -collect /out/file=/collected -env A=b -dir /work -- sh /command
echo "status $?"
cat /collected
echo "left outside: $(ipvsadm -Sn) $(ip netns list) $(ls -d /srv /opt/* /work /out /tmp/* 2>/dev/null) $(pidof sleep)"
vm exec -timeout 1s -- sleep 1000
echo "status $?"
vm exec -- nonesuch
echo "status $?"
vm exec -file /x=/absent -- true
echo "status $?"
exit 0
