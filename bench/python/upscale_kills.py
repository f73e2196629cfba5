"""Kills a run of the worker at random moments until it has been killed often enough, then lets it end.

A fault must have fired to count: a kill that found the run ended is taken back and the run begun anew. What is compared is
every packet's bytes and timestamp of every stream, sound and subtitles included, with a run that was left alone.
"""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

KILLS, SEED = 20, 11
FRAMES, SIZE, SEGMENT_FRAMES = 72, (96, 80), 6
SUBTITLES = "1\n00:00:00,500 --> 00:00:01,000\nHello\n\n2\n00:00:02,000 --> 00:00:02,500\nAgain\n"


def compare(bench):
    """Kills and compares; says what was seen."""
    clip = with_sound(bench)
    options = ["--segment-frames", SEGMENT_FRAMES]
    undisturbed = bench.command(clip, "alone.mkv", *options)
    started = time.monotonic()
    subprocess.run([str(part) for part in undisturbed], check=True, stderr=subprocess.DEVNULL)
    whole_s = time.monotonic() - started
    runs = kill_often(bench.command(clip, "killed.mkv", *options), Path(bench.file("killed.mkv")), whole_s)
    expected, found = packets(bench.file("alone.mkv")), packets(bench.file("killed.mkv"))
    if expected != found:
        raise SystemExit(f"after {KILLS} kills the file differs: {len(expected)} packets, {len(found)} after the kills")
    streams = len({packet.split(",")[0] for packet in expected})
    return f"{len(expected)} packets of {streams} streams equal, {KILLS} kills in {runs} files"


def with_sound(bench):
    """The clip with a tone that begins late, and subtitles."""
    silent, subtitles = bench.clip("kills-silent.mkv", SIZE, FRAMES), bench.file("kills.srt")
    Path(subtitles).write_text(SUBTITLES)
    clip = bench.file("kills.mkv")
    tone = ["-itsoffset", "0.4", "-f", "lavfi", "-i", "sine=d=2.5"]
    command = ["ffmpeg", "-v", "error", "-i", silent, *tone, "-i", subtitles, "-map", "0", "-map", "1", "-map", "2"]
    subprocess.run([*command, "-c:v", "copy", "-c:a", "ac3", "-c:s", "srt", clip], check=True)
    return clip


def kill_often(command, out, whole_s):
    """Kills, begins again, and lets the last run end; the number of files that this made."""
    chance, kills, files = random.Random(SEED), 0, 1
    while True:
        child = subprocess.Popen([str(part) for part in command], stderr=subprocess.DEVNULL, start_new_session=True)
        if kills == KILLS:
            if child.wait():
                raise SystemExit("the worker failed after the kills")
            return files
        try:
            # Longer than it takes to come to a segment and through it, or no run would ever end.
            child.wait(chance.uniform(0.15, 0.45) * whole_s)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            kills += 1
            continue
        if child.returncode:
            raise SystemExit("the worker failed by itself")
        out.unlink()
        files += 1


def packets(file):
    """Stream, timestamp and hash of every packet, sorted, since streams may be interleaved in more than one right way."""
    entries = ["-show_entries", "packet=stream_index,pts_time,flags,data_hash", "-show_data_hash", "sha256"]
    said = subprocess.check_output(["ffprobe", "-v", "error", *entries, "-of", "csv=p=0", file], text=True)
    if not said:
        raise SystemExit(f"{file} has no packets")
    return sorted(said.split())
