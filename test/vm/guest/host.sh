# The wrapper of a command on the host's kernel, as PID 1 of new network,
# mount and process namespaces: gives it a root where it may write to /run and
# find its files without a trace on the host. Descriptor 3 ends when the
# network is there.
set -e
. /dev/fd/3
exec 3<&-

mount --make-rprivate /
mount -t tmpfs -o mode=755 root "$root"
for top in /* ; do
    if [ -L "$top" ]; then
        cp -P "$top" "$root$top"
    elif [ -d "$top" ]; then
        mkdir "$root$top"
        mount --rbind "$top" "$root$top"
    elif [ -f "$top" ]; then
        : >"$root$top"
        mount --bind "$top" "$root$top"
    fi
done
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
[ ! -d /sys/fs/cgroup ] || mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"

# layer makes a directory of the host writable without touching it, once.
layers=0
layer() {
    case $1 in ""|/) return ;; esac
    if ! grep -q " $root$1 overlay " /proc/mounts && [ -e "$1" ]; then
        layers=$((layers + 1))
        mkdir -p "$root/.layers/$layers/up" "$root/.layers/$layers/work"
        mount -t overlay -o "lowerdir=$1,upperdir=$root/.layers/$layers/up,workdir=$root/.layers/$layers/work" \
            overlay "$root$1"
    fi
}
layer /run
mkdir -p "$root/run/netns"
mount -t tmpfs netns "$root/run/netns"

for i in "${!guests[@]}"; do
    guest=${guests[i]} host=${hosts[i]}
    [ "$guest" != "$host" ] || continue
    parent=${guest%/*}
    while [ -n "$parent" ] && [ ! -d "$parent" ]; do parent=${parent%/*}; done
    layer "$parent"
    mkdir -p "$root${guest%/*}"
    cp -aT "$host" "$root$guest"
done
for path in "$dir" "${collect[@]/#/\/}"; do
    [ "$path" = "$dir" ] || path=${path%/*}
    [ -d "$root$path" ] || mkdir -p "$root$path"
done

ip link set lo up
if [ -n "$network" ]; then
    ip link set eth0 up
    ip address add 10.0.2.15/24 dev eth0
    ip route add default via 10.0.2.2
fi

set +e
enter=(chroot "$root")
run_command
status=$?
send_collected
echo "exit $status" >&7
