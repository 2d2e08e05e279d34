#!/bin/sh
# What images did before: a script that finds and mounts the disk, and the lines of
# rc.local that call it and go on from there. Written anew after its description.

if grep -q /staging /etc/mtab; then
    echo "/staging is mounted already"
else
    mkdir -p /staging
    device=
    for label in ephemeral0 blankpartition0; do
        if [ -e /dev/disk/by-label/$label ]; then
            device=/dev/disk/by-label/$label
            break
        fi
    done
    if [ -z "$device" ]; then
        for name in /dev/vdb /dev/sdb /dev/xvdb; do
            if [ -b $name ]; then
                device=$name
                break
            fi
        done
    fi
    if [ -z "$device" ]; then
        echo "no ephemeral disk"
        exit 1
    fi
    mount $device /staging || exit 1
fi

# rc.local
mkdir -p /staging/condor
chown condor:condor /staging/condor
mkdir -p /staging/tmp
chmod 1777 /staging/tmp
