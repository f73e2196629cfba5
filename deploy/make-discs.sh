#!/usr/bin/env bash
# Makes the discs that the demo and the tests work on: three episodes cut from one film, each as a Blu-ray copy and as
# a DVD copy that differs from it the way real ones do. What is true of them is written down, so a test can ask for it.
#
#   make-discs.sh FILM OUT_DIR [--seconds N] [--starts A,B,C] [--recipe NAME] [--name SEASON] [--preset P]
#                 [--pairs N] [--only ep1,ep2,ep3]
#
#   OUT_DIR/ep1.sd.mkv ep1.hd.mkv ep2.sd.mkv ep2.hd.mkv ep3.sd.mkv ep3.hd.mkv   the discs
#   OUT_DIR/season.toml    ep1 and ep2 with both discs, ep3 as DVD only: its Blu-ray is held back to judge by
#   OUT_DIR/truth.json     per episode: hd_minus_sd, the HD frame of SD frame i is i + hd_minus_sd
#
# Blu-ray copy: 1280x720, 24000/1001 fps, H.264, BT.709. DVD copy: 480x384 at pixel aspect 64:45, so that its lines
# are to 720 as PAL's are to 1080; MPEG-2 at 25 fps, BT.601, played 4.27 % faster with its sound, starting at another
# frame, the first line dead and the picture one line lower, colours slightly graded. All geometry is done in RGB:
# shifting 4:2:0 pictures by one line would move chroma by half a line against luma, which no disc does.
# Frames are neither dropped nor repeated: film frame n is frame n - start of either copy.
set -euo pipefail

SECONDS_PER_EPISODE=14
STARTS=100,270,350     # seconds into the film: three different scenes, each with detail to win back
RECIPE=demo
NAME=demo
PRESET=veryfast        # of the upscaled video's encoder, written into season.toml
PAIRS=240
ONLY=ep1,ep2,ep3
LEADS=(9 -12 5)        # film frames by which the DVD starts later (+) or earlier (-) than the Blu-ray
FILM_FPS=24
DVD_BITS=2200k

say() { printf 'make-discs: %s\n' "$*" >&2; }
die() { printf 'error: %s\n\nhint: %s\n' "$1" "$2" >&2; exit 2; }

[ $# -ge 2 ] || die "expected FILM OUT_DIR" "deploy/make-discs.sh ~/.cache/remaster/film/bbb.mp4 demo-data/discs --seconds 14"
FILM=$1 OUT=$2; shift 2
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || die "$1 wants a value" "see the head of this script"
    case $1 in
        --seconds) SECONDS_PER_EPISODE=$2 ;;
        --starts)  STARTS=$2 ;;
        --recipe)  RECIPE=$2 ;;
        --name)    NAME=$2 ;;
        --preset)  PRESET=$2 ;;
        --pairs)   PAIRS=$2 ;;
        --only)    ONLY=$2 ;;
        *) die "unknown option $1" "see the head of this script" ;;
    esac
    shift 2
done
[ -f "$FILM" ] || die "film $FILM is not there" "run make setup: it fetches Big Buck Bunny into the cache"
mkdir -p "$OUT"
IFS=, read -r -a starts <<<"$STARTS"
frames=$((SECONDS_PER_EPISODE * FILM_FPS))

ff() { ffmpeg -hide_banner -nostdin -loglevel error -y "$@"; }

# A seek that lands half a frame early, so that rounding never skips the wanted frame.
seek_to() { awk -v n="$1" -v fps=$FILM_FPS 'BEGIN { printf "%.6f", (n > 0 ? (n - 0.5) / fps : 0) }'; }

make_bluray() { # first-film-frame file
    local video audio
    video="settb=1001/24000,setpts=N,setsar=1,format=yuv420p"
    audio="aresample=48000,atempo=1000/1001"
    ff -ss "$(seek_to "$1")" -i "$FILM" -map 0:v:0 -map 0:a:0 -vf "$video" -af "$audio" \
        -frames:v $frames -r 24000/1001 -t "$(awk -v n=$frames 'BEGIN { printf "%.6f", n * 1001 / 24000 }')" \
        -c:v libx264 -preset veryfast -crf 14 -bf 2 -g 24 -color_primaries bt709 -color_trc bt709 -colorspace bt709 \
        -color_range tv -c:a ac3 -b:a 384k -map_metadata -1 "$2"
}

make_dvd() { # first-film-frame file
    local to_rgb shrink grade dead_line to_yuv video
    to_rgb="zscale=matrixin=709:rangein=limited:matrix=gbr:range=full:chromalin=left:filter=bicubic,format=gbrp12"
    shrink="zscale=w=480:h=384:filter=bicubic"
    grade="colorchannelmixer=rr=0.960:rg=0.015:gg=0.975:gr=0.010:bb=0.945:bg=0.020"
    dead_line="crop=480:383:0:0,pad=480:384:0:1:black,setsar=64/45"
    to_yuv="zscale=matrixin=gbr:rangein=full:matrix=470bg:range=limited:chromal=left:dither=error_diffusion,format=yuv420p"
    video="settb=1/25,setpts=N,$to_rgb,$shrink,$grade,$dead_line,$to_yuv,setsar=64/45"
    ff -ss "$(seek_to "$1")" -i "$FILM" -map 0:v:0 -map 0:a:0 -vf "$video" -af "aresample=48000,atempo=25/24" \
        -frames:v $frames -r 25 -t "$(awk -v n=$frames 'BEGIN { printf "%.6f", n / 25 }')" \
        -c:v mpeg2video -b:v $DVD_BITS -maxrate 4500k -bufsize 1835k -g 12 -bf 2 -color_primaries bt470bg \
        -color_trc gamma28 -colorspace bt470bg -color_range tv -c:a ac3 -b:a 192k -map_metadata -1 "$2"
}

{
    printf 'version = 1\n\n[season]\nname = "%s"\nscale = 2\n\n[extract]\npairs_max = %s\n' "$NAME" "$PAIRS"
    printf '\n[train]\nrecipe = "%s"\n' "$RECIPE"
    printf '\n[upscale]\nmodel = "channel:latest"\nencoder = "x264"\npreset = "%s"\n' "$PRESET"
} > "$OUT/season.toml"
truth=""
for i in 0 1 2; do
    episode=ep$((i + 1))
    case ",$ONLY," in *",$episode,"*) ;; *) continue ;; esac
    bluray=$((starts[i] * FILM_FPS)) dvd=$((starts[i] * FILM_FPS + LEADS[i]))
    say "$episode: $frames frames from second ${starts[i]}, the DVD starts ${LEADS[i]} frames from the Blu-ray"
    make_bluray $bluray "$OUT/$episode.hd.mkv"
    make_dvd $dvd "$OUT/$episode.sd.mkv"
    printf '\n[[episode]]\nid = "%s"\nsd = "%s.sd.mkv"\n' $episode $episode >> "$OUT/season.toml"
    [ $episode = ep3 ] || printf 'hd = "%s.hd.mkv"\n' $episode >> "$OUT/season.toml"
    truth="$truth${truth:+,}\"$episode\":{\"hd_minus_sd\":${LEADS[i]},\"frames\":$frames}"
done
printf '{%s}\n' "$truth" > "$OUT/truth.json"
