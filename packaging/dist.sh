#!/bin/bash
# Makes the tarball, the .deb and, where there is an rpmbuild, the .rpm of one architecture, all of
# the same files, in target/dist, beside those of the other. The same sources give the same bytes
# (but for the .rpm).
#
#   packaging/dist.sh ARCHITECTURE DEBIANS-NAME-OF-IT ITS-LIBBLKID
set -euo pipefail

cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
arch=$1 deb_arch=$2 libblkid=$3
dist=$PWD/target/dist
work=$dist/$arch
tree=$work/tree
# dpkg-deb and rpmbuild go by it as well.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)}
export SOURCE_DATE_EPOCH

rm -rf "$work" "$dist"/vmstage-*-"$arch".tar.gz "$dist"/vmstage_*_"$deb_arch".deb "$dist"/vmstage-*."$arch".rpm
umask 022
make --no-print-directory install TARGET="$arch-unknown-linux-musl" DESTDIR="$tree" PREFIX=/usr >/dev/null
install -m 644 -t "$tree/usr/share/doc/vmstage" LICENSE-MIT LICENSE-APACHE CHANGELOG.md \
    packaging/copyright "$libblkid/COPYING.LGPL-2.1-or-later"

# A configuration that is there already is in nobody's way: the shipped one, all of it comments, is
# documentation. Only rpm can leave a changed one alone by itself.
rpm_tree=$work/rpm-tree
cp -a "$tree" "$rpm_tree"
rm "$tree/etc/vmstage.toml"

# Files alone: an entry for a directory would take the place of a link, as /usr/sbin is one on
# systems of today. And of /usr alone: /etc/init.d may be a link, and tar follows an absolute one
# out of an image. `vmstage install` has the script and puts it there.
tarball=$dist/vmstage-$version-$arch.tar.gz
(cd "$tree" && find usr -type f -print0 | sort -z) |
    tar -C "$tree" --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
        --no-recursion --null -T - -c | gzip -9n >"$tarball"
echo "$tarball"

deb=$dist/vmstage_${version}_$deb_arch.deb
cp -a "$tree" "$work/deb"
cp -r packaging/deb "$work/deb/DEBIAN"
sed -i "s/@VERSION@/$version/; s/@ARCHITECTURE@/$deb_arch/" "$work/deb/DEBIAN/control"
# gzip, which the dpkg of Ubuntu 12.04 knows.
dpkg-deb --root-owner-group -Zgzip --build "$work/deb" "$deb" >/dev/null
rm -r "$work/deb"
echo "$deb"

if command -v rpmbuild >/dev/null; then
    mkdir "$work/rpm"
    (cd "$rpm_tree" && find usr -type f -printf '/%p\n') >"$work/rpm/files"
    rpmbuild -bb --quiet --target "$arch-linux" --define "_topdir $work/rpm" --define "_rpmdir $dist" \
        --define "_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm" \
        --define "version $version" --define "tree $rpm_tree" --define "file_list $work/rpm/files" packaging/vmstage.spec
    rm -r "$work/rpm"
    echo "$dist/vmstage-$version-1.$arch.rpm"
else
    echo "no .rpm: there is no rpmbuild here"
fi
