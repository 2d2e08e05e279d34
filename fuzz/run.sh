#!/bin/sh
# Fuzzes each target for so many seconds (60 where none are given), starting from
# fuzz/seeds, the recorded answers in tests/fixtures and the shipped configuration.
# Exits with 1 when a target failed, and says how to see it again.
#
# It builds with the instrumentation that cargo-fuzz uses, but needs neither cargo-fuzz
# nor a nightly toolchain: the targets have no unsafe code for a sanitizer to watch.
# With both, `cargo fuzz run TARGET` works here as well.
set -eu

seconds=${1:-60}
cd "$(dirname "$0")"

host=$(rustc -vV | sed -n 's/^host: //p')
# With a target given, the flags are not for build scripts and macros.
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares \
-Ccodegen-units=1" \
    cargo build --release --quiet --target "$host"

# What is recorded elsewhere in the repository is not kept here twice.
for target in meta_data machine_features config mounts fstab; do
    mkdir -p "corpus/$target" "artifacts/$target"
done
number=0
for body in ../tests/fixtures/nova/*/*meta_data.json*.body; do
    number=$((number + 1))
    cp "$body" "corpus/meta_data/nova-$number"
done
sed -n 's/^#: \{0,1\}//p' ../packaging/vmstage.toml > corpus/config/shipped

failed=
for target in meta_data machine_features config mounts fstab; do
    echo "fuzz: $target for $seconds s"
    if ! "target/$host/release/$target" -max_total_time="$seconds" -timeout=5 \
        -rss_limit_mb=1024 -max_len=65536 -verbosity=0 -print_final_stats=1 \
        -artifact_prefix="artifacts/$target/" "corpus/$target" "seeds/$target" 2> "artifacts/$target.log"
    then
        failed="$failed $target"
        tail -n 40 "artifacts/$target.log"
        echo "fuzz: $target FAILED; again: fuzz/target/$host/release/$target fuzz/artifacts/$target/*"
        continue
    fi
    sed -n 's/^stat::number_of_executed_units: */fuzz:   inputs tried: /p' "artifacts/$target.log"
done
if [ -n "$failed" ]; then
    echo "fuzz: FAILED:$failed" >&2
    exit 1
fi
