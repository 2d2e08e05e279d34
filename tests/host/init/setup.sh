#!/bin/bash
# Becomes process 1 of a guest: a root of its own in the mount and pid namespaces that
# it was started in. Its mounts lie on a tmpfs that nobody outside ever sees.
#
# usage: setup.sh DIRECTORY debian|sl5|busybox BASH BUSYBOX
set -eu
root=$1 system=$2 bash=$3 busybox=$4

mount -t tmpfs -o mode=0755 guest "$root"
cd "$root"
mkdir -p dev etc/init.d fake mnt proc root sbin.own tmp usr/sbin var

share() { # host directory, read-only
    mkdir -p "$root$1"
    mount --bind "$1" "$root$1"
    mount -o remount,bind,ro "$root$1"
}
as_on_the_host() { # a directory, or its link into /usr
    if [ -h "$1" ]; then cp -P "$1" "$root$1"; elif [ -d "$1" ]; then share "$1"; fi
}

case $system in
debian | sl5)
    share /usr
    # What the guest has here is ours alone: no start-stop-daemon, no service.
    mount --bind "$root/sbin.own" "$root/usr/sbin"
    for directory in /bin /lib /lib64; do as_on_the_host "$directory"; done
    ;;
busybox)
    # No command but busybox's. The libraries are for the fake's bash.
    share /usr/lib
    for directory in /lib /lib64 /usr/lib64; do as_on_the_host "$directory"; done
    mkdir -p bin usr/bin
    cp "$busybox" bin/busybox
    mkdir sbin
    chroot . /bin/busybox --install -s
    rm -f bin/bash
    ;;
esac
[ -e sbin ] || ln -s usr/sbin sbin

case $system in
debian | busybox) mkdir run && ln -s ../run var/run ;;
sl5) mkdir var/run ;;
esac

touch dev/null fake/bash
mount --bind /dev/null dev/null
mount --bind "$bash" fake/bash
mount -t proc proc proc
# The program looks there for disks, systemd for the cgroup it is in.
mkdir sys
mount --rbind /sys sys

# Where the host finds this process: /proc is still the host's here.
read -r pid _ </proc/self/stat
# Runs what it is told, as init does, and reaps what nobody else does. The guest ends
# with its standard input.
# shellcheck disable=SC2016 # for that shell, not for this one
exec chroot . /fake/bash -c 'cd /; echo "$0"; while read -r line; do eval "$line"; done' "$pid"
