"""Upscaling held against its demands and side by side with others: same clip, same weights, one run after the other.

The clips are line art on twos with a still background, through MPEG-2 at up to 4.8 Mb/s. Each part prints its lines with
the demand beside:

    reuse    pixels shown to the network with reuse, and how far reuse moves the picture
    alone    end to end against the network by itself on pictures that lie ready
    workers  two workers of one thread against one, beside what two processes of a PyTorch loop gain
    peers    frames a second beside a PyTorch loop with pipes and ncnn, two networks, without and with reuse
    kills    a run killed at random moments, again and again, against one that was left alone
    memory   the peak of a worker

End to end beside others is decode, network and FFV1; for Remaster with loading, hashing, indexing and verifying, for the
peers without loading. Peers come from the package index into a venv under the user's cache; everything else is local.

    python3 bench/python/bench_upscale.py [--part PART]...
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import peers

HERE = Path(__file__).resolve().parent
PEERS = ["torch==2.9.0", "numpy", "ncnn==1.0.20261020"]
COMPACT, RRDBNET = "REALESRGAN_ANIMAVIDEOV3_UP4X", "REALESRGAN_X4PLUSANIME_UP4X"
DVD = (720, 576)
# A third of its pixels, for what is a ratio anyway.
SMALLER = (416, 336)
GOP_FRAMES = 12
# Where an encoder shares the cores with what is measured, it is the cheapest there is.
CHEAP = ["--encoder", "x264", "--preset", "ultrafast"]
# Ratios are of runs that follow each other, the better of so many rounds: another process may come between.
ROUNDS = 2


def prepare():
    """Goes on where the peers are, with the folder of the weights."""
    peers.go_on_inside(PEERS, ".ready", __file__)
    return peers.weights([COMPACT, RRDBNET])


def make_clip(file, size, frames):
    """The clip as a DVD would have it."""
    import line_art

    width, height = size
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", "24", "-i", "-"]
    rate = ["-b:v", "4800k", "-maxrate", "7000k", "-bufsize", "1835k", "-g", GOP_FRAMES, "-bf", "2"]
    encode = ["ffmpeg", "-v", "error", *raw, "-c:v", "mpeg2video", *rate, "-pix_fmt", "yuv420p", "-y", file]
    encoder = subprocess.Popen([str(part) for part in encode], stdin=subprocess.PIPE)
    for frame in line_art.frames(width, height, frames):
        encoder.stdin.write(frame.tobytes())
    encoder.stdin.close()
    if encoder.wait():
        raise SystemExit("ffmpeg failed")


def run(command):
    """What a command says, once it has succeeded: stdout and stderr."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stderr}")
    return done.stdout, done.stderr


def together(commands):
    """Seconds until the last of them has ended."""
    started = time.monotonic()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    children = [subprocess.Popen([str(part) for part in command], **quiet) for command in commands]
    if any([child.wait() for child in children]):
        raise SystemExit(f"{commands[0][0]} failed")
    return time.monotonic() - started


def line(what, figure, demand=None):
    """Prints a figure with its demand."""
    print(f"{what}: {figure}" + (f" (demand {demand})" if demand else ""), flush=True)


def difference(one, other, frames):
    """Mean and greatest difference of luma between the first frames of two files, in levels of 255."""
    import numpy as np

    def planes(file):
        width, height = map(int, run(["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries",
                                      "stream=width,height", "-of", "csv=p=0", file])[0].strip().split(",")[:2])
        command = ["ffmpeg", "-v", "error", "-i", file, "-vf", "extractplanes=y", "-frames:v", str(frames), "-f", "rawvideo", "-"]
        decoder = subprocess.Popen(command, stdout=subprocess.PIPE)
        while data := decoder.stdout.read(2 * width * height):
            yield np.frombuffer(data, np.uint16).astype(np.int32)

    apart = [np.abs(a - b) for a, b in zip(planes(one), planes(other), strict=True)]
    if len(apart) != frames:
        raise SystemExit(f"{len(apart)} frames could be compared, not {frames}")
    return np.mean([frame.mean() for frame in apart]) / 4, np.max([frame.max() for frame in apart]) / 4


class Bench:
    """What all parts share: the binaries, the weights, a folder."""

    def __init__(self, arguments, weights, folder):
        target = Path(os.environ.get("CARGO_TARGET_DIR") or HERE.parent.parent / "target")
        self.worker = arguments.worker or target / "debug/remaster-worker"
        self.own_bench = target / "debug/remaster-bench"
        self.weights, self.folder = weights, Path(folder)

    def file(self, name):
        """A path in the folder, which goes with the bench."""
        return str(self.folder / name)

    def model(self, name):
        """Its ncnn file."""
        return str(self.weights / f"{name}.param")

    def clip(self, name, size, frames):
        """A new clip."""
        make_clip(self.file(name), size, frames)
        return self.file(name)

    def command(self, clip, out, *options, model=COMPACT, threads=2, encoder=("--encoder", "ffv1")):
        """A run of the worker."""
        command = [self.worker, "upscale", clip, self.file(out), "--model", self.model(model), *encoder]
        return [*command, "--threads", threads, *options]

    def ours(self, clip, out, reuse, **options):
        """Seconds of one run, and the share of pixels that its last lines tell."""
        started = time.monotonic()
        _, said = run(self.command(clip, out, "--reuse", reuse, **options))
        share = re.search(r"shown ([\d.]+) %", said)
        return time.monotonic() - started, float(share[1]) / 100 if share else 1.0

    def peer_command(self, engine, clip, out, *options, model=COMPACT, threads=2):
        """A run of a peer's loop."""
        command = [sys.executable, HERE / "upscale_peer.py", engine, clip, self.file(out)]
        return [*command, "--model", self.model(model), "--threads", threads, *options]

    def peer(self, engine, clip, out, model=COMPACT):
        """Seconds of a peer's loop, without loading its library and weights."""
        said, _ = run(self.peer_command(engine, clip, out, model=model))
        return json.loads(said.splitlines()[-1])["seconds"]


def reuse(bench):
    """What reuse saves at the default threshold, and how far it moves the picture.

    Without reuse only the first GOP is made, and the frame that the next one begins with, which its last frames lean on.
    """
    clip = bench.clip("reuse-clip.mkv", DVD, 24)
    _, share = bench.ours(clip, "auto.mkv", "auto")
    line("reuse, 24 frames of 720x576 on twos: pixels shown to the network", f"{share:.3f}", "<= 0.35")
    begun, frames = bench.file("reuse-begun.mkv"), GOP_FRAMES + 1
    run(["ffmpeg", "-v", "error", "-i", clip, "-c", "copy", "-frames:v", frames, begun])
    bench.ours(begun, "off.mkv", "off")
    mean, greatest = difference(bench.file("off.mkv"), bench.file("auto.mkv"), frames)
    what = f"reuse against none, {frames} frames, luma in levels of 255: mean"
    line(what, f"{mean:.3f}, greatest {greatest:.1f}", "mean <= 0.5")


def alone(bench):
    """End to end against the network by itself, without start-up: what frames cost beyond the first one.

    FFV1, written once and verified once, would take a ninth of what the network does.
    """
    frames, ratios = 12, []
    clips = [bench.clip(f"alone-{count}.mkv", SMALLER, count) for count in (1, frames)]
    for _ in range(ROUNDS):
        size = ["--width", SMALLER[0], "--height", SMALLER[1]]
        said, _ = run([bench.own_bench, "infer", "--model", bench.model(COMPACT), "--frames", 6, "--threads", 2, *size])
        picture_s = float(said.split()[0])
        first_s, all_s = (bench.ours(clip, "alone-out.mkv", "off", encoder=CHEAP)[0] for clip in clips)
        frame_s = (all_s - first_s) / (frames - 1)
        ratios.append((picture_s / frame_s, picture_s, frame_s, first_s))
    ratio, picture_s, frame_s, first_s = max(ratios)
    of = f"of {SMALLER[0]}x{SMALLER[1]}"
    detail = f"{picture_s:.2f} s a picture {of} alone, {frame_s:.2f} s a frame end to end, {first_s:.1f} s the first"
    line("end to end against inference alone, x264 ultrafast", f"{ratio:.3f}, {detail}", ">= 0.95")


def workers(bench):
    """What a second worker of one thread gains, beside a second process of PyTorch's loop; both encode alike.

    An encoder of its own process has the second core to itself beside a single worker, and not beside two.
    """
    clip, ratios = bench.clip("workers-clip.mkv", (360, 288), 6), []
    for _ in range(ROUNDS):
        gains = []
        for name, command in [
            ("ours", lambda out: bench.command(clip, out, "--reuse", "off", threads=1, encoder=CHEAP)),
            ("torch", lambda out: bench.peer_command("torch", clip, out, *CHEAP, threads=1)),
        ]:
            one = together([command(f"{name}-one.mkv")])
            two = together([command(f"{name}-a.mkv"), command(f"{name}-b.mkv")])
            gains.append(2 * one / two)
        ratios.append((gains[0] / gains[1], *gains))
    ratio, ours, torch = max(ratios)
    line("two workers against one, relative to PyTorch", f"{ratio:.3f}, {ours:.2f} and {torch:.2f} times as fast", ">= 0.95")


def beside_others(bench):
    """Frames a second beside others, for a small network and a large one."""
    for model, size, frames in [(COMPACT, (480, 384), 16), (RRDBNET, (432, 352), 6)]:
        clip = bench.clip(f"{model}.mkv", size, frames)
        rows = [("Remaster, reuse off", bench.ours(clip, "off.mkv", "off", model=model))]
        rows.append(("Remaster, reuse auto", bench.ours(clip, "auto.mkv", "auto", model=model)))
        rows.append(("PyTorch loop with pipes", (bench.peer("torch", clip, "torch.mkv", model), 1.0)))
        rows.append(("ncnn", (bench.peer("ncnn", clip, "ncnn.mkv", model), 1.0)))
        rates = {name: frames / seconds for name, (seconds, _) in rows}
        for name, (_, share) in rows:
            what = f"{model}, {frames} frames of {size[0]}x{size[1]}, {name}"
            line(what, f"{rates[name]:.3f} frames/s, {100 * share:.1f} % of the pixels inferred")
        off, auto, torch, ncnn = (rates[name] for name, _ in rows)
        line(f"{model}: reuse off against PyTorch", f"{off / torch:.2f}", "> 1")
        line(f"{model}: reuse against PyTorch, against ncnn", f"{auto / torch:.2f}, {auto / ncnn:.2f}", "> 1 both")


def kills(bench):
    """Twenty kills at random moments against a run that was left alone."""
    import upscale_kills

    line("20 kills at random moments", upscale_kills.compare(bench), "packets and other streams equal")


def memory(bench):
    """Peak resident memory of a worker that makes the clip's frames whole."""
    command = bench.command(bench.clip("memory-clip.mkv", DVD, 4), "memory.mkv", "--reuse", "off")
    started = subprocess.Popen([str(part) for part in command], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(started.pid, 0)
    if status:
        raise SystemExit("the worker failed")
    line("peak memory of a worker, animevideov3 at 720x576", f"{usage.ru_maxrss * 1024 / 1e9:.2f} GB", "<= 1.5")


PARTS = {"reuse": reuse, "alone": alone, "workers": workers, "peers": beside_others, "kills": kills, "memory": memory}


def main():
    """Runs the parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, action="append", help="only this one; may be given several times")
    parser.add_argument("--worker", help="the remaster-worker to run; that of the last build where left out")
    arguments = parser.parse_args()
    weights = prepare()
    with tempfile.TemporaryDirectory() as folder:
        for part in arguments.part or PARTS:
            started = time.monotonic()
            PARTS[part](Bench(arguments, weights, folder))
            print(f"[{part}: {time.monotonic() - started:.0f} s]", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
