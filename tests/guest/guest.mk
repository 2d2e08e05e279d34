# Whole guests under QEMU.

.PHONY: demo test-guest bench-guest guest-needs

# make demo DISK=swap-first; DISK=help lists the others
demo: guest-needs
	@tests/guest/demo.py $(DISK)

# make test-guest CASE=swap: only the cases with that in their name
test-guest: guest-needs
	@tests/guest/run.py $(CASE)

bench-guest: guest-needs
	@tests/guest/bench.py

# From a fresh checkout on, whatever is missing.
guest-needs:
	@packaging/deps.sh guest
	@$(MAKE) --no-print-directory $(BINARY) $(GENERATED)
