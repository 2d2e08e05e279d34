# Whole guests under QEMU, of x86_64 or with TARGET=aarch64-unknown-linux-musl.

.PHONY: demo test-guest test-condor-and-guest bench-guest deps-guest

# make demo DISK=swap-first; DISK=help lists the others
demo:
	@TARGET=$(TARGET) tests/guest/demo.py $(DISK)

# make test-guest CASE=swap: only the cases with that in their name
test-guest:
	@TARGET=$(TARGET) tests/guest/run.py $(CASE)

# HTCondor is waited for, and leaves the processors to the guests as long as it wants none: they yield.
# Not beside what looks for its daemons among all processes, as tests/host does.
test: test-condor-and-guest
test-condor-and-guest: deps-guest $(BINARY) $(GENERATED)
	@$(call beside,condor,test-guest,nice)

bench-guest:
	@tests/guest/bench.py

# From a fresh checkout on, whatever is missing: first what building needs, then what is built.
test-guest bench-guest: deps-guest $(BINARY) $(GENERATED)
# A list of names needs none of it, nor does a name that is not in it.
ifneq ($(shell grep -c '^    "$(or $(DISK),labelled)": ' tests/guest/demo.py),0)
demo: deps-guest $(BINARY) $(GENERATED)
endif
deps-guest:
	@packaging/deps.sh guest $(if $(CROSS),$(CROSS) $(CROSS)-test)

# The other architecture: the rules, emulated, and some of the guests. Elsewhere nothing depends
# on the processor, and the rest are looked at on x86_64.
.PHONY: test-aarch64
test: test-aarch64
test-aarch64:
	$(MAKE) --no-print-directory TARGET=aarch64-unknown-linux-musl all test-rules
	$(MAKE) --no-print-directory TARGET=aarch64-unknown-linux-musl test-guest CASE="$(AARCH64_CASES)"

AARCH64_CASES := $(addprefix minimal/,a_labelled_disk a_swap_disk_in_front_is_passed_over_for_the_label \
	a_corrupt a_disk_that_is_plugged_in_late a_config_drive_in_front the_lifetime_in_the_metadata \
	the_terminals_of_logged_in_users)
