#!/bin/bash
# Installs what building vmstage needs on Debian 12, and leaves alone what is
# there. Run as root or as a user who may sudo. Rust itself comes first, by rustup.
#
#   packaging/deps.sh [PURPOSE...]      for `make`, and for what is named: lint (`make lint`),
#                                       test (`make test`), guest (whole guests), cross (to
#                                       build for aarch64), cross-test (to run what was built)
#   packaging/deps.sh --check [cross]   only says what `make` misses
set -euo pipefail

# What each purpose needs, by the Debian package that has it: a command or, with a
# slash, a file. libclang is for blkid-sys, libblkid-dev for builds against glibc.
declare -A needs
needs[build]='
gcc cc
libblkid-dev /usr/include/blkid/blkid.h
libc6-dev /usr/include/stdio.h
libclang-dev /usr/lib/llvm-*/lib/libclang.so
linux-libc-dev /usr/include/linux/fs.h
make make
musl-tools musl-gcc
patch patch
xz-utils xz'
needs[lint]='
shellcheck shellcheck'
needs[test]='
btrfs-progs mkfs.btrfs
busybox busybox
cpio cpio
debootstrap debootstrap
dosfstools mkfs.vfat
e2fsprogs mkfs.ext4
f2fs-tools mkfs.f2fs
fdisk sfdisk
g++ g++
genisoimage genisoimage
groff-base groff
insserv insserv
iproute2 ip
mandoc mandoc
ntfs-3g mkntfs
rpm rpmbuild
strace strace
systemd systemd-analyze
xfsprogs mkfs.xfs'
needs[guest]='
dosfstools mkfs.vfat
e2fsprogs debugfs
genisoimage genisoimage
lz4 lz4
mmdebstrap mmdebstrap
python3 python3
qemu-system-x86 qemu-system-x86_64
systemd systemctl
xfsprogs mkfs.xfs'
# What of Debian's arm64 is installed beside this machine's own is headers and static
# libraries; nothing here needs its programs.
needs[cross]='
gcc-aarch64-linux-gnu aarch64-linux-gnu-gcc
linux-libc-dev-arm64-cross /usr/aarch64-linux-gnu/include/linux/fs.h
musl-dev:arm64 aarch64-linux-musl-gcc'
needs[cross-test]='
qemu-system-arm qemu-system-aarch64
qemu-user-static qemu-aarch64-static'

# Where some of these are, and users do not look.
PATH=$PATH:/usr/sbin:/sbin

say() { echo "deps: $*"; }
die() {
    echo "deps: $*" >&2
    exit 1
}

# The packages, among those in the table $1, whose command or file is not there.
missing_packages() {
    local package thing
    while read -r package thing; do
        case $thing in
        */*) compgen -G "$thing" >/dev/null || echo "$package" ;;
        ?*) command -v "$thing" >/dev/null || echo "$package" ;;
        esac
    done <<<"$1"
}

# What Rust builds for, as far as it cannot yet.
missing_targets() {
    local target
    for target in x86_64-unknown-linux-musl ${cross:+aarch64-unknown-linux-musl}; do
        [ -d "$(rustc --print target-libdir --target "$target")" ] || echo "$target"
    done
}

missing_components() {
    cargo fmt --version >/dev/null 2>&1 || echo rustfmt
    cargo clippy --version >/dev/null 2>&1 || echo clippy
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "run this as root, or install sudo"
    fi
}

# Waits for other users of apt: only dpkg's own lock has a timeout.
apt() {
    local tries=0
    until as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@"; do
        tries=$((tries + 1))
        [ $tries -lt 5 ] || die "apt-get $* failed $tries times"
        say "apt-get $1 failed; trying again in 10 s"
        sleep 10
    done
}

# musl's headers for aarch64, and what its guests are made of, are packages of Debian's arm64.
arm64_is_missing() {
    [ -n "$cross" ] && ! dpkg --print-foreign-architectures | grep -qx arm64
}

add_arm64() {
    say "to build for aarch64, dpkg gets arm64 as a foreign architecture (what 'dpkg --remove-architecture arm64' takes back)"
    say "who builds for x86_64 alone needs none of it: make deps TARGET=x86_64-unknown-linux-musl"
    as_root dpkg --add-architecture arm64
}

add_to_toolchain() {
    command -v rustup >/dev/null ||
        die "the Rust toolchain has no $2, and there is no rustup to add it with"
    say "adding the $1 $2 to the Rust toolchain"
    rustup "$1" add "$2"
}

command -v cargo >/dev/null ||
    die "there is no Rust toolchain on the PATH; install one with rustup (https://rustup.rs), then run this again"

cross=
[[ " $* " != *" cross"* ]] || cross=yes
if [ "${1:-}" = --check ]; then
    mapfile -t missing < <(missing_packages "${needs[build]}${cross:+${needs[cross]}}" && missing_targets)
    [ ${#missing[@]} = 0 ] ||
        die "missing: ${missing[*]}; run 'make deps' (or packaging/deps.sh${cross:+ cross}), which installs what is missing"
    exit 0
fi
table=${needs[build]}
for purpose in "$@"; do
    case $purpose in
    lint | test | guest | cross | cross-test) table+=${needs[$purpose]} ;;
    *) die "usage: packaging/deps.sh [lint] [test] [guest] [cross] [cross-test] | --check [cross]" ;;
    esac
done

mapfile -t packages < <(missing_packages "$table" | sort -u)
if ! command -v apt-get >/dev/null; then
    [ ${#packages[@]} = 0 ] ||
        die "no apt-get here; install what these are on Debian: ${packages[*]}"
# libblkid's source comes from the archives that apt's package lists name.
elif [ ${#packages[@]} != 0 ] || [ -z "$(apt-get indextargets 'Origin: Debian')" ] || arm64_is_missing; then
    ! arm64_is_missing || add_arm64
    say "updating apt's package lists"
    apt update
fi
if [ ${#packages[@]} != 0 ]; then
    say "installing ${packages[*]}"
    apt install --no-install-recommends -y "${packages[@]}"
fi
if [[ " $* " = *" lint "* ]]; then
    for component in $(missing_components); do
        add_to_toolchain component "$component"
    done
fi
for target in $(missing_targets); do
    add_to_toolchain target "$target"
done
say "everything is there"
