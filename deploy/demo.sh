#!/usr/bin/env bash
# The main job on a real film, end to end: discs -> pairs -> model -> three upscaled episodes -> report.
#
#   deploy/demo.sh [compact|esrgan-lite]     wants `make build` done; everything it writes is under ./demo-data
#
# Starts coordinator, two workers and the trainer as processes of their own and stops them however it ends.
set -euo pipefail

cd "$(dirname "$0")/.."
NETWORK=${1:-compact}
FRAMES_JUDGED=24
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/remaster
FILM="$CACHE/film/bbb.mp4"
DATA=$PWD/demo-data
BIN=${CARGO_TARGET_DIR:-$PWD/target}/debug

die() { printf 'error: %s\n\nhint: %s\n' "$1" "$2" >&2; exit "${3:-1}"; }
say() { printf '\n== %s\n' "$*" >&2; }

# Lengths are chosen so that all of it fits 20 minutes on two cores: a frame takes the RRDBNet five times as long.
case $NETWORK in
    compact)     recipe=demo             seconds=14 ;;
    esrgan-lite) recipe=demo-esrgan-lite seconds=6 ;;
    *) die "unknown network $NETWORK" "make demo NETWORK=compact, or NETWORK=esrgan-lite" 2 ;;
esac
SECONDS_PER_EPISODE=${DEMO_SECONDS:-$seconds}
[ -x "$BIN/remaster" ] || die "$BIN/remaster is not built" "run make demo, or make build first"
export PATH="$BIN:$PATH"

began=$SECONDS
say "making the discs: three episodes of $SECONDS_PER_EPISODE s from $FILM"
rm -rf "$DATA" && mkdir -p "$DATA"
bash deploy/make-discs.sh "$FILM" "$DATA/discs" --seconds "$SECONDS_PER_EPISODE" --recipe "$recipe"
discs_took=$((SECONDS - began))

say "starting coordinator, two workers and the trainer (logs in $DATA/logs)"
remaster up --dir "$DATA" --workers 2 --listen 127.0.0.1:0 > "$DATA/url" &
up=$!
stop() { kill "$up" 2>/dev/null || true; wait "$up" 2>/dev/null || true; }
trap stop EXIT
until [ -s "$DATA/url" ]; do
    kill -0 "$up" 2>/dev/null || die "remaster up has ended" "its own words are above"
    sleep 0.2
done
REMASTER_COORDINATOR=$(cat "$DATA/url")
export REMASTER_COORDINATOR REMASTER_STORE="file://$DATA/store"

say "handing in the season: extract -> store -> train -> publish -> upscale"
submitted=$SECONDS
job=$(remaster submit "$DATA/discs/season.toml")
printf 'job %s\n' "$job" >&2
remaster watch "$job"
job_took=$((SECONDS - submitted))

say "judging by the Blu-ray that was held back, writing the report"
remaster report "$job" -o "$DATA/report.html" --held-back "ep3=$DATA/discs/ep3.hd.mkv" --frames "$FRAMES_JUDGED"

say "time of each stage"
remaster status "$job"
printf '\ndiscs made in %d s, season done in %d s, everything in %d s\n' "$discs_took" "$job_took" $((SECONDS - began))
printf 'episodes  %s\n' "$DATA"/store/outputs/demo/*.mkv
printf 'report    %s\n' "$DATA/report.html"
