#!/bin/sh
# Builds a static libblkid for musl into target/libblkid, from the util-linux
# release that `pin` names, with the fixes in `patches`; for another architecture
# than x86_64 into target/libblkid-ARCHITECTURE.
#
#   LIBBLKID_TARBALL=FILE packaging/libblkid/build.sh [ARCHITECTURE]
#
# Without LIBBLKID_TARBALL, apt fetches the source from the Debian archives that
# this system is configured for. Either way its SHA-256 must be the pinned one.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
arch=${1:-x86_64}
# The source is there for all of them.
sources=$(cd "$here/../.." && pwd)/target/libblkid
out=$sources
[ "$arch" = x86_64 ] || out=$sources-$arch
version='' sha256=''
# shellcheck source=packaging/libblkid/pin
. "$here/pin"

say() { echo "libblkid: $*"; }
die() {
    echo "libblkid: $*" >&2
    exit 1
}

checksum() { sha256sum "$1" | cut -d' ' -f1; }

# apt in a state of its own: the system's sources and package lists stay as they are.
private_apt() {
    client=$1
    shift
    # As root apt would fetch as the user _apt, who need not be able to write here.
    "$client" -qq -o Dir::Etc::sourcelist="$out/apt/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::State::lists="$out/apt/lists" -o Dir::Cache="$out/apt/cache" \
        -o APT::Sandbox::User=root -o Acquire::Retries=3 "$@"
}

fetch() {
    command -v apt-get >/dev/null ||
        die "no apt-get here to fetch util-linux $version with; $own_tarball"
    mkdir -p "$out/apt/lists/partial" "$out/apt/cache/archives/partial"
    # A deb-src twin of the Debian archives among the system's sources, in the
    # words of apt itself, which understands both formats of those.
    # shellcheck disable=SC2016 # apt expands these
    apt-get indextargets --format \
        'deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(REPO_URI) $(RELEASE) $(COMPONENT)' \
        'Created-By: Packages' 'Origin: Debian' 'Component: main' | sort -u >"$out/apt/sources.list"
    [ -s "$out/apt/sources.list" ] ||
        die "apt knows of no Debian archive; run 'apt-get update' as root, or $own_tarball"

    private_apt apt-get update || die "apt cannot read the archive's list of sources; $own_tarball"
    # Debian's revision is not pinned: the archive keeps only the newest ones, and
    # the upstream tarball is the same in all of them.
    revision=$(private_apt apt-cache showsrc --only-source util-linux |
        sed -n "s/^Version: \($version-.*\)/\1/p" | sort -V | tail -n 1)
    [ -n "$revision" ] ||
        die "the configured Debian archives have no util-linux $version (Debian 12 has); $own_tarball"
    (cd "$out/apt" &&
        private_apt apt-get source --download-only --tar-only "util-linux=$revision") >/dev/null ||
        die "apt cannot fetch the source of util-linux $revision; $own_tarball"
    mv "$out/apt/util-linux_$version.orig.tar.xz" "$1"
    rm -rf "$out/apt"
}

build() {
    rm -rf "$out/build"
    mkdir -p "$out/build/kernel"
    cd "$out/build"
    tar -xf "$1" --strip-components=1
    for patch in "$here"/patches/*.patch; do
        patch -p1 <"$patch"
    done

    # musl brings no kernel headers. These four directories and nothing else, so
    # that no header of the host's C library can be found. Those for another
    # architecture are in a directory of their own.
    for headers in linux asm-generic mtd asm; do
        for include in /usr/include "/usr/include/$arch-linux-gnu" "/usr/$arch-linux-gnu/include"; do
            [ ! -d "$include/$headers" ] || ln -sfn "$include/$headers" kernel/
        done
    done

    # -fPIE since the program is a static PIE on x86_64; sections so that the linker drops
    # what is not used; the stack protector since this code reads foreign disks as
    # root; no pkg-config since it would find the host's libraries.
    ./configure --host="$arch-linux-musl" PKG_CONFIG=false \
        CC="$arch-linux-musl-gcc -idirafter $out/build/kernel" \
        CFLAGS="-Os -fPIE -ffunction-sections -fdata-sections -fstack-protector-strong" \
        --disable-shared --enable-static --disable-all-programs --enable-libblkid \
        --disable-nls --disable-asciidoc --disable-poman
    make -j"$(nproc)" libblkid.la
    mkdir -p "$out/lib" "$out/include/blkid"
    cp libblkid/src/blkid.h "$out/include/blkid/"
    cp Documentation/licenses/COPYING.LGPL-2.1-or-later "$out/"
    cp .libs/libblkid.a "$out/lib/"
    rm -rf "$out/build"
}

own_tarball="give the upstream release yourself: LIBBLKID_TARBALL=util-linux-$version.tar.xz"

# What the library was made from; the same recipe is not built twice.
recipe=$(cat "$0" "$here/pin" "$here"/patches/*.patch | checksum -)
if [ -e "$out/lib/libblkid.a" ] && [ "$(cat "$out/recipe" 2>/dev/null)" = "$recipe" ]; then
    exit 0
fi
mkdir -p "$out" "$sources"
rm -rf "$out/recipe" "${out:?}/lib" "${out:?}/include"

tarball=${LIBBLKID_TARBALL:-$sources/util-linux-$version.tar.xz}
if [ ! -e "$tarball" ]; then
    [ -z "${LIBBLKID_TARBALL:-}" ] || die "LIBBLKID_TARBALL: there is no $tarball"
    say "fetching the source of util-linux $version"
    fetch "$tarball"
fi
tarball=$(realpath "$tarball")
found=$(checksum "$tarball")
[ "$found" = "$sha256" ] || die "$tarball is not util-linux $version as pinned:
  SHA-256 is  $found
  and must be $sha256
Nothing was built. If the file was damaged on its way, delete it and try again."

say "building it for musl on $arch (log: $out/build.log)"
trap 'tail -n 20 "$out/build.log"; die "the build failed; its whole output is in $out/build.log"' EXIT
(build "$tarball") >"$out/build.log" 2>&1
trap - EXIT
echo "$recipe" >"$out/recipe"
