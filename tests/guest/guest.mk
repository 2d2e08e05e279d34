# Whole guests under QEMU. What they need besides the build: packaging/deps.sh guest

.PHONY: demo test-guest bench-guest

# make demo DISK=swap-first; DISK=help lists the others
DISK ?= labelled
demo: $(BINARY) $(GENERATED)
	@packaging/deps.sh guest
	@tests/guest/demo.py $(DISK)

# make test-guest CASE=swap: only the cases with that in their name
test-guest: $(BINARY) $(GENERATED)
	@packaging/deps.sh guest
	@tests/guest/run.py $(CASE)

bench-guest: $(BINARY) $(GENERATED)
	@packaging/deps.sh guest
	@tests/guest/bench.py
