# make          builds the static binary; says what to do if something is missing
# make deps     installs what building needs (Debian 12; a Rust toolchain comes first)
#               deps and dist are for both architectures; TARGET=x86_64-unknown-linux-musl
#               or TARGET=aarch64-unknown-linux-musl has them, and the others, for one
# make test     runs every test, as root; installs what they need
# make bench    measures a boot beside what it replaces
# make install  DESTDIR= PREFIX=/usr
# make dist     tarball, .deb and .rpm in target/dist

PREFIX  ?= /usr
DESTDIR ?=

TARGET  := x86_64-unknown-linux-musl
ARCH    := $(firstword $(subst -, ,$(TARGET)))

# What an architecture has of its own:
#                what Debian calls it | where its libblkid is, as in build.rs | packaging/deps.sh's
#                word for what building it needs besides
x86_64  := amd64 target/libblkid
aarch64 := arm64 target/libblkid-aarch64 cross
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER := aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER := $(CURDIR)/tests/emulated

ARCHITECTURES := x86_64 aarch64
ifeq ($(filter $(ARCHITECTURES:=-unknown-linux-musl),$(TARGET)),)
$(error TARGET must be one of $(ARCHITECTURES:=-unknown-linux-musl), not "$(TARGET)")
endif
# Where the tools run that are built on the way.
BUILDS_ON := x86_64-unknown-linux-musl

BINARY  := target/$(TARGET)/release/vmstage
LIBBLKID_DIR := $(word 2,$($(ARCH)))
LIBBLKID := $(LIBBLKID_DIR)/lib/libblkid.a
CROSS   := $(word 3,$($(ARCH)))
# deps and dist are for every architecture where none is named.
ASKED_FOR := $(if $(filter command,$(firstword $(origin TARGET))),$(ARCH))
# Made from the command line's definition and the shipped configuration: man pages, completions.
GENERATED := $(addprefix target/generated/,vmstage.8 vmstage.toml.5 vmstage.bash _vmstage vmstage.fish)
SOURCES := Cargo.toml Cargo.lock build.rs packaging/vmstage.toml $(wildcard packaging/*.ld)
SOURCES += $(shell find src build systemd sysvinit -type f)

ifneq ($(words $(CURDIR)),1)
$(error make and the tools that it runs cannot cope with a space in the path: $(CURDIR))
endif
# It ends up in scripts and units.
ifneq ($(shell printf %s '$(subst ','\'',$(PREFIX))' | tr -d 'A-Za-z0-9._/+-')$(filter-out /%,$(PREFIX)),)
$(error PREFIX must be an absolute path of letters, digits and . _ / + -, not "$(PREFIX)")
endif

# Everything is built in target/, whatever the environment says.
export CARGO_TARGET_DIR := $(CURDIR)/target
# blkid-sys for musl: musl's headers and the ones of our libblkid, none of the host's.
export BINDGEN_EXTRA_CLANG_ARGS_$(subst -,_,$(TARGET)) := \
	-nostdinc -isystem /usr/include/$(ARCH)-linux-musl -I"$(CURDIR)/$(LIBBLKID_DIR)/include"
# What the code has at several places in the same words is there once: 64 KiB less.
CARGO_STATIC := RUSTFLAGS="$(RUSTFLAGS) $(foreach pass,machine-outliner gvn-hoist gvn-sink,\
	-C llvm-args=-enable-$(pass))" \
	cargo build --locked --release --target $(TARGET)

.PHONY: all deps deps-test man install dist lint test test-rules test-consumers test-packaging
.PHONY: test-host test-watch test-host-and-watch test-condor test-old-kernel test-fuzz fuzz
.PHONY: test-fuzz-and-packaging
.PHONY: bench boot-order clean

all: $(BINARY)

$(BINARY): $(SOURCES) $(LIBBLKID)
	@packaging/deps.sh --check $(CROSS)
	$(CARGO_STATIC)
	@touch $@
	@echo "$@: $$(($$(stat -c %s $@) / 1024)) KiB"

$(LIBBLKID): $(wildcard packaging/libblkid/* packaging/libblkid/patches/*)
	@packaging/deps.sh --check $(CROSS)
	packaging/libblkid/build.sh $(ARCH)
	@touch $@

man: $(GENERATED)

$(GENERATED) &: examples/generate.rs build/pages.rs build/settings.rs packaging/vmstage.toml \
		src/cli.rs src/cli/deferred.rs src/cli/plan.rs Cargo.toml Cargo.lock $(if $(filter $(BUILDS_ON),$(TARGET)),$(LIBBLKID))
ifeq ($(TARGET),$(BUILDS_ON))
	$(CARGO_STATIC) --example generate
	@mkdir -p target/generated
	target/$(TARGET)/release/examples/generate target/generated
else
	$(MAKE) --no-print-directory TARGET=$(BUILDS_ON) man
endif

deps:
	packaging/deps.sh lint $(if $(ASKED_FOR),$(CROSS),cross)

deps-test:
	packaging/deps.sh lint test guest cross cross-test

# What is up to date is not built again, so that this runs where there is no Rust (sudo).
install: $(BINARY) $(GENERATED)
	$(call put,755,$(BINARY),$(PREFIX)/sbin/vmstage)
	@if [ -e "$(DESTDIR)/etc/vmstage.toml" ] || [ -L "$(DESTDIR)/etc/vmstage.toml" ]; then \
		echo "$(DESTDIR)/etc/vmstage.toml is there already, and stays as it is"; \
	else \
		$(call put,644,packaging/vmstage.toml,/etc/vmstage.toml); \
	fi
	$(call put,644,packaging/vmstage.toml,$(PREFIX)/share/doc/vmstage/vmstage.toml)
	$(call put-script,644,systemd/vmstage.service,$(PREFIX)/lib/systemd/system/vmstage.service)
	$(call put-script,644,systemd/vmstage-watch.service,$(PREFIX)/lib/systemd/system/vmstage-watch.service)
	$(call put,644,systemd/80-vmstage.preset,$(PREFIX)/lib/systemd/system-preset/80-vmstage.preset)
	$(call put,644,systemd/condor.service.d/vmstage.conf,$(PREFIX)/lib/systemd/system/condor.service.d/vmstage.conf)
	$(call put,644,systemd/vmstage.service.d/nss-user-lookup.conf,$(PREFIX)/share/doc/vmstage/nss-user-lookup.conf)
	$(call put-script,755,sysvinit/vmstage,/etc/init.d/vmstage)
	$(call put-script,755,packaging/cloud-init/50-vmstage,$(PREFIX)/share/doc/vmstage/50-vmstage)
	$(call put-script,644,sysvinit/rc.local.sl,$(PREFIX)/share/doc/vmstage/rc.local.sl)
	$(call put-script,644,sysvinit/rc.local.ubuntu,$(PREFIX)/share/doc/vmstage/rc.local.ubuntu)
	$(call put,644,target/generated/vmstage.8,$(PREFIX)/share/man/man8/vmstage.8)
	$(call put,644,target/generated/vmstage.toml.5,$(PREFIX)/share/man/man5/vmstage.toml.5)
	$(call put,644,target/generated/vmstage.bash,$(PREFIX)/share/bash-completion/completions/vmstage)
	$(call put,644,target/generated/_vmstage,$(PREFIX)/share/zsh/site-functions/_vmstage)
	$(call put,644,target/generated/vmstage.fish,$(PREFIX)/share/fish/vendor_completions.d/vmstage.fish)
	@echo "the files are in place, and nothing is enabled: \"vmstage install --root DIR\" does both in an image"

# $(call put,MODE,FILE,PLACE)
put = packaging/stays-inside.sh "$(DESTDIR)" "$3" && install -D -m $1 $2 "$(DESTDIR)$3"
# Likewise what names the program by its path, which depends on PREFIX.
put-script = $(put) && sed -i 's|/usr/sbin/vmstage|$(PREFIX)/sbin/vmstage|g' "$(DESTDIR)$3"

ifneq ($(ASKED_FOR),)
dist: $(BINARY) $(GENERATED)
	packaging/dist.sh $(ARCH) $(firstword $($(ARCH))) $(LIBBLKID_DIR)
else
# Without the tools for the other one there are packages for this one, and in CI that is a failure.
dist:
	$(MAKE) --no-print-directory dist TARGET=$(BUILDS_ON)
	@if packaging/deps.sh --check cross; then \
		$(MAKE) --no-print-directory dist TARGET=aarch64-unknown-linux-musl; \
	else \
		echo "no packages for aarch64: what builds them is not here (see above)"; \
		[ -z "$$CI" ]; \
	fi
endif

# The rc.local snippets say nothing of their shell, for they are pasted.
lint:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	shellcheck -x $$(find . \( -name target -o -name .git \) -prune -o -type f -exec \
		awk 'FNR == 1 && /^#!.*[\/ ](ba|da)?sh/ { print FILENAME } { nextfile }' {} +)
	shellcheck -s sh sysvinit/rc.local.*

# Everything, the quick things first; installs what it needs. The guests are in tests/guest/guest.mk.
test: deps-test lint test-rules test-consumers test-fuzz-and-packaging test-host-and-watch
test: test-old-kernel

# The rules alone: seconds, no root, the host's libblkid; here with all lives of src/deadline/lives.rs and all
# random cases of the others, of which `cargo test --lib` runs a part (.cargo/config.toml).
# Those of another architecture with the static one and emulated, without what simulates thousands
# of cases, which is arithmetic and takes minutes there, and what measures how long something takes.
test-rules: $(if $(CROSS),$(LIBBLKID))
	RUST_TEST_THREADS=$$(nproc) VMSTAGE_LIVES=10000 PROPTEST_CASES=256 cargo test --locked --lib $(if $(CROSS),--target $(TARGET) -- $(addprefix --skip ,$(NOT_EMULATED)))

NOT_EMULATED := deadline::lives ten_thousand plan::grid many_lines_are_nothing a_long_script_takes_no_longer \
	a_script_without_end_is_given_up a_grandchild_that_keeps_the_output_open a_policy_that_gives_no_answer

# What is written for other programs, as they take it: pam_motd, promtool, node_exporter,
# Prometheus with the alert rules and the dashboard, systemd-notify, logger.
test-consumers:
	RUST_TEST_THREADS=$$(nproc) cargo test --locked --lib -- --ignored

test-packaging: $(BINARY) $(GENERATED)
	tests/packaging.sh

# The static binary on this machine: block devices, init scripts, metadata. As root.
test-host: $(BINARY)
	$(TEST_ON_HOST) $(addprefix --skip ,watch:: old_kernel::)

# With deadlines that have to be waited for, and so more at a time than there are processors.
test-watch: $(BINARY)
	$(TEST_ON_HOST) --test-threads=8 watch::

TEST_ON_HOST = VMSTAGE_BIN=$(CURDIR)/$(BINARY) cargo test --locked --test host --

# In a Debian of its own with a real HTCondor.
test-condor:
	CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=tests/condor/run \
		cargo test --locked --test condor -- --ignored --test-threads=1

# Side by side: $1, which mostly waits or keeps one processor busy, and $2, by `nice` if that is $3.
beside = $(MAKE) --no-print-directory test-$1 >target/$1.log 2>&1 & waited_for=$$!; \
	$3 $(MAKE) --no-print-directory $2; computed=$$?; \
	wait $$waited_for; waited_for=$$?; cat target/$1.log; \
	[ $$computed -eq 0 ] && [ $$waited_for -eq 0 ]

# With deadlines that have to be waited for.
test-host-and-watch: $(BINARY)
	@$(call beside,watch,test-host)

# Each keeps one processor busy.
test-fuzz-and-packaging: $(BINARY) $(GENERATED)
	@$(call beside,fuzz,test-packaging)

# As on the kernels of 2006 to 2011.
test-old-kernel: $(BINARY)
	$(TEST_ON_HOST) old_kernel::

# make fuzz FUZZ_SECONDS=600: so long for each target
FUZZ_SECONDS ?= 60
fuzz:
	env -u CARGO_TARGET_DIR fuzz/run.sh $(FUZZ_SECONDS)

test-fuzz:
	env -u CARGO_TARGET_DIR fuzz/run.sh 15

# Writes anew which functions a boot runs (packaging/boot-order.ld), after larger changes. As root.
boot-order: $(LIBBLKID)
	$(CARGO_STATIC) --config profile.release.strip=false --target-dir target/boot-order
	VMSTAGE_BIN=$(CURDIR)/target/boot-order/$(TARGET)/release/vmstage \
		cargo bench --locked --profile dev --bench host -- --boot-order

# Ratios: beside the old shell script, mount(2) alone, and blkid -L. As root.
bench: $(BINARY)
	VMSTAGE_BIN=$(CURDIR)/$(BINARY) cargo bench --locked --profile dev --bench host

clean:
	rm -rf target

include $(wildcard tests/*/*.mk benches/*.mk)

# Tests would get in each other's way; cargo uses all processors by itself.
.NOTPARALLEL:
