# Whole guests under QEMU.

.PHONY: demo test-guest bench-guest deps-guest

# make demo DISK=swap-first; DISK=help lists the others
demo:
	@tests/guest/demo.py $(DISK)

# make test-guest CASE=swap: only the cases with that in their name
test: test-guest
test-guest:
	@tests/guest/run.py $(CASE)

bench-guest:
	@tests/guest/bench.py

# From a fresh checkout on, whatever is missing: first what building needs, then what is built.
demo test-guest bench-guest: deps-guest $(BINARY) $(GENERATED)
deps-guest:
	@packaging/deps.sh guest
