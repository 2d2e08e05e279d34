#!/bin/bash
# Makes the tarball, the .deb and, where there is an rpmbuild, the .rpm, all of the
# same files, in target/dist. The same sources give the same bytes (but for the .rpm).
set -euo pipefail

cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
dist=$PWD/target/dist
tree=$dist/tree
# dpkg-deb and rpmbuild go by it as well.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)}
export SOURCE_DATE_EPOCH

rm -rf "$dist"
umask 022
make --no-print-directory install DESTDIR="$tree" PREFIX=/usr >/dev/null
install -m 644 -t "$tree/usr/share/doc/vmstage" LICENSE-MIT LICENSE-APACHE CHANGELOG.md \
    packaging/copyright target/libblkid/COPYING.LGPL-2.1-or-later

# A configuration that is there already is in nobody's way: the shipped one, all of it comments, is
# documentation. Only rpm can leave a changed one alone by itself.
rpm_tree=$dist/rpm-tree
cp -a "$tree" "$rpm_tree"
rm "$tree/etc/vmstage.toml"

# Files alone: an entry for a directory would take the place of a link, as /usr/sbin is one on
# systems of today. And of /usr alone: /etc/init.d may be a link, and tar follows an absolute one
# out of an image. `vmstage install` has the script and puts it there.
tarball=$dist/vmstage-$version-x86_64.tar.gz
(cd "$tree" && find usr -type f -print0 | sort -z) |
    tar -C "$tree" --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
        --no-recursion --null -T - -c | gzip -9n >"$tarball"
echo "$tarball"

deb=$dist/vmstage_${version}_amd64.deb
cp -a "$tree" "$dist/deb"
cp -r packaging/deb "$dist/deb/DEBIAN"
sed -i "s/@VERSION@/$version/" "$dist/deb/DEBIAN/control"
# gzip, which the dpkg of Ubuntu 12.04 knows.
dpkg-deb --root-owner-group -Zgzip --build "$dist/deb" "$deb" >/dev/null
rm -r "$dist/deb"
echo "$deb"

if command -v rpmbuild >/dev/null; then
    mkdir "$dist/rpm"
    (cd "$rpm_tree" && find usr -type f -printf '/%p\n') >"$dist/rpm/files"
    rpmbuild -bb --quiet --target x86_64-linux --define "_topdir $dist/rpm" --define "_rpmdir $dist" \
        --define "_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm" \
        --define "version $version" --define "tree $rpm_tree" --define "file_list $dist/rpm/files" packaging/vmstage.spec
    rm -r "$dist/rpm"
    echo "$dist/vmstage-$version-1.x86_64.rpm"
else
    echo "no .rpm: there is no rpmbuild here"
fi
