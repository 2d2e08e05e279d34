#!/bin/bash
# What `make`, `make install` and `make dist` make, and how they refuse. Without
# arguments every claim below, else those that are named.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

target=x86_64-unknown-linux-musl
binary=target/$target/release/vmstage
man_page=target/generated/vmstage.8
page_of_the_configuration=target/generated/vmstage.toml.5

fail() {
    echo "    $*"
    exit 1
}

# A claim that this machine cannot look at ends with 77, and in CI that is a failure.
need() {
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null || {
            echo "    there is no $tool here (packaging/deps.sh test)"
            exit 77
        }
    done
}

equal() {
    [ "$1" = "$2" ] || fail "expected and found:" "$(diff <(echo "$1") <(echo "$2"))"
}

files_in() { (cd "$1" && find . -type f -printf '%m %P\n' | LC_ALL=C sort -k 2); }

the_binary_is_static_stripped_and_at_most_2710_kib() {
    need readelf
    ! readelf --wide --program-headers --dynamic $binary | grep -E 'INTERP|NEEDED' ||
        fail "it asks for an interpreter or a library"
    ! readelf --wide --sections $binary | grep -E '\.symtab|\.debug' || fail "it is not stripped"
    local size
    size=$(stat -c %s $binary)
    [ "$size" -le $((2710 * 1024)) ] || fail "it has $size bytes"
}

the_binary_runs_where_there_is_nothing_else() {
    [ "$(id -u)" = 0 ] || { echo "    chroot needs root"; exit 77; }
    cp $binary "$tmp/vmstage"
    equal "vmstage $version" "$(chroot "$tmp" /vmstage --version)"
}

the_binary_has_the_libblkid_that_is_pinned() {
    local pinned
    pinned=$(sed -n 's/^version=//p' packaging/libblkid/pin)
    grep -aqF "$pinned" $binary || fail "there is no $pinned in it"
    grep -q "BLKID_VERSION *\"$pinned" target/libblkid/include/blkid/blkid.h || fail "other headers"
}

a_target_that_is_not_built_for_is_refused() {
    local said
    if said=$(make -s TARGET=riscv64gc-unknown-linux-musl 2>&1); then fail "it went on: $said"; fi
    grep -q 'TARGET must be one of x86_64-unknown-linux-musl aarch64-unknown-linux-musl, not "riscv64gc' <<<"$said" ||
        fail "$said"
}

install_puts_every_file_in_its_place() {
    make -s install DESTDIR="$tmp" PREFIX=/usr || fail "make install failed"
    equal "755 etc/init.d/vmstage
644 etc/vmstage.toml
644 usr/lib/systemd/system-preset/80-vmstage.preset
644 usr/lib/systemd/system/condor.service.d/vmstage.conf
644 usr/lib/systemd/system/vmstage-watch.service
644 usr/lib/systemd/system/vmstage.service
755 usr/sbin/vmstage
644 usr/share/bash-completion/completions/vmstage
755 usr/share/doc/vmstage/50-vmstage
644 usr/share/doc/vmstage/nss-user-lookup.conf
644 usr/share/doc/vmstage/rc.local.sl
644 usr/share/doc/vmstage/rc.local.ubuntu
644 usr/share/doc/vmstage/vmstage.toml
644 usr/share/fish/vendor_completions.d/vmstage.fish
644 usr/share/man/man5/vmstage.toml.5
644 usr/share/man/man8/vmstage.8
644 usr/share/zsh/site-functions/_vmstage" "$(files_in "$tmp")"
    cmp $binary "$tmp/usr/sbin/vmstage" || fail "another binary"
}

install_says_that_it_enables_nothing() {
    grep -q "nothing is enabled" <<<"$(make -s install DESTDIR="$tmp")" || fail "it does not say so"
}

install_leaves_an_existing_configuration_alone() {
    mkdir "$tmp/etc"
    echo mine >"$tmp/etc/vmstage.toml"
    grep -q "vmstage.toml is there already" <<<"$(make -s install DESTDIR="$tmp")" || fail "it says nothing of it"
    equal mine "$(cat "$tmp/etc/vmstage.toml")"
}

another_prefix_is_in_all_that_names_the_program() {
    make -s install DESTDIR="$tmp" PREFIX=/opt/vm >/dev/null || fail "make install failed"
    ! grep -rI /usr/sbin/vmstage "$tmp" || fail "these name another program than the installed one"
    local file
    for file in opt/vm/lib/systemd/system/vmstage.service opt/vm/lib/systemd/system/vmstage-watch.service \
        etc/init.d/vmstage opt/vm/share/doc/vmstage/rc.local.sl opt/vm/share/doc/vmstage/rc.local.ubuntu; do
        grep -q /opt/vm/sbin/vmstage "$tmp/$file" || fail "$file does not name /opt/vm/sbin/vmstage"
    done
    [ -x "$tmp/opt/vm/sbin/vmstage" ] || fail "no program there"
}

the_man_page_has_every_command_and_exit_code_and_no_mistake() {
    need groff
    equal "" "$(groff -man -Tutf8 -ww -z $man_page 2>&1)"
    local text command code
    text=$(groff -man -Tutf8 $man_page | sed 's/.\x08//g; s/\x1b\[[0-9;]*m//g')
    commands() { $binary "$@" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' | grep -vx help; }
    for command in $(commands | grep -vx plan) $(commands plan | sed 's/^/plan./'); do
        grep -q "vmstage $command$" <<<"$text" || fail "nothing on vmstage $command"
    done
    for code in 0 1 2 3 4 5 6; do
        sed -n '/^EXIT STATUS/,/^ENVIRONMENT/p' <<<"$text" | grep -q "^ *$code  " || fail "nothing on exit code $code"
    done
    local section
    for section in ENVIRONMENT FILES EXAMPLES 'SEE ALSO'; do
        grep -qx "$section" <<<"$text" || fail "there is no section $section"
    done
}

# That it has every key is a test of the rules (src/documentation.rs).
the_page_of_the_configuration_has_no_mistake() {
    need groff mandoc
    equal "" "$(groff -man -Tutf8 -ww -z $page_of_the_configuration 2>&1)"
    equal "" "$(mandoc -T lint -W error $page_of_the_configuration $man_page 2>&1)"
    local text
    text=$(groff -man -Tutf8 $page_of_the_configuration | sed 's/.\x08//g; s/\x1b\[[0-9;]*m//g')
    grep -A 4 "^ *device_timeout" <<<"$text" | grep -q "How long all disks together" || fail "$text"
}

bash_completes_commands_and_options() {
    equal "probe --format" "$(
        # shellcheck source=/dev/null
        source target/generated/vmstage.bash
        complete_word() {
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
            _vmstage vmstage "${*: -1}" "${*: -2:1}"
            echo "${COMPREPLY[*]}"
        }
        echo "$(complete_word vmstage pr)" "$(complete_word vmstage probe --fo)"
    )"
}

a_source_of_libblkid_with_another_sum_stops_the_build() {
    mkdir "$tmp/packaging"
    cp -r packaging/libblkid "$tmp/packaging/"
    echo "not util-linux" >"$tmp/util-linux.tar.xz"
    local said
    if said=$(LIBBLKID_TARBALL=$tmp/util-linux.tar.xz "$tmp/packaging/libblkid/build.sh" 2>&1); then
        fail "it went on: $said"
    fi
    grep -q "$(sha256sum <"$tmp/util-linux.tar.xz" | cut -d' ' -f1)" <<<"$said" || fail "the found sum is not named: $said"
    grep -q "$(sed -n 's/^sha256=//p' packaging/libblkid/pin)" <<<"$said" || fail "the pinned sum is not named: $said"
    [ ! -e "$tmp/target/libblkid/lib" ] || fail "there is a library"
}

a_missing_tool_is_named_with_the_way_to_install_it() {
    local tool said
    mkdir "$tmp/bin"
    for tool in cc make patch xz cargo rustc; do
        ln -s "$(command -v $tool)" "$tmp/bin/$tool"
    done
    if said=$(PATH=$tmp/bin packaging/deps.sh --check 2>&1); then
        fail "nothing is missing without musl-gcc"
    fi
    equal "deps: missing: musl-tools; run 'make deps' (or packaging/deps.sh), which installs what is missing" "$said"
}

the_packages_have_what_install_puts_and_the_licences() {
    need dpkg-deb rpm rpmbuild
    make -s dist TARGET=$target >"$tmp/log" 2>&1 || fail "make dist failed:" "$(cat "$tmp/log")"
    make -s install DESTDIR="$tmp/installed" PREFIX=/usr >/dev/null
    mkdir "$tmp/tar" "$tmp/deb"
    tar -xzf target/dist/vmstage-"$version"-x86_64.tar.gz -C "$tmp/tar"
    dpkg-deb -x target/dist/vmstage_"$version"_amd64.deb "$tmp/deb"
    local expected rpm=target/dist/vmstage-$version-1.x86_64.rpm
    expected=$({
        files_in "$tmp/installed"
        printf '644 usr/share/doc/vmstage/%s\n' CHANGELOG.md COPYING.LGPL-2.1-or-later LICENSE-APACHE LICENSE-MIT copyright
    } | LC_ALL=C sort -k 2)
    # What would be in the way of a changed configuration is in the documentation alone.
    local but_configuration
    but_configuration=$(grep -v " etc/vmstage.toml$" <<<"$expected")
    # And nothing in /etc, where a link may lead out of an image.
    equal "$(grep -v " etc/" <<<"$expected")" "$(files_in "$tmp/tar")"
    equal "$but_configuration" "$(files_in "$tmp/deb")"
    equal "$expected" "$(rpm -qp --qf '[%{FILEMODES:octal} %{FILENAMES}\n]' "$rpm" |
        sed -n 's/^100\([0-7]*\) \//\1 /p' | LC_ALL=C sort -k 2)"
    equal "/etc/vmstage.toml" "$(rpm -qp --configfiles "$rpm")"
}

# What an ELF file is for, as readelf has it.
machine_of() { readelf --file-header "$1" | sed -n 's/^ *Machine: *//p'; }

packages_of_both_architectures_are_side_by_side_each_with_its_own_binary() {
    need dpkg-deb rpm rpm2cpio rpmbuild readelf cpio
    packaging/deps.sh --check cross || { echo "    nothing here builds for aarch64"; exit 77; }
    make -s dist >"$tmp/log" 2>&1 || fail "make dist failed:" "$(cat "$tmp/log")"
    local dist=$PWD/target/dist
    equal "vmstage-$version-1.aarch64.rpm
vmstage-$version-1.x86_64.rpm
vmstage-$version-aarch64.tar.gz
vmstage-$version-x86_64.tar.gz
vmstage_${version}_amd64.deb
vmstage_${version}_arm64.deb" "$(cd "$dist" && find . -maxdepth 1 -type f -printf '%f\n' | LC_ALL=C sort)"
    # One that was made alone leaves the other's where they are.
    make -s dist TARGET=$target >"$tmp/log" 2>&1 || fail "make dist failed:" "$(cat "$tmp/log")"
    local arch deb machine way
    while read -r arch deb machine; do
        mkdir -p "$tmp/$arch"/{tarball,deb,rpm}
        tar -xzf "$dist/vmstage-$version-$arch.tar.gz" -C "$tmp/$arch/tarball"
        dpkg-deb -x "$dist/vmstage_${version}_$deb.deb" "$tmp/$arch/deb"
        (cd "$tmp/$arch/rpm" && rpm2cpio "$dist/vmstage-$version-1.$arch.rpm" | cpio -id --quiet)
        equal "$deb" "$(dpkg-deb -f "$dist/vmstage_${version}_$deb.deb" Architecture)"
        equal "$arch linux" "$(rpm -qp --qf '%{ARCH} %{OS}' "$dist/vmstage-$version-1.$arch.rpm")"
        for way in tarball deb rpm; do
            equal "$machine" "$(machine_of "$tmp/$arch/$way/usr/sbin/vmstage")"
            equal "$(files_in "$tmp/x86_64/$way")" "$(files_in "$tmp/$arch/$way")"
        done
        ! readelf --wide --program-headers --dynamic "$tmp/$arch/deb/usr/sbin/vmstage" | grep -E 'INTERP|NEEDED' ||
            fail "$arch: it asks for an interpreter or a library"
    done <<<"x86_64 amd64 Advanced Micro Devices X86-64
aarch64 arm64 AArch64"
    # But for the program they are the same.
    equal "Files $tmp/x86_64/rpm/usr/sbin/vmstage and $tmp/aarch64/rpm/usr/sbin/vmstage differ" \
        "$(diff -rq "$tmp/x86_64/rpm" "$tmp/aarch64/rpm")"
}

without_the_tools_for_aarch64_dist_makes_the_others_packages_and_says_what_to_do() {
    need dpkg-deb
    local said
    # The PATH as it is, without the cross compilers.
    mkdir "$tmp/bin"
    # shellcheck disable=SC2086 # several words
    find ${PATH//:/ } /usr/sbin -maxdepth 1 ! -type d ! -name '*aarch64*' -exec ln -st "$tmp/bin" {} + 2>/dev/null
    rm -f target/dist/vmstage*
    said=$(PATH=$tmp/bin CI='' make -s dist 2>&1) || fail "make dist failed: $said"
    grep -q "^deps: missing: gcc-aarch64-linux-gnu musl-dev:arm64; run 'make deps' " <<<"$said" || fail "$said"
    grep -q "^no packages for aarch64" <<<"$said" || fail "$said"
    [ -e "target/dist/vmstage_${version}_amd64.deb" ] || fail "nor for x86_64: $said"
    [ ! -e "target/dist/vmstage_${version}_arm64.deb" ] || fail "packages without tools: $said"
    # Who has everything tested is not told that all is well.
    ! PATH=$tmp/bin CI=true make -s dist >/dev/null 2>&1 || fail "no failure in CI"
}

# Runs a script in a Debian of its own, which is made once. It finds the packages in /dist, and those of
# before, where a claim has made some, in /before. With
# `beside` the script runs outside, in that Debian's root directory.
in_debian() {
    need mmdebstrap dpkg-deb
    [ "$(id -u)" = 0 ] || { echo "    a chroot needs root"; exit 77; }
    local debian=$PWD/target/packaging/debian
    [ -e target/dist/vmstage_"$version"_amd64.deb ] || make -s dist TARGET=$target >"$tmp/log" 2>&1 || fail "$(cat "$tmp/log")"
    if [ ! -d "$debian" ]; then
        mkdir -p "${debian%/*}"
        mmdebstrap --mode=root --variant=essential --quiet bookworm "$debian.partial" || fail "no Debian can be made"
        mv "$debian.partial" "$debian"
    fi
    mkdir -p "$tmp/root"
    # shellcheck disable=SC2016 # the other shell expands it
    unshare --mount --net sh -euc '
        mount -t tmpfs none "$1"
        mkdir "$1/upper" "$1/work" "$1/root"
        mount -t overlay none "$1/root" -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work"
        mkdir "$1/root/dist"
        mount --bind target/dist "$1/root/dist"
        if [ -d "$5" ]; then
            mkdir "$1/root/before"
            mount --bind "$5" "$1/root/before"
        fi
        cd "$1/root"
        [ "$4" = beside ] || exec chroot . sh -euc "$3"
        sh -euc "$3"
    ' in_debian "$tmp/root" "$debian" "$1" "${2:-inside}" "$tmp/before"
}

# What packages of 0.1.0 put into a system, with their own scripts and configuration: in tests/packaging.
# Their version is a little lower here, for today's may still have the same.
the_tree_of_0_1_0() {
    mkdir -p "$tmp/before"
    make -s install DESTDIR="$tmp/old" PREFIX=/usr >/dev/null || fail "make install failed"
    cp tests/packaging/0.1.0/vmstage.toml "$tmp/old/etc/vmstage.toml"
    rm -r "$tmp/old/usr/lib/systemd/system-preset"
}

the_deb_of_0_1_0() {
    the_tree_of_0_1_0
    cp -r tests/packaging/0.1.0/deb "$tmp/old/DEBIAN"
    sed -i "s/@VERSION@/0.1.0~/" "$tmp/old/DEBIAN/control"
    dpkg-deb --root-owner-group -Zgzip --build "$tmp/old" "$tmp/before/old.deb" >/dev/null || fail "no package"
}

the_rpm_of_0_1_0() {
    the_tree_of_0_1_0
    (cd "$tmp/old" && find usr -type f -printf '/%p\n') >"$tmp/files"
    sed "s/^Release: 1/Release: 0/" tests/packaging/0.1.0/vmstage.spec >"$tmp/old.spec"
    rpmbuild -bb --quiet --target x86_64-linux --define "_topdir $tmp/rpm" --define "_rpmdir $tmp/before" \
        --define "_rpmfilename old.rpm" --define "version 0.1.0" --define "tree $tmp/old" \
        --define "file_list $tmp/files" "$tmp/old.spec" >"$tmp/log" 2>&1 || fail "$(cat "$tmp/log")"
}

an_upgrade_over_a_changed_configuration_asks_nobody_and_leaves_it_in_force() {
    need dpkg-deb
    local said
    the_deb_of_0_1_0
    # shellcheck disable=SC2016 # the other shell expands it
    said=$(in_debian '
        dpkg -i /before/old.deb >/dev/null 2>&1
        dpkg-query -W -f "\${Conffiles}\n" vmstage | sed -n "s/^ \(.*toml\) .*/it was \1/p"
        echo "staging.mount_point = \"/changed\"" >/etc/vmstage.toml
        dpkg -i /dist/vmstage_*_amd64.deb </dev/null >/dev/null
        dpkg-query -W -f "\${Status}\n" vmstage
        cat /etc/vmstage.toml
        ls /etc/vmstage.toml*
        mkdir -p /changed/left && vmstage check --root / 2>/dev/null | grep -o "below-mount /changed"
        # Enabled as before.
        ls /etc/rc2.d /etc/systemd/system/multi-user.target.wants | grep vmstage
    ' 2>&1) || fail "$said"
    equal 'it was /etc/vmstage.toml
install ok installed
staging.mount_point = "/changed"
/etc/vmstage.toml
below-mount /changed
S01vmstage
vmstage-watch.service
vmstage.service' "$said"
}

an_rpm_upgrade_over_a_changed_configuration_leaves_it_in_force() {
    need rpm rpmbuild
    local said
    the_rpm_of_0_1_0
    # shellcheck disable=SC2016 # the other shell expands it
    said=$(in_debian '
        export LC_ALL=C
        rpm="rpm --root $PWD"
        mkdir -p usr/lib/sysimage
        $rpm --initdb
        $rpm --nodeps -i before/old.rpm >/dev/null
        $rpm -qc vmstage
        echo "staging.mount_point = \"/changed\"" >etc/vmstage.toml
        $rpm --nodeps -U dist/vmstage-*.x86_64.rpm </dev/null >/dev/null
        $rpm -q --qf "%{VERSION}-%{RELEASE}\n" vmstage
        cat etc/vmstage.toml
        # The shipped one is beside it: it has changed since.
        grep -c . etc/vmstage.toml.rpmnew >/dev/null && ls etc/vmstage.toml*
        cmp usr/share/doc/vmstage/vmstage.toml etc/vmstage.toml.rpmnew
        $rpm --nodeps -e vmstage >/dev/null
        ls etc/vmstage.toml*
    ' beside 2>&1) || fail "$said"
    equal "/etc/vmstage.toml
$version-1
staging.mount_point = \"/changed\"
etc/vmstage.toml
etc/vmstage.toml.rpmnew
etc/vmstage.toml.rpmnew
etc/vmstage.toml.rpmsave" "$(grep -v '^rpm: \|^warning: ' <<<"$said")"
}

the_package_says_that_it_starts_at_the_next_boot() {
    in_debian 'dpkg -i /dist/vmstage_*_amd64.deb' | grep -q "starts at the next boot" || fail "it does not say so"
}

a_purge_leaves_nothing_and_takes_back_what_was_published() {
    local said
    said=$(in_debian '
        # What is meant to stay: dpkg notes what it has done.
        list() {
            find / -xdev \( -path /proc -o -path /dist -o -path /var/lib/dpkg -o -path /var/log -o -path /tmp \
                -o -path /var/cache/ldconfig \) -prune -o -printf "%y %p %l\n" | sort
        }
        mkdir -p /etc/condor/config.d /etc/profile.d /var/lib/prometheus/node-exporter
        list >/tmp/before
        dpkg -i /dist/vmstage_*_amd64.deb >/dev/null
        mkdir -p /etc/machinefeatures /var/lib/vmstage
        echo "START = False" >/etc/condor/config.d/99-vmstage.config
        printf 4 >/etc/machinefeatures/total_cpu
        echo "total_cpu 4" >/etc/machinefeatures/.vmstage
        echo export MACHINEFEATURES >/etc/profile.d/vmstage.sh
        echo vmstage_ready 1 >/var/lib/prometheus/node-exporter/vmstage.prom
        echo "{}" >/var/lib/vmstage/first-boot.json
        echo "[staging]" >/etc/vmstage.toml
        dpkg -r vmstage >/dev/null
        # Without the program nobody would ever take these back.
        ls /etc/condor/config.d /etc/profile.d/vmstage.sh /etc/machinefeatures 2>/dev/null | grep vmstage || true
        find /etc/rc?.d /etc/systemd -name "*vmstage*"
        dpkg -P vmstage >/dev/null
        list >/tmp/after
        diff /tmp/before /tmp/after
    ' 2>&1) || fail "$said"
    equal "" "$(grep -v '^vmstage: \|^remove ' <<<"$said")"
}

an_rpm_that_is_erased_takes_back_what_was_published_and_leaves_no_links() {
    need rpm
    local said
    # shellcheck disable=SC2016 # the other shell expands it
    said=$(in_debian '
        export LC_ALL=C
        rpm="rpm --root $PWD --nodeps"
        list() {
            find . -xdev \( -path ./proc -o -path ./dist -o -path ./var/lib/rpm -o -path ./root \) -prune \
                -o -printf "%y %p %l\n" | sort
        }
        mkdir -p etc/condor/config.d etc/rc3.d
        mkdir -p usr/lib/sysimage
        rpm --root "$PWD" --initdb
        list >"$OLDPWD/$$.before"
        $rpm -i dist/vmstage-*.x86_64.rpm
        grep -q . etc/vmstage.toml
        echo "START = False" >etc/condor/config.d/99-vmstage.config
        ln -s ../init.d/vmstage etc/rc3.d/K02vmstage
        $rpm -e vmstage
        list >"$OLDPWD/$$.after"
        diff "$OLDPWD/$$.before" "$OLDPWD/$$.after" || true
        rm "$OLDPWD/$$.before" "$OLDPWD/$$.after"
    ' beside 2>&1) || fail "$said"
    # Debian's rpm says that this is not its way.
    equal "" "$(grep -v '^vmstage: \|^remove \|^rpm: ' <<<"$said")"
}

# Runs the installation scripts of both packages, and prints which commands of vmstage they call.
# Given are what `status` exits with, what `probe` prints, and what `boot` exits with; and, for a first
# installation, what dpkg and rpm say of it.
commands_at_an_upgrade() {
    local bin=$tmp/bin name
    mkdir -p "$bin" || fail "no directory for the programs"
    for name in deb-systemd-helper update-rc.d systemctl chkconfig; do
        printf '#!/bin/sh\n' >"$bin/$name"
    done
    cat >"$bin/vmstage" <<-END
	#!/bin/sh
	echo \$1 >>"$tmp/called"
	case \$1 in
	status) exit $1 ;;
	probe) echo "$2" ;;
	boot) exit $3 ;;
	esac
	END
    chmod 755 "$bin"/*
    echo deb: >"$tmp/called"
    PATH=$bin:$PATH sh packaging/deb/postinst configure "${4-0.1.0}" >/dev/null || fail "postinst fails"
    echo rpm: >>"$tmp/called"
    sed -n '/^%post$/,/^%preun$/p' packaging/vmstage.spec | sed '1d;$d' >"$tmp/post"
    PATH=$bin:$PATH sh -e "$tmp/post" "${5-2}" >/dev/null || fail "%post fails"
    xargs <"$tmp/called"
}

an_upgrade_has_a_disk_marked_that_is_staged_and_mounts_none() {
    local staged="/dev/vdb is already mounted on /staging"
    equal "deb: status probe boot rpm: status probe boot" "$(commands_at_an_upgrade 0 "$staged" 0)"
    equal "deb: status rpm: status" "$(commands_at_an_upgrade 1 "$staged" 0)"
    equal "deb: status probe rpm: status probe" "$(commands_at_an_upgrade 0 "boot would mount /dev/vdb on /staging" 0)"
    equal "deb: status probe rpm: status probe" "$(commands_at_an_upgrade 0 "" 0)"
    equal "deb: status probe boot rpm: status probe boot" "$(commands_at_an_upgrade 0 "$staged" 1 2>/dev/null)"
}

a_first_installation_is_enabled_by_the_program_itself() {
    equal "deb: install status rpm: install status" "$(commands_at_an_upgrade 1 "" 0 "" 1)"
}

the_tarball_goes_through_the_links_of_an_image() {
    make -s dist TARGET=$target >"$tmp/log" 2>&1 || fail "make dist failed:" "$(cat "$tmp/log")"
    mkdir -p "$tmp/image/usr/bin"
    ln -s bin "$tmp/image/usr/sbin"
    echo theirs >"$tmp/image/usr/bin/sh"
    tar -xzf target/dist/vmstage-"$version"-x86_64.tar.gz -C "$tmp/image"
    equal theirs "$(cat "$tmp/image/usr/sbin/sh")"
    [ -x "$tmp/image/usr/bin/vmstage" ] || fail "the program is not where the link leads"
}

a_prefix_that_scripts_cannot_bear_is_refused() {
    local prefix
    for prefix in "/opt/my vm" "/opt/a&b" "/opt/a|b" "/opt/it's" usr; do
        if make -s install DESTDIR="$tmp/d" PREFIX="$prefix" >"$tmp/log" 2>&1; then
            fail "PREFIX=$prefix is taken"
        fi
        grep -q "PREFIX must be an absolute path" "$tmp/log" || fail "$(cat "$tmp/log")"
        [ ! -e "$tmp/d" ] || fail "PREFIX=$prefix: something is installed"
    done
}

the_same_sources_give_the_same_packages() {
    make -s dist TARGET=$target >/dev/null 2>&1 || fail "make dist failed"
    local before
    before=$(sha256sum target/dist/*-x86_64.tar.gz target/dist/*_amd64.deb)
    sleep 1.1
    make -s dist TARGET=$target >/dev/null 2>&1 || fail "make dist failed"
    equal "$before" "$(sha256sum target/dist/*-x86_64.tar.gz target/dist/*_amd64.deb)"
}

# A tree with what makes an image of it: an init, accounts.
an_image() {
    mkdir -p "$1"/{dev,etc/systemd/system,run,tmp,usr/lib/systemd,usr/bin,usr/sbin,var/lib}
    ln -s usr/bin "$1/bin"
    ln -s usr/sbin "$1/sbin"
    cp $binary "$1/usr/lib/systemd/systemd"
    : >"$1/usr/sbin/mkfs.ext4"
    chmod 755 "$1/usr/sbin/mkfs.ext4"
    ln -s ../lib/systemd/systemd "$1/usr/sbin/init"
    printf 'root:x:0:0::/root:/bin/sh\ncondor:x:64:64::/var/lib/condor:/bin/sh\n' >"$1/etc/passwd"
    printf 'root:x:0:\ncondor:x:64:\n' >"$1/etc/group"
    echo "LABEL=root / ext4 defaults 0 0" >"$1/etc/fstab"
    : >"$1/etc/machine-id"
}

make_install_and_the_tarball_write_nothing_where_a_link_leads_out_of_an_image() {
    make -s dist TARGET=$target >"$tmp/log" 2>&1 || fail "make dist failed:" "$(cat "$tmp/log")"
    local link
    for link in etc/init.d usr/lib etc; do
        mkdir -p "$tmp/$link/outside"
        mkdir -p "$tmp/$link/image/${link%/*}"
        rm -rf "$tmp/$link/image/$link"
        ln -s "$tmp/$link/outside" "$tmp/$link/image/$link"
        if make -s install DESTDIR="$tmp/$link/image" >"$tmp/log" 2>&1; then
            fail "make install goes through /$link"
        fi
        grep -q "by a link that leads out of $tmp/$link/image" "$tmp/log" || fail "/$link: $(cat "$tmp/log")"
        [ "$link" = usr/lib ] || tar -xzf target/dist/vmstage-"$version"-x86_64.tar.gz -C "$tmp/$link/image"
        equal "" "$(ls -A "$tmp/$link/outside")"
    done
}

make_install_goes_through_links_that_stay_in_an_image() {
    mkdir -p "$tmp/etc/rc.d/init.d"
    ln -s rc.d/init.d "$tmp/etc/init.d"
    make -s install DESTDIR="$tmp" >"$tmp/log" 2>&1 || fail "$(cat "$tmp/log")"
    [ -x "$tmp/etc/rc.d/init.d/vmstage" ] || fail "the script is not where the link leads"
}

uninstall_takes_away_what_the_tarball_and_make_install_put_there() {
    [ "$(id -u)" = 0 ] || { echo "    the files of an image are root's"; exit 77; }
    make -s dist TARGET=$target >"$tmp/log" 2>&1 || fail "make dist failed:" "$(cat "$tmp/log")"
    local before way
    an_image "$tmp/image"
    before=$(files_in "$tmp/image")
    for way in tarball "make install"; do
        case $way in
        tarball) tar -xzf target/dist/vmstage-"$version"-x86_64.tar.gz -C "$tmp/image" ;;
        *) make -s install DESTDIR="$tmp/image" >"$tmp/log" 2>&1 ;;
        esac
        [ "$before" != "$(files_in "$tmp/image")" ] || fail "$way puts nothing there"
        "$tmp/image/usr/sbin/vmstage" install --root "$tmp/image" >"$tmp/log" 2>&1 || fail "$way: $(cat "$tmp/log")"
        $binary uninstall --root "$tmp/image" >"$tmp/log" 2>&1 || fail "$way: $(cat "$tmp/log")"
        # make install put it there before, and somebody's own looks no other.
        if [ "$way" != tarball ]; then
            grep -q "^/etc/vmstage.toml stays: it was there before" "$tmp/log" || fail "$(cat "$tmp/log")"
            rm "$tmp/image/etc/vmstage.toml"
        fi
        equal "$before" "$(files_in "$tmp/image")"
    done
}

dpkg_from_outside_is_refused_where_it_would_write_outside() {
    local said
    # shellcheck disable=SC2016 # the other shell expands it
    said=$(in_debian '
        export LC_ALL=C
        mkdir outside
        rm -r etc/init.d
        ln -s "$PWD/outside" etc/init.d
        ! dpkg --root="$PWD" -i dist/vmstage_*_amd64.deb
        ls outside
        find usr/sbin/vmstage || true
        # In a chroot the link stays in it.
        mount -t proc proc proc
        chroot . mkdir -p "$PWD/outside"
        chroot . dpkg -i "/dist/$(basename dist/vmstage_*_amd64.deb)"
        ls outside
        test -x ".$PWD/outside/vmstage"
        chroot . vmstage --version
    ' beside 2>&1) || fail "$said"
    grep -q "absolute link, which dpkg --root follows out of the image" <<<"$said" || fail "$said"
    equal "find: 'usr/sbin/vmstage': No such file or directory" "$(grep "^find: " <<<"$said")"
    equal "vmstage $version" "$(tail -n 1 <<<"$said")"
    equal "" "$(grep -x vmstage <<<"$said")"
}

the_deb_from_outside_and_in_a_chroot_leaves_nothing_for_check_to_find() {
    local said
    # shellcheck disable=SC2016 # the other shell expands it
    said=$(in_debian '
        # A Debian in which nothing has been done yet.
        echo "condor:x:64:64::/:/bin/sh" >>etc/passwd
        echo "condor:x:64:" >>etc/group
        mkdir -p etc/systemd/system
        cp dist/x86_64/tree/usr/sbin/vmstage usr/lib/systemd/systemd
        ln -sf ../lib/systemd/systemd usr/sbin/init
        : >usr/sbin/mkfs.ext4
        chmod 755 usr/sbin/mkfs.ext4
        : >etc/machine-id
        check() { dist/x86_64/tree/usr/sbin/vmstage check --root "$PWD" || echo "$1: $?"; }
        dpkg --root="$PWD" -i dist/vmstage_*_amd64.deb >/dev/null
        check "dpkg --root"
        dpkg --root="$PWD" -P vmstage >/dev/null
        chroot . dpkg -i "/dist/$(basename dist/vmstage_*_amd64.deb)" >/dev/null
        check "dpkg in a chroot"
        chroot . dpkg -P vmstage >/dev/null
        check "without it"
    ' beside 2>&1) || fail "$said"
    equal "error enabled-none
without it: 11" "$(grep -v '^vmstage: ' <<<"$said" | sed 's/^\(error [a-z-]*\) .*/\1/')"
}

the_rpm_can_be_read_by_that_of_enterprise_linux_5() {
    need rpm rpmbuild
    make -s dist TARGET=$target >"$tmp/log" 2>&1 || fail "make dist failed:" "$(cat "$tmp/log")"
    local rpm=target/dist/vmstage-$version-1.x86_64.rpm digests
    equal "cpio gzip" "$(rpm -qp --qf '%{PAYLOADFORMAT} %{PAYLOADCOMPRESSOR}' "$rpm")"
    # What it asks of rpm is as old as rpm 4.0; weak dependencies and triggers of files are not.
    equal "/bin/sh
rpmlib(CompressedFileNames) <= 3.0.4-1
rpmlib(PayloadFilesHavePrefix) <= 4.0-1" "$(rpm -qp --requires "$rpm" | sort -u)"
    equal "" "$(rpm -qp --recommends --suggests --supplements --enhances --filetriggers "$rpm")"
    # MD5 of the files: 32 digits, and no tag that names another. SHA-1 of the header.
    equal "(none)" "$(rpm -qp --qf '%{FILEDIGESTALGO}' "$rpm")"
    digests=$(rpm -qp --qf '[%{FILEDIGESTS}\n]' "$rpm" | grep .)
    equal "" "$(grep -vxE '[0-9a-f]{32}' <<<"$digests")"
    rpm -qp --qf '%{SHA1HEADER}' "$rpm" | grep -qxE '[0-9a-f]{40}' || fail "no SHA-1 of the header"
}

an_rpm_is_enabled_also_where_there_is_no_systemctl() {
    need rpm
    local said
    # shellcheck disable=SC2016 # the other shell expands it
    said=$(in_debian '
        mkdir -p usr/lib/sysimage etc/systemd/system
        cp dist/x86_64/tree/usr/sbin/vmstage usr/lib/systemd/systemd
        ln -sf ../lib/systemd/systemd usr/sbin/init
        rpm --root "$PWD" --nodeps -i dist/vmstage-*.x86_64.rpm
        dist/x86_64/tree/usr/sbin/vmstage check --root "$PWD" || true
    ' beside 2>&1) || fail "$said"
    grep -q "^vmstage: starts at the next boot; nothing was started now$" <<<"$said" || fail "$said"
    ! grep "^error enabled" <<<"$said" || fail "$said"
}

a_package_is_enabled_also_where_documentation_is_left_out() {
    need rpm dpkg-deb
    local said
    # shellcheck disable=SC2016 # the other shell expands it
    said=$(in_debian '
        mkdir -p usr/lib/sysimage etc/systemd/system
        cp dist/x86_64/tree/usr/sbin/vmstage usr/lib/systemd/systemd
        ln -sf ../lib/systemd/systemd usr/sbin/init
        look() {
            ls etc/systemd/system/multi-user.target.wants | grep vmstage
            [ ! -d usr/share/doc/vmstage ] || find usr/share/doc/vmstage -type f
            dist/x86_64/tree/usr/sbin/vmstage check --root "$PWD" | grep "^error enabled" || true
        }
        echo "path-exclude=/usr/share/doc/*" >etc/dpkg/dpkg.cfg.d/excludes
        chroot . dpkg -i "/dist/$(basename dist/vmstage_*_amd64.deb)"
        echo dpkg && look
        chroot . dpkg -P vmstage >/dev/null
        rpm --root "$PWD" --nodeps --excludedocs -i dist/vmstage-*.x86_64.rpm
        echo rpm && look
    ' beside 2>&1) || fail "$said"
    [ "$(grep -c "^vmstage: starts at the next boot; nothing was started now" <<<"$said")" = 2 ] || fail "$said"
    equal "vmstage-watch.service
vmstage.service" "$(sed -n '/^dpkg$/,/^vmstage.service$/p' <<<"$said" | tail -n +2)"
    equal "vmstage-watch.service
vmstage.service" "$(sed -n '/^rpm$/,/^vmstage.service$/p' <<<"$said" | tail -n +2)"
    ! grep "^error enabled\|nss-user-lookup" <<<"$said" || fail "$said"
}

# As diskimage-builder does it: the hooks of all elements in one directory, run from outside.
diskimage_builders_element_puts_it_into_a_tree_in_which_check_finds_nothing() {
    [ "$(id -u)" = 0 ] || { echo "    the files of an image are root's"; exit 77; }
    local element=packaging/diskimage-builder/vmstage said
    an_image "$tmp/mnt"
    mkdir "$tmp/bin"
    printf '#!/bin/sh\nexec "$@"\n' >"$tmp/bin/sudo"
    chmod 755 "$tmp/bin/sudo"
    cp -a $element "$tmp/hooks"
    hook() {
        env -i PATH="$tmp/bin:$PATH" HOME=/root ARCH=amd64 DIB_VMSTAGE="$PWD/$binary" \
            TMP_HOOKS_PATH="$tmp/hooks" TMP_MOUNT_PATH="$tmp/mnt" "${@:2}" "$tmp/hooks/$1" 2>&1
    }
    said=$(hook cleanup.d/99-vmstage TARGET_ROOT="$tmp/mnt") && fail "a build goes on without vmstage: $said"
    echo "/dev/sdb /staging ext2 defaults 0 0" >>"$tmp/mnt/etc/fstab"
    said=$(hook post-root.d/50-vmstage DIB_VMSTAGE_ARGS="--replace-old --init systemd") || fail "$said"
    cmp $binary "$tmp/mnt/usr/sbin/vmstage" || fail "another program: $said"
    grep -q /dev/sdb "$tmp/mnt/etc/fstab.before-vmstage" || fail "not with these arguments: $said"
    equal "" "$(hook cleanup.d/99-vmstage TARGET_ROOT="$tmp/mnt")"
    # A warning does not end the build.
    echo 0123456789abcdef0123456789abcdef >"$tmp/mnt/etc/machine-id"
    said=$(hook cleanup.d/99-vmstage TARGET_ROOT="$tmp/mnt") || fail "$said"
    grep -q "^warning machine-id" <<<"$said" || fail "$said"
    if said=$(hook post-root.d/50-vmstage DIB_VMSTAGE="$tmp/none"); then
        fail "it goes on without a program: $said"
    fi
}

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
[ $# != 0 ] || mapfile -t claims < <(sed -n 's/^\([a-z0-9]*_[a-z0-9]*_[a-z_0-9]*\)() {$/\1/p' "$0" )
[ $# = 0 ] || claims=("$@")
failed=0 skipped=0
for claim in "${claims[@]}"; do
    tmp=$(mktemp -d)
    said=$($claim 2>&1)
    case $? in
    0) echo "test $claim ... ok" ;;
    77)
        echo "test $claim ... skipped"
        echo "$said"
        skipped=$((skipped + 1))
        ;;
    *)
        echo "test $claim ... FAILED"
        echo "$said"
        failed=$((failed + 1))
        ;;
    esac
    rm -rf "$tmp"
done
echo "${#claims[@]} claims, $failed failed, $skipped skipped"
[ $failed = 0 ] && { [ $skipped = 0 ] || [ -z "${CI:-}" ]; }
