# Ratios beside the old shell script, mount(2) alone and blkid -L; as root.
.PHONY: bench
bench: $(BINARY)
	VMSTAGE_BIN="$(CURDIR)/$(BINARY)" cargo bench --locked --profile dev --bench host
