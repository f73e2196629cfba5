#!/usr/bin/env bash
# Fuzzes the parsers of foreign input: `run.sh [TARGET...]`, TIME seconds each (60).
#
# The targets are plain libFuzzer programs. What cargo-fuzz asks a nightly compiler for is asked of stable Rust here: LLVM's
# coverage pass is an ordinary code generation option, and without a sanitizer nothing else is needed (what is fuzzed has no
# unsafe code). Seeds are the frozen files of crates/domain, those under seeds/ and, for Matroska, a file that ffmpeg makes
# now. What was found interesting stays in the build folder for the next time; what fails is kept there, too, and named.
set -euo pipefail
cd "$(dirname "$0")"

time=${TIME:-60}
host=$(rustc -vV | sed -n 's/^host: //p')
build=${CARGO_TARGET_DIR:-$PWD/../../target}/fuzz
golden=../../crates/domain/tests/golden
all=(records specs cube shard matroska ffprobe showinfo season)
if [ $# -gt 0 ]; then targets=("$@"); else targets=("${all[@]}"); fi

# With --target these flags reach what is fuzzed and not what runs while it is built.
passes="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
passes="$passes -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
RUSTFLAGS="$passes" cargo build --release --locked --target "$host" --target-dir "$build"

seed() {
    case $1 in
    records) cp "$golden"/{index,pair,manifest,card}-v1.json "$2" ;;
    specs) cp "$golden"/{job-spec,task-specs,task-results}-v1.json "$2" ;;
    matroska)
        ffmpeg -v error -y -f lavfi -i testsrc=size=16x16:rate=5 -frames:v 3 -c:v mpeg2video -bf 1 "$2/film.mkv"
        ;;
    *) cp seeds/"$1"/* "$2" ;;
    esac
}

failed=0
for target in "${targets[@]}"; do
    corpus=$build/corpus/$target
    seeds=$(mktemp -d)
    mkdir -p "$corpus" "$build/failures"
    seed "$target" "$seeds"
    options=(-max_total_time="$time" -max_len=16384 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1)
    options+=(-artifact_prefix="$build/failures/$target-")
    if [ -f "$target.dict" ]; then options+=(-dict="$target.dict"); fi
    log=$build/$target.log
    if "$build/$host/release/$target" "${options[@]}" "$corpus" "$seeds" >"$log" 2>&1; then
        first=$(grep -m 1 -o 'INITED cov: [0-9]*' "$log" | grep -o '[0-9]*$')
        last=$(grep -o 'DONE *cov: [0-9]*' "$log" | grep -o '[0-9]*$')
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        echo "$target: $runs runs in $time s, places reached $first at the start, $last at the end, nothing failed"
    else
        failed=1
        tail -n 25 "$log"
        echo "$target: failed, see $log"
    fi
    rm -rf "$seeds"
done
exit $failed
